//! What the columns of a table are, over all its files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::csv_file::{describe, type_by_name, value_of};
use crate::error::SourceError;
use crate::folders::Folders;
use crate::spec::{ColumnRules, MissingColumns};
use crate::widen::widest;

/// Folds the files into one schema, in their order. Only the columns that are used are looked at.
pub(crate) struct Survey<'a> {
    missing: MissingColumns,
    used: Vec<Used<'a>>,
    /// The types of columns in folders' names.
    partitions: BTreeMap<&'a str, DataType>,
    /// Those of them, and of the columns that the format's options name, that no file had so far.
    unseen: Vec<Unseen<'a>>,
}

/// A column that is used, as far as the files were looked at.
struct Used<'a> {
    name: &'a str,
    held: Option<Held>,
    /// A file with a folder of that name, and one with neither.
    folder: Option<String>,
    lacking: Option<String>,
}

struct Held {
    /// The widest type so far.
    data_type: DataType,
    /// The file that brought it about, and the column's type there.
    url: String,
    own: DataType,
}

struct Unseen<'a> {
    name: &'a str,
    partition: bool,
}

/// What one file says about the columns that are used.
pub(crate) struct FileSays {
    url: String,
    used: Vec<Place>,
    seen: Vec<bool>,
}

enum Place {
    File(DataType),
    Folder,
    Nowhere,
}

impl<'a> Survey<'a> {
    /// `typed`: the columns to which the format's options give types.
    pub(crate) fn new(
        columns: &'a [String],
        typed: impl Iterator<Item = &'a String>,
        rules: &'a ColumnRules,
    ) -> Result<Self, SourceError> {
        let ColumnRules { missing, partitions } = rules;
        let typed: Vec<&str> = typed.map(String::as_str).collect();
        let mut types = BTreeMap::new();
        for partition in partitions {
            if typed.contains(&partition.name.as_str()) {
                return Err(SourceError::InvalidOptions {
                    message: format!(
                        "{:?} has a type under columns and one under partitions; leave the one of where it is: in the files, or in the names of folders",
                        partition.name
                    ),
                });
            }
            types.insert(partition.name.as_str(), type_by_name(&partition.name, &partition.column_type)?);
        }
        let unseen = typed.into_iter().map(|name| Unseen { name, partition: false });
        let unseen = unseen.chain(partitions.iter().map(|column| Unseen { name: &column.name, partition: true }));
        let used = columns.iter().map(|name| Used { name, held: None, folder: None, lacking: None });
        Ok(Self { missing: *missing, used: used.collect(), unseen: unseen.collect(), partitions: types })
    }

    /// The type of a column in folders' names.
    fn partition_type(&self, column: &str) -> DataType {
        self.partitions.get(column).cloned().unwrap_or(DataType::Utf8)
    }

