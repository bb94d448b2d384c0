//! What the library does not tell of a footer: which columns are encrypted, and what a footer has that it does not know.

use std::collections::BTreeSet;

use parquet::errors::Result as ParquetResult;

use super::thrift::{Compact, broken, kind};

#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The leaves of which a chunk is encrypted.
    pub(super) encrypted: BTreeSet<usize>,
    /// What this version of the program does not know, if anything.
    pub(super) unknown: Option<String>,
}

/// Reads a footer, without the length and the letters behind it.
pub(super) fn scan(footer: &[u8]) -> ParquetResult<Findings> {
    let mut thrift = Compact(footer);
    let mut findings = Findings::default();
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        match (number, field) {
            (2, kind::LIST) => each(&mut thrift, |thrift, _| schema_element(thrift, &mut findings))?,
            (4, kind::LIST) => each(&mut thrift, |thrift, _| row_group(thrift, &mut findings))?,
            (_, other) => thrift.pass(other)?,
        }
    }
    Ok(findings)
}

fn each<'a>(
    thrift: &mut Compact<&'a [u8]>,
    mut read: impl FnMut(&mut Compact<&'a [u8]>, usize) -> ParquetResult<()>,
) -> ParquetResult<()> {
    let (count, element) = thrift.list()?;
    if element != kind::STRUCT && count > 0 {
        return Err(broken("a list of structs has something else"));
    }
    let count = usize::try_from(count).map_err(|_| broken("a list is too long"))?;
    (0..count).try_for_each(|number| read(thrift, number))
}

fn row_group(thrift: &mut Compact<&[u8]>, findings: &mut Findings) -> ParquetResult<()> {
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        match (number, field) {
            (1, kind::LIST) => each(thrift, |thrift, leaf| column_chunk(thrift, leaf, findings))?,
            (_, other) => thrift.pass(other)?,
        }
    }
    Ok(())
}

fn column_chunk(thrift: &mut Compact<&[u8]>, leaf: usize, findings: &mut Findings) -> ParquetResult<()> {
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        // Metadata of the keys, and metadata that are encrypted themselves.
        if matches!(number, 8 | 9) {
            findings.encrypted.insert(leaf);
        }
        match (number, field) {
            (3, kind::STRUCT) => column_metadata(thrift, leaf, findings)?,
            (_, other) => thrift.pass(other)?,
        }
    }
    Ok(())
}

fn column_metadata(thrift: &mut Compact<&[u8]>, leaf: usize, findings: &mut Findings) -> ParquetResult<()> {
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        match (number, field) {
            (2, kind::LIST) => {
                let (count, element) = thrift.list()?;
                for _ in 0..count {
                    if element == kind::I32 {
                        let encoding = thrift.integer()?;
                        // The last is BYTE_STREAM_SPLIT; the format has had number 1, too.
                        note(findings, encoding, 9, || format!("column number {leaf} has encoding number {encoding}"));
                    } else {
                        thrift.pass(element)?;
                    }
                }
            }
            (4, kind::I32) => {
                let codec = thrift.integer()?;
                note(findings, codec, 7, || format!("column number {leaf} is packed by codec number {codec}"));
            }
            (_, other) => thrift.pass(other)?,
        }
    }
    Ok(())
}

fn schema_element(thrift: &mut Compact<&[u8]>, findings: &mut Findings) -> ParquetResult<()> {
    let (mut name, mut unknown) = (String::new(), Vec::new());
    let (mut is_leaf, mut has_type) = (true, false);
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        match (number, field) {
            (5, kind::I32) => is_leaf = thrift.integer()? == 0,
            (1 | 3 | 6, kind::I32) => {
                let code = thrift.integer()?;
                has_type |= number == 1;
                let (most, what) = match number {
                    1 => (7, "physical type"),
                    3 => (2, "repetition"),
                    _ => (21, "converted type"),
                };
                if !(0..=most).contains(&code) {
                    unknown.push(format!("{what} number {code}"));
                }
            }
            (4, kind::BINARY) => name = String::from_utf8_lossy(thrift.binary()?).into_owned(),
            (_, other) => thrift.pass(other)?,
        }
    }
    if let Some(what) = unknown.into_iter().next() {
        findings.unknown.get_or_insert_with(|| format!("column {name:?} has {what}, which this version does not know"));
    }
    if is_leaf && !has_type {
        findings.unknown.get_or_insert_with(|| format!("column {name:?} is a group without columns"));
    }
    Ok(())
}

fn note(findings: &mut Findings, code: i64, most: i64, what: impl FnOnce() -> String) {
    if !(0..=most).contains(&code) {
        findings.unknown.get_or_insert_with(what);
    }
}
