//! Writes a run: sections as buffers fill, the table at the end, the sidecar last.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use indexbuild_durable::DurableFile;
use indexbuild_index::LongEntry;
use xxhash_rust::xxh3::Xxh3;

use super::sidecar::{RUN_VERSION, RunSidecar, SealedRun};
use super::table::{EntrySum, PieceRef, RunTable, TableIndex};
use crate::attempt::Attempt;
use crate::buffers::{Buffers, Chunk};
use crate::error::{At as _, EngineError};
use crate::frames::PieceKind;

/// A piece is fetched and checked as a whole, so that nothing unchecked is ever used.
const LARGEST_PIECE: usize = 4 << 20;
const GATHER: usize = 256 << 10;

/// What a run says about one index besides its entries.
#[derive(Clone, Debug)]
pub(crate) struct IndexShape {
    /// Bytes per packed entry, 0 without a packed layout.
    pub(crate) width: u32,
    pub(crate) lanes: u32,
    /// Destination of its first lane in the buffers.
    pub(crate) first_destination: usize,
}

/// What a run holds so far, its buffered part included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) rows: u64,
    pub(crate) indexes: Vec<EntrySum>,
}

/// A run in the making. Dropped, it leaves nothing behind.
pub(crate) struct RunWriter {
    path: PathBuf,
    file: BufWriter<DurableFile>,
    offset: u64,
    pieces: Vec<(u32, u32, PieceRef)>,
}

impl RunWriter {
    /// The first number that no run of this attempt has: an Encode that goes on in the same attempt, after an outage
    /// or a full disk, must not write over what it has sealed and handed on.
    pub(crate) fn first_free_number(attempt: &Attempt) -> Result<u32, EngineError> {
        let folder = attempt.runs_dir();
        let prefix = format!("{}-", attempt.owner().prefix());
        let mut free = 0;
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let name = entry.at("list", &folder)?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix(&prefix)?.split('.').next()?.parse::<u32>().ok());
            free = free.max(number.map_or(0, |number| number.saturating_add(1)));
        }
        Ok(free)
    }

    pub(crate) fn create(attempt: &Attempt, number: u32) -> Result<Self, EngineError> {
        let path = attempt.runs_dir().join(format!("{}-{number:05}.run", attempt.owner().prefix()));
        let file = DurableFile::create(&path).at("create", &path)?;
        Ok(Self { path, file: BufWriter::with_capacity(GATHER, file), offset: 0, pieces: Vec::new() })
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset
    }

    /// Writes all that the buffers hold as one section, and empties them.
    pub(crate) fn section(&mut self, buffers: &mut Buffers, shapes: &[IndexShape]) -> Result<(), EngineError> {
        for (index, shape) in (0u32..).zip(shapes) {
            for lane in 0..shape.lanes {
                for kind in PieceKind::BOTH {
                    let chunks = buffers.take(shape.first_destination + lane as usize, kind);
                    self.pieces(index, lane, kind, &chunks)?;
                    buffers.recycle(chunks);
                }
            }
        }
        Ok(())
    }

    fn pieces(&mut self, index: u32, lane: u32, kind: PieceKind, chunks: &[Chunk]) -> Result<(), EngineError> {
        let mut rest = chunks;
        while !rest.is_empty() {
            let mut count = 0;
            let mut len = 0;
            while count < rest.len() && (count == 0 || len + rest[count].bytes.len() <= LARGEST_PIECE) {
                len += rest[count].bytes.len();
                count += 1;
            }
            let (piece, after) = rest.split_at(count);
            let mut digest = Xxh3::new();
            let mut entries = 0;
            for chunk in piece {
                digest.update(&chunk.bytes);
                self.file.write_all(&chunk.bytes).at("write", &self.path)?;
                entries += chunk.entries;
            }
            let piece = PieceRef { offset: self.offset, len: len as u64, entries, kind, digest: digest.digest128() };
            self.pieces.push((index, lane, piece));
            self.offset += piece.len;
            rest = after;
        }
        Ok(())
    }

    /// Writes a long entry as a piece of its own; the digest of its frame, which is the piece.
    pub(crate) fn long_entry(&mut self, index: u32, lane: u32, entry: &LongEntry<'_>) -> Result<u128, EngineError> {
        let Self { path, file, offset, pieces } = self;
        let mut digest = Xxh3::new();
        let mut len = 0;
        let mut write = |bytes: &[u8]| {
            digest.update(bytes);
            len += bytes.len() as u64;
            file.write_all(bytes)
        };
        // Both are below 4 GiB, as the encoder sees to.
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
        let mut frame = || {
            write(&length(entry.key().len()))?;
            write(entry.key())?;
            write(&length(entry.value_len()))?;
            entry.value_pieces(&mut write)
        };
        frame().at("write", path)?;
        let digest = digest.digest128();
        pieces.push((index, lane, PieceRef { offset: *offset, len, entries: 1, kind: PieceKind::General, digest }));
        *offset += len;
        Ok(digest)
    }

    /// Ends and seals the run. What it covers are the whole splits named.
    pub(crate) fn seal(
        self,
        attempt: &Attempt,
        shapes: &[IndexShape],
        mut splits: Vec<u32>,
        counts: &Counts,
    ) -> Result<SealedRun, EngineError> {
        let Self { path, mut file, offset, pieces } = self;
        let table = RunTable::new(
            shapes
                .iter()
                .zip(&counts.indexes)
                .map(|(shape, sum)| TableIndex { width: shape.width, lanes: shape.lanes, sum: *sum })
                .collect(),
            pieces,
        );
        let (bytes, table_digest) = table.to_bytes(offset);
        file.write_all(&bytes).at("write", &path)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error).at("write", &path)?;
        // Never over a sealed one: its digest may be in a result already.
        file.seal_new().at("seal", &path)?;
        splits.sort_unstable();
        let owner = attempt.owner();
        let run = SealedRun {
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            sidecar: RunSidecar {
                version: RUN_VERSION,
                work_id: owner.work_id.clone(),
                inputs_digest: owner.inputs_digest.clone(),
                splits,
                rows: counts.rows,
                bytes: offset + bytes.len() as u64,
                table_digest,
                indexes: counts.indexes.clone(),
                epoch: owner.epoch,
                boot_nonce: owner.boot_nonce.clone(),
            },
            path,
        };
        if let Err(error) = run.seal_sidecar() {
            // Without its sidecar it does not exist; best effort, since the disk may be full.
            let _ = fs::remove_file(&run.path);
            return Err(error);
        }
        Ok(run)
    }
}
