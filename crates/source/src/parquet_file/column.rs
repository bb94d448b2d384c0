//! One column of a split, decoded as many rows at a time as memory allows.

use std::sync::Arc;

use arrow_array::builder::GenericByteBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{BinaryType, BinaryViewType, ByteArrayType, ByteViewType, StringViewType, Utf8Type};
use arrow_array::{Array, ArrayRef, GenericByteArray, GenericByteViewArray, RecordBatch, StructArray, make_array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::column::page::PageIterator;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::SchemaDescriptor;

use super::caught::caught;
use super::leaves::Leaf;
use super::pages::{OneChunk, Pages};

/// The Arrow types in which the decoder reads: text as views of the pages that it lies in. A row group of long texts may
/// be a dictionary of one and a number for each row; copied row by row, it would be of any size.
pub(super) fn as_views(fields: &Fields) -> Fields {
    fields.iter().map(as_view).collect()
}

fn as_view(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(as_views(fields)),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// Why a column could not be decoded.
pub(super) enum ColumnError {
    Arrow(ArrowError),
    Panicked,
}

impl From<ArrowError> for ColumnError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<ParquetError> for ColumnError {
    fn from(error: ParquetError) -> Self {
        Self::Arrow(error.into())
    }
}

pub(super) struct Column {
    levels: FieldLevels,
    metadata: Arc<ParquetMetaData>,
    pages: Pages,
    /// Names of the structs around it, then its own.
    path: Vec<String>,
    row_groups: std::vec::IntoIter<usize>,
    decoder: Option<ParquetRecordBatchReader>,
    /// Decoded rows that were not taken yet.
    rows: Option<ArrayRef>,
}

impl Column {
    pub(super) fn new(
        schema: &SchemaDescriptor,
        views: &Fields,
        metadata: &Arc<ParquetMetaData>,
        leaf: &Leaf,
        at: usize,
        pages: Pages,
        row_groups: Vec<usize>,
    ) -> Result<Self, ParquetError> {
        let mask = ProjectionMask::leaves(schema, [at]);
        Ok(Self {
            levels: parquet_to_arrow_field_levels(schema, mask, Some(views))?,
            metadata: Arc::clone(metadata),
            pages,
            path: leaf.path.clone(),
            row_groups: row_groups.into_iter(),
            decoder: None,
            rows: None,
        })
    }

    /// The row group of the decoded rows.
    pub(super) fn row_group(&self) -> usize {
        self.pages.row_group()
    }

    /// Decodes rows if there are none, and returns how many there are: 0 only at the split's end.
    pub(super) fn fill(&mut self) -> Result<usize, ColumnError> {
        if self.rows.is_none() {
            self.rows = self.decode()?;
        }
        Ok(self.rows.as_ref().map_or(0, Array::len))
    }

    pub(super) fn decoded(&self) -> Option<&ArrayRef> {
        self.rows.as_ref()
    }

    /// Takes this many of the decoded rows.
    pub(super) fn take(&mut self, count: usize) -> Option<ArrayRef> {
        let rows = self.rows.take()?;
        let taken = rows.slice(0, count.min(rows.len()));
        self.rows = (count < rows.len()).then(|| rows.slice(count, rows.len() - count));
        Some(taken)
    }

    fn decode(&mut self) -> Result<Option<ArrayRef>, ColumnError> {
        self.pages.begin_batch();
        loop {
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                None => match self.next_decoder()? {
                    Some(decoder) => self.decoder.insert(decoder),
                    None => return Ok(None),
                },
            };
            // On damaged input the decoder of the parquet library may panic (apache/arrow-rs#5563 and others); a panic would
            // take the whole process down without naming the file.
            match caught(|| decoder.next()).ok_or(ColumnError::Panicked)? {
                Some(batch) => {
                    let batch = batch?;
                    self.pages.rows_taken(batch.num_rows() as u64);
                    return Ok(Some(leaf_of(&batch, &self.path)?));
                }
                // At the chunk's end, or before a page that wants fewer rows at once.
                None => self.decoder = None,
            }
        }
    }

    fn next_decoder(&mut self) -> Result<Option<ParquetRecordBatchReader>, ColumnError> {
        loop {
            // A header that the library cannot read may make it panic, too.
            let begun = caught(|| self.pages.begin_decoder()).ok_or(ColumnError::Panicked)?;
            if let Some(rows_at_once) = begun? {
                let chunk = Chunk { pages: &self.pages, metadata: &self.metadata, row_group: self.row_group() };
                let decoder =
                    ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, &chunk, rows_at_once, None)?;
                return Ok(Some(decoder));
            }
            match self.row_groups.next() {
                Some(row_group) => self.pages.open(row_group)?,
                None => return Ok(None),
            }
        }
    }
}

