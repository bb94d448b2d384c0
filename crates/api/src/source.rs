//! Where the table is read from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const URLS: &str = "self.all(url, url.matches('^(file|s3|gs|az|http|https)://.+'))";
const URLS_SAID: &str = "each URL must begin with one of file://, s3://, gs://, az://, http://, https://: write the scheme of the store that holds the files";

/// Where the table is read from: exactly one of `parquet` and `csv`.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.parquet), has(self.csv)].filter(given, given).size() == 1")
        .message("exactly one of parquet and csv must be given: keep the one that describes the table's files and remove the other")
)]
pub struct SourceSpec {
    /// The table is stored as Parquet files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<ParquetSource>,
    /// The table is stored as CSV files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvSource>,
}

/// The table as Parquet files.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParquetSource {
    /// The files: `s3://`, `gs://`, `az://`, `http(s)://` or, on one machine, `file://` URLs; `*` stands for any part of a file name.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new(URLS).message(URLS_SAID))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub urls: Vec<String>,
    /// The store's endpoint, where it is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://.+"))]
    pub endpoint: Option<String>,
    /// The store's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// How to sign in to the store. Without it: workload identity, or the environment of a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// A secret whose key `ca.crt` holds CA certificates (PEM, one or several) that may vouch for the endpoint's certificate, beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretRef>,
    /// What a file means that lacks a column which an index or `rowId` names: a mistake (Fail), or NULL in each of its rows (Null; in YAML with quotes, `"Null"`). Columns that nothing names may be missing anywhere.
    // Absent from what is written while it is the default, so that digests of specs stay as they were before there was such a field.
    #[serde(default, skip_serializing_if = "MissingColumns::is_fail")]
    #[schemars(extend("default" = "Fail"))]
    pub missing_columns: MissingColumns,
    /// The types of columns that stand in the names of folders, as in `year=2024/month=01/`. A partition column that is not named here is text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub partitions: Vec<CsvColumn>,
}

/// The table as CSV files.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.header || has(self.columns)")
        .message("columns must be given when header is false: name the file's columns in their order, with their types")
        .field_path(".columns")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("self.delimiter != self.quote")
        .message("delimiter and quote must differ: choose another character for one of them")
        .field_path(".delimiter")
)]
pub struct CsvSource {
    /// The files: `s3://`, `gs://`, `az://`, `http(s)://` or, on one machine, `file://` URLs; `*` stands for any part of a file name.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new(URLS).message(URLS_SAID))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub urls: Vec<String>,
    /// The store's endpoint, where it is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://.+"))]
    pub endpoint: Option<String>,
    /// The store's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// How to sign in to the store. Without it: workload identity, or the environment of a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// A secret whose key `ca.crt` holds CA certificates (PEM, one or several) that may vouch for the endpoint's certificate, beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretRef>,
    /// What a file means that lacks a column which an index or `rowId` names: a mistake (Fail), or NULL in each of its rows (Null; in YAML with quotes, `"Null"`). Columns that nothing names may be missing anywhere.
    // Absent from what is written while it is the default, so that digests of specs stay as they were before there was such a field.
    #[serde(default, skip_serializing_if = "MissingColumns::is_fail")]
    #[schemars(extend("default" = "Fail"))]
    pub missing_columns: MissingColumns,
    /// The types of columns that stand in the names of folders, as in `year=2024/month=01/`. A partition column that is not named here is text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub partitions: Vec<CsvColumn>,
    /// Whether the first line of each file names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// The character between two cells: one ASCII character.
    #[serde(default = "comma")]
    #[schemars(length(min = 1, max = 1), regex(pattern = "^[\\t -~]$"))]
    pub delimiter: String,
    /// The character around a cell that holds delimiters or line breaks; doubled inside. Empty: no quoting.
    #[serde(default = "double_quote")]
    #[schemars(length(max = 1), regex(pattern = "^[ -~]?$"))]
    pub quote: String,
    /// The unquoted texts that mean NULL.
    #[serde(default = "empty_is_null")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub nulls: Vec<String>,
    /// The types of columns. With a header: of those columns that are not text. Without one: all columns, in the files' order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<CsvColumn>,
}

