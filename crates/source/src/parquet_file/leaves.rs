//! A Parquet schema as flat columns: the leaves of structs become columns named `a.b`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use parquet::basic::Type as PhysicalType;
use parquet::schema::types::SchemaDescriptor;

use crate::error::SourceError;

/// A column as it is offered to the user.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// The Parquet leaf, if there is exactly one and it is not inside a list or map.
    pub(crate) column: Option<usize>,
    /// The names of the structs around it, outermost first, then its own.
    pub(crate) path: Vec<String>,
    pub(crate) encrypted: bool,
}

/// The Arrow types in which the columns are read.
///
/// They come from the Parquet types alone. The Arrow schema that some writers embed is not looked at: the same column
/// would be a dictionary in one file and text in the next, and one table needs one schema. INT96 timestamps are read as
/// microseconds: nanoseconds overflow outside the years 1677 to 2262.
pub(crate) fn read_schema(parquet: &SchemaDescriptor) -> Result<SchemaRef, parquet::errors::ParquetError> {
    let schema = parquet::arrow::parquet_to_arrow_schema(parquet, None)?;
    let mut next = 0;
    let fields: Fields = schema.fields().iter().map(|field| adapted(field, parquet, &mut next)).collect();
    Ok(Arc::new(Schema::new(fields)))
}

fn adapted(field: &FieldRef, parquet: &SchemaDescriptor, next: &mut usize) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| adapted(field, parquet, next)).collect())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, None)
            if parquet.columns().get(*next).is_some_and(|column| column.physical_type() == PhysicalType::INT96) =>
        {
            *next += 1;
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        other => {
            *next += leaf_count(other);
            other.clone()
        }
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// The Parquet leaves below an Arrow type.
fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => leaf_count(field.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        _ => 1,
    }
}

/// The flat columns of a schema made by [`read_schema`].
///
/// `encrypted`: the numbers of the Parquet leaves that are.
pub(crate) fn leaves(schema: &Schema, encrypted: &BTreeSet<usize>) -> Vec<Leaf> {
    let mut found = Vec::new();
    let mut next = 0;
    for field in schema.fields() {
        walk(field, &mut Vec::new(), &mut next, &mut found);
    }
    for leaf in &mut found {
        leaf.encrypted = leaf.column.is_some_and(|column| encrypted.contains(&column));
    }
    found
}

fn walk(field: &Field, around: &mut Vec<String>, next: &mut usize, found: &mut Vec<Leaf>) {
    around.push(field.name().clone());
    if let DataType::Struct(fields) = field.data_type() {
        for field in fields {
            walk(field, around, next, found);
        }
    } else {
        let count = leaf_count(field.data_type());
        found.push(Leaf {
            name: around.join("."),
            data_type: field.data_type().clone(),
            column: (!is_repeated(field.data_type())).then_some(*next),
            path: around.clone(),
            encrypted: false,
        });
        *next += count;
    }
    around.pop();
}

fn is_repeated(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::FixedSizeList(_, _)
            | DataType::Map(_, _)
    )
}

pub(super) fn find<'a>(url: &str, leaves: &'a [Leaf], column: &str) -> Result<&'a Leaf, SourceError> {
    let mut named = leaves.iter().filter(|leaf| leaf.name == column);
    let leaf = named.next().ok_or_else(|| SourceError::MissingColumn {
        column: column.to_owned(),
        available: leaves.iter().map(|leaf| leaf.name.clone()).collect(),
    })?;
    if named.next().is_some() {
        return Err(SourceError::AmbiguousColumn { url: url.to_owned(), column: column.to_owned() });
    }
    if leaf.column.is_none() {
        return Err(SourceError::UnsupportedType {
            column: column.to_owned(),
            data_type: leaf.data_type.to_string(),
            hint: "lists and maps have no single value per row; leave the column out".to_owned(),
        });
    }
    if leaf.encrypted {
        return Err(SourceError::Encrypted { url: url.to_owned(), what: format!("column {column:?} is") });
    }
    Ok(leaf)
}

/// The schema shown to the user. All columns can be NULL: files of one table need not agree on that.
pub(crate) fn flat_schema(leaves: &[Leaf]) -> SchemaRef {
    let fields: Fields = leaves.iter().map(|leaf| Field::new(&leaf.name, leaf.data_type.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// How two tables' columns differ, if they do. Their order does not matter.
pub(crate) fn compare(first: &Schema, other: &Schema) -> Option<String> {
    for field in first.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return Some(format!("it has no column {:?}", field.name())),
            Ok(found) if !found.data_type().equals_datatype(field.data_type()) => {
                return Some(format!(
                    "column {:?} is {} there and {} here",
                    field.name(),
                    field.data_type(),
                    found.data_type()
                ));
            }
            Ok(_) => {}
        }
    }
    let more = other.fields().iter().find(|field| first.field_with_name(field.name()).is_err())?;
    Some(format!("it has a further column {:?}", more.name()))
}
