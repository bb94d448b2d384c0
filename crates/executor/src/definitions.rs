//! From a build's spec and a table's schema to what `source` and `index` understand.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use indexbuild_api::{
    CsvColumn as ApiColumn, IndexBuildSpec, IndexSpec, MissingColumns as ApiMissing, Nulls as ApiNulls,
    Order as ApiOrder, SourceFormat,
};
use indexbuild_index::definition::{
    ColumnType, IncludedColumn, IndexDefinition, KeyColumn, Nulls, Order, RowId, UnsupportedType,
};
use indexbuild_source::{ColumnRules, CsvColumn, CsvOptions, MissingColumns, ReadColumns, TableSpec};
use indexbuild_store::{Patience, StoreOptions};

use crate::access::{BadCa, StoreAccess};

/// The spec asks for something that the table does not have, or that cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error(
        "{role} {column:?} of index {index:?} is not in the table: name one of its columns: {}",
        available.join(", ")
    )]
    MissingColumn { index: String, role: Role, column: String, available: Vec<String> },
    /// A type without an order, or unknown.
    #[error("{role} {column:?} of index {index:?} has the type {data_type}, which cannot be indexed: {why}")]
    UnsupportedType {
        index: String,
        role: Role,
        column: String,
        data_type: String,
        /// Why not, and what can be done.
        why: &'static str,
    },
    #[error("spec.source must name the files of exactly one format")]
    NoSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Key,
    RowId,
    /// It is stored beside the key.
    Included,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key column",
            Self::RowId => "rowId column",
            Self::Included => "included column",
        })
    }
}

/// The indexes' definitions, with types from the table's schema and all that the spec leaves out
/// resolved.
///
/// # Errors
/// [`DefinitionError`], which names index, column and what is available.
pub fn definitions(spec: &IndexBuildSpec, schema: &Schema) -> Result<Vec<IndexDefinition>, DefinitionError> {
    spec.indexes.iter().map(|index| definition(spec, index, schema)).collect()
}

fn definition(spec: &IndexBuildSpec, index: &IndexSpec, schema: &Schema) -> Result<IndexDefinition, DefinitionError> {
    let column_type = |column: &str, role| column_type(schema, &index.name, column, role);
    let columns = index
        .columns
        .iter()
        .map(|column| {
            Ok(KeyColumn {
                name: column.name.clone(),
                column_type: column_type(&column.name, Role::Key)?,
                order: match column.resolved_order() {
                    ApiOrder::Asc => Order::Asc,
                    ApiOrder::Desc => Order::Desc,
                },
                nulls: match column.resolved_nulls() {
                    ApiNulls::First => Nulls::First,
                    ApiNulls::Last => Nulls::Last,
                },
            })
        })
        .collect::<Result<_, _>>()?;
    let row_id = match &spec.row_id {
        None => RowId::Position,
        Some(row_id) => RowId::Columns(
            row_id
                .columns
                .iter()
                .map(|name| {
                    Ok(KeyColumn {
                        name: name.clone(),
                        column_type: column_type(name, Role::RowId)?,
                        order: Order::Asc,
                        nulls: Nulls::Last,
                    })
                })
                .collect::<Result<_, _>>()?,
        ),
    };
    let include = index
        .include
        .iter()
        .map(|name| Ok(IncludedColumn { name: name.clone(), column_type: column_type(name, Role::Included)? }))
        .collect::<Result<_, _>>()?;
    Ok(IndexDefinition { name: index.name.clone(), unique: index.is_unique(), columns, row_id, include })
}

fn column_type(schema: &Schema, index: &str, column: &str, role: Role) -> Result<ColumnType, DefinitionError> {
    let field =
        schema.fields().iter().find(|field| field.name() == column).ok_or_else(|| DefinitionError::MissingColumn {
            index: index.to_owned(),
            role,
            column: column.to_owned(),
            available: schema.fields().iter().map(|field| field.name().clone()).collect(),
        })?;
    ColumnType::from_arrow(field.data_type()).map_err(|UnsupportedType { arrow, why }| {
        DefinitionError::UnsupportedType {
            index: index.to_owned(),
            role,
            column: column.to_owned(),
            data_type: arrow,
            why,
        }
    })
}