impl Default for CsvSource {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            endpoint: None,
            region: None,
            credentials: None,
            ca_secret: None,
            missing_columns: MissingColumns::default(),
            partitions: Vec::new(),
            header: yes(),
            delimiter: comma(),
            quote: double_quote(),
            nulls: empty_is_null(),
            columns: Vec::new(),
        }
    }
}

/// The table's files as a spec names them, with what all kinds of source have.
#[derive(Clone, Copy, Debug)]
pub struct SourceFiles<'a> {
    /// The field of `spec.source` that names them.
    pub field: &'static str,
    /// What they are, with what only files of this kind have.
    pub format: SourceFormat<'a>,
    /// Where they are.
    pub urls: &'a [String],
    /// The store's endpoint, where it is not the provider's own.
    pub endpoint: Option<&'a String>,
    /// The store's region.
    pub region: Option<&'a String>,
    /// How to sign in to the store.
    pub credentials: Option<&'a Credentials>,
    /// CA certificates that may vouch for the endpoint's certificate.
    pub ca_secret: Option<&'a SecretRef>,
    /// What a file means that lacks a column which is used.
    pub missing_columns: MissingColumns,
    /// The types of columns in the names of folders.
    pub partitions: &'a [CsvColumn],
}

/// The kinds of source.
#[derive(Clone, Copy, Debug)]
pub enum SourceFormat<'a> {
    /// Parquet files.
    Parquet,
    /// CSV files.
    Csv(&'a CsvSource),
}

impl SourceSpec {
    /// What the spec names, of each kind: exactly one, in a build that the rules admit. The one place that knows all
    /// kinds: no file of the table is overlooked by who asks here.
    pub fn files(&self) -> impl Iterator<Item = SourceFiles<'_>> {
        let Self { parquet, csv } = self;
        let parquet = parquet.iter().map(|parquet| SourceFiles {
            field: "parquet",
            format: SourceFormat::Parquet,
            urls: &parquet.urls,
            endpoint: parquet.endpoint.as_ref(),
            region: parquet.region.as_ref(),
            credentials: parquet.credentials.as_ref(),
            ca_secret: parquet.ca_secret.as_ref(),
            missing_columns: parquet.missing_columns,
            partitions: &parquet.partitions,
        });
        let csv = csv.iter().map(|csv| SourceFiles {
            field: "csv",
            format: SourceFormat::Csv(csv),
            urls: &csv.urls,
            endpoint: csv.endpoint.as_ref(),
            region: csv.region.as_ref(),
            credentials: csv.credentials.as_ref(),
            ca_secret: csv.ca_secret.as_ref(),
            missing_columns: csv.missing_columns,
            partitions: &csv.partitions,
        });
        parquet.chain(csv)
    }
}

fn yes() -> bool {
    true
}

fn comma() -> String {
    ",".to_owned()
}

fn double_quote() -> String {
    "\"".to_owned()
}

fn empty_is_null() -> Vec<String> {
    vec![String::new()]
}

/// What a file of the table means that lacks a column which is used.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingColumns {
    /// A mistake: the build fails and names file and column.
    #[default]
    Fail,
    /// The column is NULL in each of its rows.
    Null,
}

impl MissingColumns {
    #[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
    fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

/// A column and its type: of a CSV file, or in the names of folders.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CsvColumn {
    /// The column's name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The column's type: bool, int8 to int64, uint8 to uint64, float32, float64, decimal(p,s), date, time, timestamp, timestamptz, string or bytes.
    #[serde(rename = "type")]
    #[schemars(
        length(max = 32),
        regex(
            pattern = "^(bool|u?int(8|16|32|64)|float(32|64)|decimal\\([1-9][0-9]?, ?[0-9]{1,2}\\)|date|time|timestamp|timestamptz|string|bytes)$"
        )
    )]
    pub column_type: String,
}

/// How to sign in to an object store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The secret, in the build's namespace, whose keys become the executor's environment (`AWS_ACCESS_KEY_ID`, ...). A local run reads its own environment.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A secret in the build's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
