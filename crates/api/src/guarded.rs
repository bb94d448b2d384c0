//! Reading what others wrote: an object that cannot be read hinders no other one, and is never taken for absent.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::Value;

use crate::build::IndexBuild;
use crate::build_status::IndexBuildStatus;
use crate::unknown::unknown_in_spec;

/// An object of a list, a watch or a read: all of it, or, where it cannot be read, its metadata and why.
///
/// kube's [`DeserializeGuard`] with three differences. `managedFields` are dropped before anything is read: whoever may
/// write an object may write a time there that is beyond what this process can hold, and metadata that cannot be read
/// would take the whole list along. What the API server takes for an integer is read as one. And what was read is
/// shared, not copied. Of a build, all is read or nothing: a spec of which this version does not know a field or a word is
/// one that cannot be read, and its status is read apart.
#[derive(Clone, Debug)]
pub struct Guarded<K>(Result<Arc<K>, Box<Unread>>);

/// What is known of an object that cannot be read.
#[derive(Clone, Debug)]
struct Unread {
    object: InvalidObject,
    /// Of a build: its status, which somebody is to be told in.
    status: Option<IndexBuildStatus>,
}

/// An object that is there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{kind} {} cannot be read: {why}", self.place())]
pub struct Unreadable {
    /// Its kind.
    pub kind: String,
    /// The API that the kind belongs to, as `apiVersion` writes it.
    pub api_version: String,
    /// Its namespace; empty where it stands in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What cannot be read of it.
    pub why: String,
}

impl Unreadable {
    /// An object that was read, but whose content means nothing.
    #[must_use]
    pub fn of<K: Resource<DynamicType = ()>>(object: &K, why: String) -> Self {
        let ObjectMeta { namespace, name, uid, .. } = object.meta().clone();
        Self {
            kind: K::kind(&()).into_owned(),
            api_version: K::api_version(&()).into_owned(),
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            why,
        }
    }

    /// Its namespace and name, as people write them.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { namespace, name, .. } = self;
        if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") }
    }
}

impl<K> Guarded<K> {
    /// An object that was read.
    #[must_use]
    pub fn readable(object: K) -> Self {
        Self(Ok(Arc::new(object)))
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Guarded<K> {
    /// The object.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self) -> Result<Arc<K>, Unreadable> {
        match &self.0 {
            Ok(object) => Ok(Arc::clone(object)),
            Err(unread) => Err(Unreadable::of(self, unread.object.error.clone())),
        }
    }

    /// Changes the object, if it could be read.
    pub fn modify(&mut self, change: impl FnOnce(&mut K)) {
        if let Ok(object) = &mut self.0 {
            change(Arc::make_mut(object));
        }
    }
}

impl Guarded<IndexBuild> {
    /// The build's status, whether or not the whole of the build can be read.
    ///
    /// # Errors
    /// It can neither be read with the build nor apart: what of it is there is not known.
    pub fn status(&self) -> Result<Option<IndexBuildStatus>, Unreadable> {
        match &self.0 {
            Ok(build) => Ok(build.status.clone()),
            Err(unread) => match &unread.status {
                Some(status) => Ok(Some(status.clone())),
                None => Err(Unreadable::of(self, unread.object.error.clone())),
            },
        }
    }
}

/// What could be read, and what could not.
#[must_use]
pub fn apart<K>(objects: impl IntoIterator<Item = Guarded<K>>) -> (Vec<Arc<K>>, Vec<Unreadable>)
where
    K: Resource<DynamicType = ()> + Clone,
{
    let (mut read, mut unreadable) = (Vec::new(), Vec::new());
    for object in objects {
        match object.read() {
            Ok(object) => read.push(object),
            Err(why) => unreadable.push(why),
        }
    }
    (read, unreadable)
}

impl<'de, K> Deserialize<'de> for Guarded<K>
where
    K: for<'any> Deserialize<'any> + Resource<DynamicType = ()>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        to_integers(&mut object);
        let is_build = K::kind(&()) == IndexBuild::kind(&()) && K::group(&()) == IndexBuild::group(&());
        let unknown = if is_build { object.get("spec").and_then(unknown_in_spec) } else { None };
        let status = if is_build { object.get("status").cloned() } else { None };
        let DeserializeGuard(read) = DeserializeGuard::<K>::deserialize(object).map_err(D::Error::custom)?;
        let read = match (read, unknown) {
            (Ok(object), None) => Ok(object),
            (Ok(object), Some(error)) => Err(InvalidObject { error, metadata: object.meta().clone() }),
            (Err(InvalidObject { error, metadata }), unknown) => {
                Err(InvalidObject { error: unknown.unwrap_or(error), metadata })
            }
        };
        Ok(Self(read.map(Arc::new).map_err(|object| {
            let status = status.and_then(|status| serde_json::from_value(status).ok());
            Box::new(Unread { object, status })
        })))
    }
}

