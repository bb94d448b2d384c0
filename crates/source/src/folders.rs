//! Columns in the names of folders, as Hive and Spark write them: `year=2024/month=01/part-0.parquet`.

use std::collections::BTreeMap;

use crate::error::SourceError;
use crate::files::path_bytes;

/// How NULL is spelt, and a text without characters, which Hive does not tell from it.
const NULL: &[u8] = b"__HIVE_DEFAULT_PARTITION__";

/// What the names of a file's folders say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Folders {
    url: String,
    /// By column: the values, decoded. Several are a mistake, if the column is used.
    values: BTreeMap<String, Vec<Option<Vec<u8>>>>,
}

impl Folders {
    pub(crate) fn of(url: &str) -> Result<Self, SourceError> {
        let path = path_bytes(url)?;
        let mut values: BTreeMap<String, Vec<_>> = BTreeMap::new();
        // What follows the last slash is the file's own name.
        let mut folders = path.split(|byte| *byte == b'/').collect::<Vec<_>>();
        folders.pop();
        for folder in folders {
            let Some(at) = memchr::memchr(b'=', folder).filter(|at| *at > 0) else { continue };
            let (name, value) = folder.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            // A name that is no text can be named by no index.
            let Ok(name) = String::from_utf8(decoded(name)) else { continue };
            values.entry(name).or_default().push((value != NULL).then(|| decoded(value)));
        }
        Ok(Self { url: url.to_owned(), values })
    }

    /// The names of the columns, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.values.keys()
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.values.contains_key(column)
    }

    /// A column's value; `Some(None)`: NULL.
    pub(crate) fn get(&self, column: &str) -> Result<Option<Option<&[u8]>>, SourceError> {
        match self.values.get(column).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([value]) => Ok(Some(value.as_deref())),
            Some(_) => Err(SourceError::PartitionTwice { url: self.url.clone(), column: column.to_owned() }),
        }
    }
}

/// Undoes Hive's encoding: `%3A` is a colon, and a percent sign without two hexadecimal digits stands for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let hex = match (first, after) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        match hex {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_name_holds_a_column_as_hive_writes_it_in_every_store() {
        let of = |url: &str, column: &str| {
            Folders::of(url)
                .unwrap()
                .get(column)
                .unwrap()
                .map(|value| value.map(|value| String::from_utf8_lossy(value).into_owned()))
        };
        let text = |text: &str| Some(Some(text.to_owned()));
        for (url, column, expected) in [
            ("file:///t/year=2024/month=01/a.parquet", "year", text("2024")),
            ("file:///t/year=2024/month=01/a.parquet", "month", text("01")),
            ("file:///t/year=2024/month=01/a.parquet", "day", None),
            // A local URL is encoded once more.
            ("file:///t/at=10%253A30/a.csv", "at", text("10:30")),
            ("/t/at=10%3A30/a.csv", "at", text("10:30")),
            ("s3://lake/t/at=10%3A30/a.csv", "at", text("10:30")),
            ("https://host/t/at=10%253A30/a.csv", "at", text("10:30")),
            ("s3://lake/t/city=Z%C3%BCrich/a.csv", "city", text("Zürich")),
            ("s3://lake/t/city=Zürich/a.csv", "city", text("Zürich")),
            ("s3://lake/t/the%20name=x/a.csv", "the name", text("x")),
            ("s3://lake/t/f=a=b/a.csv", "f", text("a=b")),
            ("s3://lake/t/share=100%/a.csv", "share", text("100%")),
            ("s3://lake/t/share=%zz%4/a.csv", "share", text("%zz%4")),
            ("s3://lake/t/c=__HIVE_DEFAULT_PARTITION__/a.csv", "c", Some(None)),
            ("s3://lake/t/c=/a.csv", "c", text("")),
            // Neither the file's own name nor the bucket's is a folder.
            ("s3://lake/t/c=5", "c", None),
            ("s3://c=5/t/a.csv", "c", None),
            ("s3://lake/=5/a.csv", "", None),
        ] {
            assert_eq!(of(url, column), expected, "{column} of {url}");
        }
    }

    #[test]
    fn two_values_of_one_column_are_refused_and_only_of_that_one() {
        let folders = Folders::of("s3://lake/c=1/d=2/c=3/a.csv").unwrap();
        let error = folders.get("c").unwrap_err().to_string();
        assert!(error.contains("s3://lake/c=1/d=2/c=3/a.csv") && error.contains("c=..."), "{error}");
        assert_eq!(folders.get("d").unwrap(), Some(Some(b"2".as_slice())));
    }
}