    /// Looks at one file.
    pub(crate) fn ask(&self, url: &str, schema: &Schema) -> Result<FileSays, SourceError> {
        let folders = Folders::of(url)?;
        let place = |used: &Used<'_>| {
            let mut named = schema.fields().iter().filter(|field| field.name() == used.name);
            let field = named.next();
            if named.next().is_some() {
                return Err(SourceError::AmbiguousColumn { url: url.to_owned(), column: used.name.to_owned() });
            }
            match (field, folders.get(used.name)?) {
                (Some(_), Some(_)) => Err(SourceError::PartitionIsColumn {
                    column: used.name.to_owned(),
                    url: url.to_owned(),
                    folder: url.to_owned(),
                }),
                (Some(field), None) => Ok(Place::File(field.data_type().clone())),
                (None, Some(value)) => {
                    if let Some(value) = value {
                        folder_value(url, used.name, value, &self.partition_type(used.name))?;
                    }
                    Ok(Place::Folder)
                }
                (None, None) => Ok(Place::Nowhere),
            }
        };
        let seen = |unseen: &Unseen<'_>| match unseen.partition {
            true => folders.has(unseen.name),
            false => schema.fields().iter().any(|field| field.name() == unseen.name),
        };
        Ok(FileSays {
            url: url.to_owned(),
            used: self.used.iter().map(place).collect::<Result<_, _>>()?,
            seen: self.unseen.iter().map(seen).collect(),
        })
    }

    /// Takes in what a file says: the next one in the table's order.
    pub(crate) fn add(&mut self, says: FileSays) -> Result<(), SourceError> {
        let FileSays { url, used, seen } = says;
        for (column, place) in self.used.iter_mut().zip(used) {
            match place {
                Place::File(own) => column.widen(&url, own)?,
                Place::Folder => _ = column.folder.get_or_insert_with(|| url.clone()),
                Place::Nowhere => _ = column.lacking.get_or_insert_with(|| url.clone()),
            }
        }
        let mut seen = seen.into_iter();
        self.unseen.retain(|_| !seen.next().unwrap_or(false));
        Ok(())
    }

    /// The columns that `first`, the first file, has, and those that are used and are elsewhere in the table.
    pub(crate) fn finish(self, first_url: &str, first: &Schema) -> Result<SchemaRef, SourceError> {
        let folders = Folders::of(first_url)?;
        if let Some(Unseen { name, partition }) = self.unseen.first() {
            let column = (*name).to_owned();
            return Err(match partition {
                true => SourceError::MissingPartition { column },
                false => SourceError::MissingColumn { column, available: available(first, &folders) },
            });
        }
        let mut fields: Vec<Field> = Vec::new();
        for Used { name, held, folder, lacking } in &self.used {
            let data_type = match (held, folder) {
                (Some(held), Some(folder)) => {
                    return Err(SourceError::PartitionIsColumn {
                        column: (*name).to_owned(),
                        url: held.url.clone(),
                        folder: folder.clone(),
                    });
                }
                (Some(held), None) => held.data_type.clone(),
                (None, Some(_)) => self.partition_type(name),
                (None, None) => continue,
            };
            match (self.missing, lacking) {
                (MissingColumns::Fail, Some(url)) => {
                    return Err(SourceError::MissingInFile { url: url.clone(), column: (*name).to_owned() });
                }
                (MissingColumns::Fail, None) | (MissingColumns::Null, _) => {}
            }
            fields.push(Field::new(*name, data_type, true));
        }
        // In the order of the first file, as whoever wrote it knows them.
        let others = first.fields().iter().map(|field| field.as_ref().clone());
        let others = others.chain(folders.names().map(|name| Field::new(name, self.partition_type(name), true)));
        let mut ordered: Vec<Field> = Vec::new();
        for other in others {
            match fields.iter().position(|used| used.name() == other.name()) {
                Some(place) => ordered.push(fields.remove(place)),
                None if self.used.iter().any(|used| used.name == other.name()) => {}
                None => ordered.push(other),
            }
        }
        ordered.extend(fields);
        Ok(Arc::new(Schema::new(ordered)))
    }
}

impl Used<'_> {
    fn widen(&mut self, url: &str, own: DataType) -> Result<(), SourceError> {
        let Some(held) = &mut self.held else {
            self.held = Some(Held { data_type: own.clone(), url: url.to_owned(), own });
            return Ok(());
        };
        match widest(&held.data_type, &own) {
            None => Err(SourceError::TypeMismatch {
                column: self.name.to_owned(),
                first: held.url.clone(),
                first_type: held.own.to_string(),
                other: url.to_owned(),
                other_type: own.to_string(),
            }),
            Some(same) if same == held.data_type => Ok(()),
            Some(data_type) => {
                *held = Held { data_type, url: url.to_owned(), own };
                Ok(())
            }
        }
    }
}

/// What may be named instead of a column that is not there.
pub(crate) fn available(schema: &Schema, folders: &Folders) -> Vec<String> {
    let fields = schema.fields().iter().map(|field| field.name().clone());
    fields.chain(folders.names().cloned()).collect()
}

/// The value in a folder's name, as an array of one row.
pub(crate) fn folder_value(
    url: &str,
    column: &str,
    value: &[u8],
    data_type: &DataType,
) -> Result<arrow_array::ArrayRef, SourceError> {
    value_of(value, data_type).ok_or_else(|| SourceError::PartitionValue {
        url: url.to_owned(),
        column: column.to_owned(),
        value: String::from_utf8_lossy(value).into_owned(),
        expected: describe(data_type),
    })
}
