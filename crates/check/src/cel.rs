//! Evaluates the definition's CEL rules with the functions that Kubernetes supplies.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program, Value as CelValue};
use serde_json::Value;

/// One entry of `x-kubernetes-validations`.
pub(crate) struct Rule<'a> {
    expression: &'a str,
    message: Option<&'a str>,
    /// Relative to the value that the rule stands at.
    pub field_path: Option<&'a str>,
    /// `FieldValueRequired` and its like; absent means invalid.
    pub reason: Option<&'a str>,
}

impl<'a> Rule<'a> {
    /// The rules that stand at a schema.
    pub(crate) fn of(schema: &'a Value) -> Vec<Self> {
        let text = |rule: &'a Value, field: &str| rule.get(field).and_then(Value::as_str);
        schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|rule| Self {
                expression: text(rule, "rule").unwrap_or_default(),
                message: text(rule, "message"),
                field_path: text(rule, "fieldPath"),
                reason: text(rule, "reason"),
            })
            .collect()
    }

    /// Whether the rule compares a value with the one before it. Such a rule holds of an object that is made anew.
    fn is_transition(&self) -> bool {
        self.expression.contains("oldSelf")
    }

    /// Says what is wrong; nothing, if the rule holds or does not apply. A rule that cannot be evaluated fails, as on the API server.
    pub(crate) fn violation(&self, schema: &Value, value: &Value, old: Option<&Value>) -> Option<String> {
        if self.is_transition() && old.is_none() {
            return None;
        }
        let failed = |why: String| Some(format!("failed rule: {}: {why}", self.expression));
        let program = match Program::compile(self.expression) {
            Ok(program) => program,
            Err(error) => return failed(error.to_string()),
        };
        let mut context = Context::default().with_all();
        context.add_variable_from_value("self", to_cel(Some(schema), value));
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", to_cel(Some(schema), old));
        }
        match program.execute(&context) {
            Ok(CelValue::Bool(true)) => None,
            Ok(CelValue::Bool(false)) => {
                Some(self.message.map_or_else(|| format!("failed rule: {}", self.expression), str::to_owned))
            }
            Ok(other) => failed(format!("{other:?} is not a boolean")),
            Err(error) => failed(error.to_string()),
        }
    }
}

/// Integers are signed in CEL as the API server binds it, and a whole number in a field of type `number` is a double.
fn to_cel(schema: Option<&Value>, value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) if schema.is_none_or(|schema| schema["type"] != "number") => CelValue::Int(integer),
            _ => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let inner = schema.and_then(|schema| schema.get("items"));
            CelValue::List(Arc::new(items.iter().map(|item| to_cel(inner, item)).collect()))
        }
        Value::Object(fields) => {
            let fields: HashMap<Key, CelValue> = fields
                .iter()
                .map(|(name, value)| {
                    let inner = schema.and_then(|schema| {
                        schema
                            .get("properties")
                            .and_then(|properties| properties.get(name))
                            .or_else(|| schema.get("additionalProperties"))
                    });
                    (Key::from(name.as_str()), to_cel(inner, value))
                })
                .collect();
            CelValue::Map(Map { map: Arc::new(fields) })
        }
    }
}
