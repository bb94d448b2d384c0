//! The columns that are asked for, out of what one file has: its own, wider ones, those of its folders, and NULL.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::batch::{BatchRows, SourceBatch};
use crate::error::SourceError;
use crate::folders::Folders;
use crate::spec::{MissingColumns, ReadColumns, ReadOptions};
use crate::survey::folder_value;
use crate::widen::{Misfit, alike, widened, widest};

/// Bytes that a row of a constant column takes: a number into a dictionary of one value.
const CONSTANT: u64 = size_of::<i32>() as u64;

/// How the columns that are asked for come about.
pub(crate) struct FileColumns {
    url: String,
    /// The columns to be read from the file, with the types that it has, and their places among its columns.
    pub(crate) names: Vec<String>,
    pub(crate) schema: SchemaRef,
    pub(crate) places: Vec<usize>,
    columns: Vec<Origin>,
    /// The columns as they are given out.
    given: SchemaRef,
    /// Bytes that a row takes besides what the file's reader counts.
    extra: u64,
}

enum Origin {
    /// By its place among those that are read.
    Read(usize),
    Widened(usize, DataType),
    Constant(Constant),
}

/// One value, or NULL, in each row.
struct Constant {
    data_type: DataType,
    /// An array of one row; `None`: NULL.
    value: Option<ArrayRef>,
    /// The longest array so far, of which shorter ones are slices.
    made: Option<ArrayRef>,
}

impl Constant {
    /// The type in which it is given out.
    fn given(&self) -> DataType {
        match &self.value {
            None => self.data_type.clone(),
            Some(value) => DataType::Dictionary(Box::new(DataType::Int32), Box::new(value.data_type().clone())),
        }
    }

    fn rows(&mut self, rows: usize) -> Result<ArrayRef, arrow_schema::ArrowError> {
        if let Some(made) = self.made.as_ref().filter(|made| made.len() >= rows) {
            return Ok(made.slice(0, rows));
        }
        let made: ArrayRef = match &self.value {
            None => new_null_array(&self.data_type, rows),
            Some(value) => {
                let keys = Int32Array::from(vec![0; rows]);
                Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(value))?)
            }
        };
        self.made = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl FileColumns {
    /// `held`: the columns of the file.
    pub(crate) fn new(url: &str, held: &Schema, wanted: &ReadColumns) -> Result<Self, SourceError> {
        let folders = Folders::of(url)?;
        let mut names = Vec::new();
        let mut fields = Vec::new();
        let mut places = Vec::new();
        let mut columns = Vec::new();
        let mut extra = 0_u64;
        for field in wanted.schema.fields() {
            let (name, data_type) = (field.name(), field.data_type());
            let mut named = held.fields().iter().enumerate().filter(|(_, held)| held.name() == name);
            let first = named.next();
            if named.next().is_some() {
                return Err(SourceError::AmbiguousColumn { url: url.to_owned(), column: name.clone() });
            }
            let constant = |value| Origin::Constant(Constant { data_type: data_type.clone(), value, made: None });
            let origin = match first {
                // All of it is NULL, in whichever type.
                Some((_, own)) if *own.data_type() == DataType::Null => constant(None),
                Some((place, own)) => {
                    let own = own.data_type();
                    let origin = if alike(own, data_type) || own.is_nested() {
                        Origin::Read(names.len())
                    } else if widest(own, data_type).as_ref() == Some(data_type) {
                        Origin::Widened(names.len(), data_type.clone())
                    } else {
                        return Err(SourceError::TypeMismatch {
                            column: name.clone(),
                            first: "the index".to_owned(),
                            first_type: data_type.to_string(),
                            other: url.to_owned(),
                            other_type: own.to_string(),
                        });
                    };
                    names.push(name.clone());
                    fields.push(Field::new(name, own.clone(), true));
                    places.push(place);
                    origin
                }
                None => match (folders.get(name)?, wanted.missing) {
                    (Some(None), _) | (None, MissingColumns::Null) => constant(None),
                    (Some(Some(value)), _) => constant(Some(folder_value(url, name, value, data_type)?)),
                    (None, MissingColumns::Fail) => {
                        return Err(SourceError::MissingInFile { url: url.to_owned(), column: name.clone() });
                    }
                },
            };
            extra += match &origin {
                Origin::Read(_) => 0,
                Origin::Widened(_, wide) => wide.primitive_width().unwrap_or(size_of::<i32>()) as u64 + 1,
                Origin::Constant(Constant { value: Some(_), .. }) => CONSTANT,
                Origin::Constant(_) => data_type.primitive_width().unwrap_or(size_of::<i32>()) as u64 + 1,
            };
            columns.push(origin);
        }
        let given = wanted.schema.fields().iter().zip(&columns).map(|(field, origin)| {
            let data_type = match origin {
                Origin::Read(at) => fields.get(*at).map_or(DataType::Null, |field| field.data_type().clone()),
                Origin::Widened(_, wide) => wide.clone(),
                Origin::Constant(constant) => constant.given(),
            };
            Field::new(field.name(), data_type, true)
        });
        let given = Arc::new(Schema::new(given.collect::<Vec<_>>()));
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { url: url.to_owned(), names, schema, places, columns, given, extra })
    }

    /// The options for the file's own reader: of its batches, which may take half of a batch's bytes by what all rows
    /// have, room is left for what comes to them here.
    pub(crate) fn options(&self, options: &ReadOptions) -> ReadOptions {
        let bytes = options.batch_bytes.min(options.row_budget);
        let fitting = bytes.checked_div(self.extra.saturating_mul(4)).unwrap_or(u64::MAX);
        let rows = options.batch_rows.min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1);
        ReadOptions { batch_rows: rows, ..*options }
    }

    /// The columns that were asked for, of a batch of those that were read.
    pub(crate) fn complete(&mut self, read: SourceBatch) -> Result<SourceBatch, SourceError> {
        let SourceBatch { batch, file, rows } = read;
        let internal =
            |error: &dyn std::fmt::Display| SourceError::Internal { url: self.url.clone(), detail: error.to_string() };
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (origin, field) in self.columns.iter_mut().zip(self.given.fields()) {
            let column = |at: usize| {
                batch.columns().get(at).ok_or_else(|| internal(&format!("column {} was not read", field.name())))
            };
            arrays.push(match origin {
                Origin::Read(at) => Arc::clone(column(*at)?),
                Origin::Widened(at, wide) => {
                    let array = column(*at)?;
                    widened(array, wide).map_err(|misfit| match misfit {
                        Misfit::Row(row) => SourceError::DoesNotFit {
                            url: self.url.clone(),
                            place: match &rows {
                                BatchRows::From(first) => first + row as u64,
                                BatchRows::Each(places) => places.get(row).copied().unwrap_or_default(),
                            },
                            column: field.name().clone(),
                            value: array_value_to_string(array, row).unwrap_or_default(),
                            data_type: wide.to_string(),
                        },
                        Misfit::Arrow(error) => internal(&error),
                    })?
                }
                Origin::Constant(constant) => constant.rows(batch.num_rows()).map_err(|error| internal(&error))?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.given), arrays, &options)
            .map_err(|error| internal(&error))?;
        Ok(SourceBatch { batch, file, rows })
    }
}