/// The API server takes a number for an integer that is above one by less than 10^-9 of both together: it stores
/// `parallelism: 1.0000000001`, and means 1.
fn to_integers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            let whole = float.trunc();
            let exact = (0.0..9_007_199_254_740_992.0).contains(&float);
            if exact && float - whole <= 1e-9 * (float + whole) {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let whole = whole as u64;
                *value = Value::from(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(to_integers),
        Value::Object(fields) => fields.values_mut().for_each(to_integers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl<K: Serialize> Serialize for Guarded<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(object) => object.serialize(serializer),
            Err(unread) => {
                Err(S::Error::custom(format!("it was not read, so it cannot be written: {}", unread.object.error)))
            }
        }
    }
}

impl<K: Resource + Clone> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unread| &unread.object.metadata, |object| object.meta())
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => Arc::make_mut(object).meta_mut(),
            Err(unread) => &mut unread.object.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    fn build(name: &str, size: &str) -> Value {
        json!({
            "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"a": "b"}},
            "spec": {
                "source": {"parquet": {"urls": ["s3://lake/a"]}},
                "indexes": [{"name": "a", "columns": [{"name": "b"}]}],
                "output": {"url": "s3://indexes/s"},
                "volume": {"size": size},
            },
        })
    }

    fn list(items: &[Value]) -> Value {
        json!({"apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuildList", "metadata": {}, "items": items})
    }

    #[test]
    fn an_object_that_cannot_be_read_keeps_its_metadata_and_hinders_no_other_of_its_list() {
        let items = list(&[build("bad", "100Ei"), build("good", "10Gi")]);
        serde_json::from_value::<ObjectList<IndexBuild>>(items.clone()).expect_err("the control: without the guard");
        let read: ObjectList<Guarded<IndexBuild>> = serde_json::from_value(items).unwrap();
        let names: Vec<_> = read.items.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["bad", "good"]);
        assert_eq!(read.items[0].labels()["a"], "b");
        let (readable, unreadable) = apart(read.items);
        assert_eq!(readable.iter().map(|build| build.name_any()).collect::<Vec<_>>(), ["good"]);
        let said = unreadable[0].to_string();
        assert!(said.starts_with("IndexBuild shop/bad cannot be read: ") && said.contains("100Ei"), "{said}");
    }

    /// Whoever built what it knows of it would build another index. Its status can be read, so that it can be told.
    #[test]
    fn a_build_of_which_a_field_or_a_word_is_not_known_is_not_read_and_its_status_is() {
        let status = json!({"phase": "Encoding", "failedAttempts": 3});
        for (at, name, value) in [("/spec/volume", "tier", "fast"), ("/spec/output", "compression", "Brotli")] {
            let mut object = build("a", "10Gi");
            object["status"] = status.clone();
            let read: Guarded<IndexBuild> = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(read.status().unwrap(), read.read().unwrap().status, "the control");
            object.pointer_mut(at).unwrap()[name] = json!(value);
            let read: Guarded<IndexBuild> = serde_json::from_value(object.clone()).unwrap();
            let said = read.read().expect_err(name).to_string();
            assert!(said.contains(&format!("{}.{name}", at[1..].replace('/', "."))), "{said}");
            assert_eq!(read.status().unwrap().unwrap().failed_attempts, Some(3));
            assert_eq!(read.name_any(), "a");
            object["status"]["failedAttempts"] = json!([]);
            let read: Guarded<IndexBuild> = serde_json::from_value(object).unwrap();
            read.status().expect_err("nothing is known of a status that cannot be read either");
        }
    }

    #[test]
    fn a_number_that_the_api_server_takes_for_an_integer_is_one() {
        let mut object = build("a", "10Gi");
        object["spec"]["parallelism"] = json!(3.000_000_000_1);
        object["spec"]["rowsPerSecond"] = json!(1_000_000_000.1);
        serde_json::from_value::<IndexBuild>(object.clone()).expect_err("the control: not by the guard");
        let read: Guarded<IndexBuild> = serde_json::from_value(object).unwrap();
        let spec = read.read().unwrap().spec.clone();
        assert_eq!((spec.parallelism, spec.rows_per_second), (3, Some(1_000_000_000)));
        for other in [json!(1.1), json!(0.999_999_999_999), json!(1e300), json!(-1.5)] {
            let mut kept = other.clone();
            to_integers(&mut kept);
            assert_eq!(kept, other);
        }
    }

    /// A time after 9999-12-30 is one to Kubernetes, and none to `jiff`.
    #[test]
    fn what_somebody_wrote_into_managed_fields_hinders_nothing() {
        let mut object = build("a", "10Gi");
        object["metadata"]["managedFields"] = json!([{"manager": "m", "operation": "Update", "fieldsType": "FieldsV1",
            "apiVersion": "v1", "time": "9999-12-31T23:59:59Z", "fieldsV1": {}}]);
        serde_json::from_value::<DeserializeGuard<IndexBuild>>(object.clone()).expect_err("the control: kube's own");
        let read: Guarded<IndexBuild> = serde_json::from_value(object).unwrap();
        assert_eq!(read.read().unwrap().name_any(), "a");
    }
}