/// A column's chunk in one row group, for the decoder.
struct Chunk<'a> {
    pages: &'a Pages,
    metadata: &'a ParquetMetaData,
    row_group: usize,
}

impl RowGroups for Chunk<'_> {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    fn column_chunks(&self, _: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        Ok(Box::new(OneChunk(Some(self.pages.clone()))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().get(self.row_group).into_iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}

/// A column of a batch, out of the structs around it. Where a struct is NULL, its leaves are.
fn leaf_of(batch: &RecordBatch, path: &[String]) -> Result<ArrayRef, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("the decoder gave no column {}", path.join(".")));
    let (first, inner) = path.split_first().ok_or_else(missing)?;
    let mut array = Arc::clone(batch.column_by_name(first).ok_or_else(missing)?);
    let mut nulls: Option<NullBuffer> = None;
    for name in inner {
        let parent = array.as_any().downcast_ref::<StructArray>().ok_or_else(missing)?;
        nulls = NullBuffer::union(nulls.as_ref(), parent.nulls());
        let child = Arc::clone(parent.column_by_name(name).ok_or_else(missing)?);
        array = child;
    }
    let Some(nulls) = nulls else { return Ok(array) };
    let union = NullBuffer::union(Some(&nulls), array.nulls());
    if union.as_ref() == array.nulls() {
        return Ok(array);
    }
    Ok(make_array(array.to_data().into_builder().nulls(union).build()?))
}

/// The bytes of each row's text; 0 where there is none.
pub(super) struct TextLengths<'a> {
    views: &'a [u128],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> TextLengths<'a> {
    /// `None`: the column is not of text.
    pub(super) fn of(array: &'a ArrayRef) -> Option<Self> {
        let views = match array.data_type() {
            DataType::Utf8View => array.as_string_view_opt()?.views(),
            DataType::BinaryView => array.as_binary_view_opt()?.views(),
            _ => return None,
        };
        Some(Self { views, nulls: array.nulls().filter(|nulls| nulls.null_count() > 0) })
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> u64 {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return 0;
        }
        // A view's low 32 bits.
        self.views.get(row).map_or(0, |view| *view as u64 & u64::from(u32::MAX))
    }
}

/// A text of fewer bytes is copied out of its page, wherever it stands.
const LONG_TEXT: usize = 64 << 10;

/// Copies texts out of their pages; other columns are returned as they are.
pub(super) fn copied_text(array: ArrayRef) -> ArrayRef {
    if let Some(texts) = array.as_string_view_opt() {
        return copied::<StringViewType, Utf8Type>(texts);
    }
    if let Some(texts) = array.as_binary_view_opt() {
        return copied::<BinaryViewType, BinaryType>(texts);
    }
    array
}

/// A batch of one long text, which stays where it is: its page is in memory until the next batch in any case.
fn left_in_page<V: ByteViewType, O: ByteArrayType<Offset = i32>>(
    texts: &GenericByteViewArray<V>,
) -> Option<GenericByteArray<O>> {
    let [view] = texts.views().as_ref() else { return None };
    // A view's parts of 32 bits: the length, the first bytes, which buffer, where in it.
    let [length, buffer, offset] = [0, 64, 96].map(|shift| (view >> shift) as u32 as usize);
    if length < LONG_TEXT || texts.null_count() > 0 {
        return None;
    }
    let text = texts.data_buffers().get(buffer)?.slice_with_length(offset, length);
    GenericByteArray::try_new(OffsetBuffer::from_lengths([length]), text, None).ok()
}

fn copied<V: ByteViewType, O: ByteArrayType<Offset = i32>>(texts: &GenericByteViewArray<V>) -> ArrayRef
where
    V::Native: AsRef<O::Native>,
    O::Native: AsRef<O::Native>,
{
    if let Some(text) = left_in_page::<V, O>(texts) {
        return Arc::new(text);
    }
    let bytes =
        texts.lengths().zip(0..).filter(|(_, row)| texts.is_valid(*row)).map(|(length, _)| length as usize).sum();
    let mut builder = GenericByteBuilder::<O>::with_capacity(texts.len(), bytes);
    match texts.null_count() {
        0 => (0..texts.len()).for_each(|row| builder.append_value(texts.value(row))),
        _ => texts.iter().for_each(|text| builder.append_option(text)),
    }
    Arc::new(builder.finish())
}