/// The columns that a scan for all these indexes reads: each once, in the order of first need.
pub fn projection<'a>(definitions: impl IntoIterator<Item = &'a IndexDefinition>) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for definition in definitions {
        for column in definition.needed_columns() {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    columns
}

/// The columns that a spec names, each once.
pub fn named_columns(spec: &IndexBuildSpec) -> Vec<String> {
    let keys = spec.indexes.iter().flat_map(|index| index.columns.iter().map(|column| &column.name));
    let row_id = spec.row_id.iter().flat_map(|row_id| &row_id.columns);
    let included = spec.indexes.iter().flat_map(|index| &index.include);
    let mut columns: Vec<String> = Vec::new();
    for column in keys.chain(row_id).chain(included) {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    columns
}

/// In what the table's files may differ.
pub fn column_rules(spec: &IndexBuildSpec) -> ColumnRules {
    let partitions = spec.source.files().flat_map(|files| files.partitions).map(csv_column).collect();
    ColumnRules { missing: missing_columns(spec), partitions }
}

fn missing_columns(spec: &IndexBuildSpec) -> MissingColumns {
    match spec.source.files().next().map(|files| files.missing_columns) {
        None | Some(ApiMissing::Fail) => MissingColumns::Fail,
        Some(ApiMissing::Null) => MissingColumns::Null,
    }
}

fn csv_column(column: &ApiColumn) -> CsvColumn {
    CsvColumn { name: column.name.clone(), column_type: column.column_type.clone() }
}

/// The columns of [`projection`], with the types that the definitions give them: those of all files together, which were
/// found out when the build was planned. What reads one file later needs to know of no other.
pub fn read_columns<'a>(
    spec: &IndexBuildSpec,
    definitions: impl IntoIterator<Item = &'a IndexDefinition>,
) -> ReadColumns {
    let mut fields: Vec<Field> = Vec::new();
    for definition in definitions {
        let keys = definition.columns.iter().chain(definition.row_id_columns());
        let keys = keys.map(|column| (&column.name, column.column_type));
        let included = definition.include.iter().map(|column| (&column.name, column.column_type));
        for (name, column_type) in keys.chain(included) {
            if !fields.iter().any(|field| field.name() == name) {
                fields.push(Field::new(name, column_type.to_arrow(), true));
            }
        }
    }
    ReadColumns { schema: Arc::new(Schema::new(fields)), missing: missing_columns(spec) }
}

/// The table.
///
/// # Errors
/// [`DefinitionError::NoSource`], which the spec's own rules exclude.
pub fn source(spec: &IndexBuildSpec) -> Result<TableSpec, DefinitionError> {
    let mut named = spec.source.files();
    let (Some(files), None) = (named.next(), named.next()) else {
        return Err(DefinitionError::NoSource);
    };
    let urls = files.urls.to_vec();
    Ok(match files.format {
        SourceFormat::Parquet => TableSpec::Parquet { urls },
        SourceFormat::Csv(csv) => {
            let byte = |text: &str| text.bytes().next();
            let options = CsvOptions {
                header: csv.header,
                delimiter: byte(&csv.delimiter).unwrap_or(b','),
                quote: byte(&csv.quote),
                nulls: csv.nulls.clone(),
                columns: csv.columns.iter().map(csv_column).collect(),
            };
            TableSpec::Csv { urls, options }
        }
    })
}

/// How to reach the table's store.
pub fn source_settings(spec: &IndexBuildSpec, access: &StoreAccess) -> Result<StoreOptions, BadCa> {
    let (endpoint, region) = spec.source.files().next().map(|files| (files.endpoint, files.region)).unwrap_or_default();
    Ok(StoreOptions {
        endpoint: endpoint.cloned(),
        region: region.cloned(),
        allow_http: plain_http(endpoint),
        extra: access.source(),
        ca: access.source_ca(spec)?,
        patience: Patience::default(),
    })
}

/// What the secret of the source's credentials should have and does not, if one is named and it does not suffice.
pub fn source_lacks(spec: &IndexBuildSpec, access: &StoreAccess, settings: &StoreOptions) -> Option<String> {
    let files = spec.source.files().next()?;
    let secret = &files.credentials.filter(|_| access.has_secrets())?.secret_name;
    let by = format!("secret {secret}");
    files.urls.iter().find_map(|url| indexbuild_store::lacking(url, &settings.extra, &by))
}

/// What the secret of the output's credentials should have and does not, if one is named and it does not suffice.
pub fn output_lacks(spec: &IndexBuildSpec, access: &StoreAccess, options: &StoreOptions) -> Option<String> {
    let secret = &spec.output.credentials.as_ref().filter(|_| access.has_secrets())?.secret_name;
    indexbuild_store::lacking(&spec.output.url, &options.extra, &format!("secret {secret}"))
}

pub fn output_options(spec: &IndexBuildSpec, access: &StoreAccess) -> Result<StoreOptions, BadCa> {
    Ok(StoreOptions {
        endpoint: spec.output.endpoint.clone(),
        region: spec.output.region.clone(),
        allow_http: plain_http(spec.output.endpoint.as_ref()),
        extra: access.output(),
        ca: access.output_ca(spec)?,
        patience: Patience::default(),
    })
}

/// An endpoint that is written with `http://` is meant to be reached without TLS.
fn plain_http(endpoint: Option<&String>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

/// Digest of what of the spec decides the content of the indexes and where they are written.
///
/// # Errors
/// None in practice.
pub fn spec_digest(spec: &IndexBuildSpec) -> Result<String, serde_json::Error> {
    let mut deciding = serde_json::json!({
        "source": spec.source,
        "rowId": spec.row_id,
        "indexes": spec.indexes,
        "output": {
            "url": spec.output.url,
            "compression": spec.output.compression,
            "targetFileBytes": spec.output.target_file_bytes(),
        },
    });
    // Said only where it is set: without it, the digest is that of the versions that did not know it.
    if spec.output.bloom_bits_per_key() > 0 {
        deciding["output"]["bloomBitsPerKey"] = spec.output.bloom_bits_per_key().into();
    }
    Ok(indexbuild_index::digest::digest_bytes(deciding.to_string().as_bytes()))
}

/// The definitions, shared by the threads that encode.
pub fn shared(definitions: &[IndexDefinition]) -> Vec<Arc<IndexDefinition>> {
    definitions.iter().cloned().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // Its callers write a JSON literal.
    fn spec(json: serde_json::Value) -> IndexBuildSpec {
        let mut whole = serde_json::json!({
            "source": {"parquet": {"urls": ["file:///t/*.parquet"]}},
            "indexes": [],
            "output": {"url": "file:///out"},
        });
        for (name, value) in json.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("address.city", DataType::Utf8, true),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        ])
    }

    #[test]
    fn what_a_spec_leaves_out_is_resolved() {
        let spec = spec(serde_json::json!({
            "rowId": {"columns": ["id"]},
            "indexes": [{"name": "by_city", "columns": [{"name": "address.city", "order": "Desc"}], "include": ["id"]}],
        }));
        let made = definitions(&spec, &schema()).unwrap();
        assert_eq!(made[0].columns[0].nulls, Nulls::First);
        assert_eq!(made[0].columns[0].column_type, ColumnType::String);
        assert!(matches!(&made[0].row_id, RowId::Columns(columns) if columns[0].name == "id"));
        assert_eq!(projection(&made), ["address.city", "id"]);
        let read = read_columns(&spec, &made);
        assert_eq!(read.names(), projection(&made));
        assert_eq!(read.schema.field(0).data_type(), &DataType::Utf8);
        assert_eq!(named_columns(&spec), projection(&made));
    }

    #[test]
    fn a_missing_column_is_named_with_the_index_and_what_there_is() {
        let spec = spec(serde_json::json!({"indexes": [{"name": "by_x", "columns": [{"name": "nope"}]}]}));
        let error = definitions(&spec, &schema()).unwrap_err().to_string();
        for part in ["by_x", "nope", "key column", "id", "address.city"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_list_is_refused_by_name() {
        let spec = spec(serde_json::json!({"indexes": [{"name": "by_tag", "columns": [{"name": "tags"}]}]}));
        let error = definitions(&spec, &schema()).unwrap_err();
        assert!(matches!(error, DefinitionError::UnsupportedType { .. }), "{error}");
        assert!(error.to_string().contains("tags") && error.to_string().contains("List"), "{error}");
    }

    #[test]
    fn the_spec_digest_ignores_what_may_change() {
        let base = spec(serde_json::json!({}));
        let more = spec(serde_json::json!({"parallelism": 7, "rowsPerSecond": 3}));
        let other = spec(serde_json::json!({"rowId": {"columns": ["id"]}}));
        assert_eq!(spec_digest(&base).unwrap(), spec_digest(&more).unwrap());
        assert_ne!(spec_digest(&base).unwrap(), spec_digest(&other).unwrap());
        // As of the versions before there were these fields: a build that was begun with one of them goes on.
        let former = r#"{"indexes":[],"output":{"compression":"Lz4","targetFileBytes":134217728,"url":"file:///out"},"rowId":null,"source":{"parquet":{"urls":["file:///t/*.parquet"]}}}"#;
        assert_eq!(spec_digest(&base).unwrap(), indexbuild_index::digest::digest_bytes(former.as_bytes()));
        let bloom = |bits: u32| {
            let output = serde_json::json!({"output": {"url": "file:///out", "bloomBitsPerKey": bits}});
            spec_digest(&spec(output)).unwrap()
        };
        assert_eq!(bloom(0), spec_digest(&base).unwrap());
        assert!(bloom(10) != bloom(0) && bloom(10) != bloom(11));
        let source = |more: &str| {
            let source = format!(r#"{{"source": {{"parquet": {{"urls": ["file:///t/*.parquet"]{more}}}}}}}"#);
            spec_digest(&spec(serde_json::from_str(&source).unwrap())).unwrap()
        };
        assert_eq!(source(r#", "missingColumns": "Fail", "partitions": []"#), spec_digest(&base).unwrap());
        assert_ne!(source(r#", "missingColumns": "Null""#), spec_digest(&base).unwrap());
        assert_ne!(source(r#", "partitions": [{"name": "year", "type": "int32"}]"#), spec_digest(&base).unwrap());
    }
}
