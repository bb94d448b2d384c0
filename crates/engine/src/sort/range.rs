//! Sorts one range, part by part in order, and writes it.

use indexbuild_index::PackedLayout;

use super::SortJob;
use super::in_memory::{Sorter, memory_of};
use super::part::{Part, each_frame, whole_packed};
use super::recut::cut_again;
use super::spill::SpillFolder;
use super::writer::{FullSst, RangeWriter};
use crate::control::{StepTimes, timed};
use crate::error::EngineError;
use crate::packed;

/// Entries written between two reports of progress.
const REPORT_EVERY: u64 = 8192;

/// A sorting thread.
pub(crate) struct RangeSorter<'s, 'j> {
    pub(crate) job: &'s SortJob<'j>,
    pub(crate) layout: Option<&'s PackedLayout>,
    pub(crate) budget: u64,
    pub(crate) folder: &'s SpillFolder,
    pub(crate) sorter: Sorter,
    pub(crate) stats: StepTimes,
}

impl RangeSorter<'_, '_> {
    fn width(&self) -> usize {
        self.layout.map_or(0, PackedLayout::width)
    }

    /// Writes the entries of a part, sorted.
    pub(crate) fn part<'o, F: FnMut(FullSst<'o>) -> Result<(), EngineError>>(
        &mut self,
        part: Part,
        writer: &mut RangeWriter<'o, '_, F>,
    ) -> Result<(), EngineError> {
        if part.entries() == 0 {
            return Ok(());
        }
        if memory_of(&part, self.width()) <= self.budget {
            self.in_memory(part, writer)
        } else if part.identical {
            self.stream(part, writer)
        } else {
            check_cancelled(self.job)?;
            self.stats.cut_again += 1;
            let Self { layout, budget, folder, stats, .. } = self;
            let parts =
                timed(&mut stats.scatter, || cut_again(part, *layout, *budget, folder, &mut stats.bytes_spilled))?;
            for part in parts {
                self.part(part, writer)?;
            }
            Ok(())
        }
    }

    fn in_memory<'o, F: FnMut(FullSst<'o>) -> Result<(), EngineError>>(
        &mut self,
        part: Part,
        writer: &mut RangeWriter<'o, '_, F>,
    ) -> Result<(), EngineError> {
        let width = self.width();
        let Self { job, layout, sorter, stats, .. } = self;
        let mut fetched = 0;
        let mut begun = std::time::Instant::now();
        sorter.load(part, width, || {
            fetched = crate::control::nanos(begun.elapsed());
            begun = std::time::Instant::now();
        })?;
        stats.sort += crate::control::nanos(begun.elapsed());
        stats.fetch += fetched;
        let sorter = &*sorter;
        timed(&mut stats.write, || {
            let (short, wide) = sorter.packed();
            match layout {
                Some(layout) if !short.is_empty() => {
                    let packed = short.iter().map(|entry| u128::from(*entry));
                    merge(job, layout, packed, sorter, writer)
                }
                Some(layout) => merge(job, layout, wide.iter().copied(), sorter, writer),
                None => only_general(job, sorter, writer),
            }
        })
    }

    /// Equal entries, more than fit in memory: their order does not matter.
    fn stream<'o, F: FnMut(FullSst<'o>) -> Result<(), EngineError>>(
        &mut self,
        part: Part,
        writer: &mut RangeWriter<'o, '_, F>,
    ) -> Result<(), EngineError> {
        let width = self.width().max(1);
        let Self { job, layout, stats, .. } = self;
        let Part { packed, general, apart: _, identical: _ } = part;
        timed(&mut stats.write, || {
            let mut entries = Vec::new();
            packed.consume(|bytes| {
                check_cancelled(job)?;
                let whole = whole_packed(bytes, width);
                entries.clear();
                packed::unpack(width, whole, &mut entries);
                if let Some(layout) = layout {
                    for entry in &entries {
                        writer.put_packed(layout, *entry)?;
                    }
                }
                job.control.add_rows(entries.len() as u64);
                Ok(whole.len())
            })?;
            general.consume(|bytes| {
                check_cancelled(job)?;
                each_frame(bytes, |frame| {
                    job.control.add_rows(1);
                    writer.put_frame(&frame)
                })
            })
        })
    }
}

fn check_cancelled(job: &SortJob<'_>) -> Result<(), EngineError> {
    if job.control.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
}

/// Reports progress, and checks whether the job was cancelled, every few thousand entries.
struct ProgressCounter<'p, 'j> {
    job: &'p SortJob<'j>,
    since: u64,
}

impl ProgressCounter<'_, '_> {
    #[inline]
    fn count(&mut self) -> Result<(), EngineError> {
        self.since += 1;
        if self.since == REPORT_EVERY { self.report() } else { Ok(()) }
    }

    #[cold]
    fn report(&mut self) -> Result<(), EngineError> {
        self.job.control.add_rows(std::mem::take(&mut self.since));
        check_cancelled(self.job)
    }
}

/// Packed entries in order, with the few general ones (rows with NULLs) where they belong.
fn merge<'o, F: FnMut(FullSst<'o>) -> Result<(), EngineError>>(
    job: &SortJob<'_>,
    layout: &PackedLayout,
    packed: impl Iterator<Item = u128>,
    sorter: &Sorter,
    writer: &mut RangeWriter<'o, '_, F>,
) -> Result<(), EngineError> {
    let mut progress = ProgressCounter { job, since: 0 };
    let mut general = sorter.general().peekable();
    for entry in packed {
        if general.peek().is_some() {
            // Their keys are never equal: one has a NULL where the other has a value.
            while let Some(frame) = general.next_if(|frame| frame.key < writer.expand(layout, entry)) {
                writer.put_frame(&frame)?;
                progress.count()?;
            }
        }
        writer.put_packed(layout, entry)?;
        progress.count()?;
    }
    for frame in general {
        writer.put_frame(&frame)?;
        progress.count()?;
    }
    progress.report()
}

fn only_general<'o, F: FnMut(FullSst<'o>) -> Result<(), EngineError>>(
    job: &SortJob<'_>,
    sorter: &Sorter,
    writer: &mut RangeWriter<'o, '_, F>,
) -> Result<(), EngineError> {
    let mut progress = ProgressCounter { job, since: 0 };
    for frame in sorter.general() {
        writer.put_frame(&frame)?;
        progress.count()?;
    }
    progress.report()
}
