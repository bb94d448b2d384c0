//! What a run says at its end.

use std::collections::BTreeMap;
use std::fmt::Write;

use indexbuild_api::ManifestStatus;
use indexbuild_executor::stats::Statistics;
use indexbuild_text::{aligned, bytes, count};
use serde::Serialize;

use indexbuild_timeline::Timeline;

/// What a run did and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// How it ended: `Complete` or `Aborted`.
    pub outcome: String,
    pub manifest: Option<ManifestStatus>,
    pub rows: u64,
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Milliseconds that this run took; a build that was resumed took longer in all.
    pub wall_ms: u64,
    pub failed_attempts: u32,
    /// Per stage, over the results that count.
    pub stages: Vec<StageSummary>,
    /// What a process may use, in bytes.
    pub memory_limit: u64,
    pub children: Vec<ChildSummary>,
    /// Who owned which directory, when, and why that changed.
    pub timeline: Timeline,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageSummary {
    /// `plan`, `encode`, `sort`, `publish`.
    pub stage: String,
    pub works: u32,
    /// Their figures together; `wallMs` is the sum of the attempts' own.
    pub statistics: Statistics,
    /// Nanoseconds per row of each step, all threads together.
    pub ns_per_row: BTreeMap<String, f64>,
}

impl StageSummary {
    /// A stage that nothing is known of yet.
    #[must_use]
    pub fn new(stage: &str) -> Self {
        Self { stage: stage.to_owned(), ..Self::default() }
    }

    /// Adds the figures of one more result.
    // Figures to be read: more than 2^53 nanoseconds or rows lose nothing that matters.
    #[allow(clippy::cast_precision_loss)]
    pub fn add(&mut self, statistics: &Statistics) {
        self.works += 1;
        self.statistics.merge(statistics);
        let rows = self.statistics.rows.max(1) as f64;
        self.ns_per_row = self.statistics.step_ns.iter().map(|(step, ns)| (step.clone(), *ns as f64 / rows)).collect();
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildSummary {
    pub pod_name: String,
    pub slot: u32,
    /// Peak resident set, in bytes, as the kernel counted it (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
}

/// Milliseconds, to be read.
pub fn time(milliseconds: u64) -> String {
    match milliseconds {
        0..10_000 => format!("{}.{:02} s", milliseconds / 1_000, milliseconds % 1_000 / 10),
        10_000..600_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => indexbuild_api::Duration::from_secs(milliseconds / 1_000).to_string(),
    }
}

/// The first column to the left, the others, which are figures, to the right.
fn figures(rows: Vec<Vec<String>>) -> String {
    aligned(rows, (2, 0), |column| column > 0)
}

impl RunSummary {
    /// The summary as text, without the timeline.
    pub fn table(&self) -> String {
        let mut out = format!("{}/{}  {}\n", self.namespace, self.name, self.outcome);
        if let Some(manifest) = &self.manifest {
            let _ = writeln!(out, "  manifest  {}", manifest.url);
            let _ = writeln!(out, "  digest    {}", manifest.digest);
        }
        if self.manifest.is_none() {
            return out;
        }
        let what = format!("{} rows, {} entries, {}", count(self.rows), count(self.entries), bytes(self.bytes));
        if self.children.is_empty() {
            let _ = writeln!(out, "  {what}; it was complete already, and this run had nothing to do");
        } else {
            let rate = self.rows.saturating_mul(1_000) / self.wall_ms.max(1);
            let _ = writeln!(out, "  {what} in {} ({} rows/s)", time(self.wall_ms), count(rate));
        }
        if self.failed_attempts > 0 {
            let _ = writeln!(out, "  {} attempts failed and were repeated", self.failed_attempts);
        }
        if !self.stages.is_empty() {
            out.push_str("\nwhere the time went (over the attempts that count)\n");
            out.push_str(&self.stages_table());
            out.push_str(&self.steps_table());
        }
        if !self.children.is_empty() {
            let _ = writeln!(out, "\nprocesses (memory limit {})", bytes(self.memory_limit));
            let mut rows = vec![["pod", "peak RSS", "cpu"].map(str::to_owned).to_vec()];
            for process in &self.children {
                rows.push(vec![process.pod_name.clone(), bytes(process.peak_rss_bytes), time(process.cpu_ms)]);
            }
            out.push_str(&figures(rows));
        }
        out
    }

    fn stages_table(&self) -> String {
        let head = [
            "stage",
            "works",
            "work time",
            "cpu",
            "rows",
            "in",
            "out",
            "uploaded",
            "GETs",
            "PUTs",
            "fsyncs",
            "adopted",
            "redone",
            "largest/mean range",
            "peak RSS",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for StageSummary { stage, works, statistics: of, ns_per_row: _ } in &self.stages {
            let skew = match of.largest_range_per_mille {
                0 => "-".to_owned(),
                per_mille => format!("{}.{:02}", per_mille / 1_000, per_mille % 1_000 / 10),
            };
            rows.push(vec![
                stage.clone(),
                works.to_string(),
                time(of.wall_ms),
                time(of.cpu_ms),
                count(of.rows),
                bytes(of.bytes_in),
                bytes(of.bytes_out),
                bytes(of.bytes_uploaded),
                count(of.gets),
                count(of.puts),
                count(of.fsyncs),
                count(of.rows_adopted),
                count(of.rows_redone),
                skew,
                bytes(of.peak_rss_bytes),
            ]);
        }
        figures(rows)
    }

    fn steps_table(&self) -> String {
        let mut rows = vec![["step", "ns per row", "time (all threads)"].map(str::to_owned).to_vec()];
        for StageSummary { stage, works: _, statistics: of, ns_per_row } in &self.stages {
            let mut steps: Vec<(&String, &u64)> = of.step_ns.iter().collect();
            steps.sort_by(|a, b| b.1.cmp(a.1));
            for (step, ns) in steps {
                let per_row = if of.rows == 0 { "-".to_owned() } else { format!("{:.1}", ns_per_row[step]) };
                rows.push(vec![format!("{stage}: {step}"), per_row, time(ns / 1_000_000)]);
            }
        }
        if rows.len() == 1 { String::new() } else { format!("\n{}", figures(rows)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_to_be_read() {
        assert_eq!([time(1_234), time(61_250), time(3_600_000)], ["1.23 s", "61.2 s", "1h"].map(str::to_owned));
    }

    #[test]
    fn a_summary_names_the_manifest_the_steps_and_each_process() {
        let mut encode = StageSummary::new("encode");
        encode.add(&Statistics {
            rows: 1_000_000,
            step_ns: [("read".to_owned(), 50_000_000), ("encode".to_owned(), 90_000_000)].into(),
            ..Statistics::default()
        });
        let summary = RunSummary {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
            outcome: "Complete".to_owned(),
            manifest: Some(ManifestStatus {
                url: "file:///x/manifest.json".to_owned(),
                digest: "d1".to_owned(),
                entries: 2,
                bytes: 3,
            }),
            rows: 1_000_000,
            wall_ms: 2_000,
            stages: vec![encode],
            children: vec![ChildSummary {
                pod_name: "orders-0-e1".to_owned(),
                slot: 0,
                peak_rss_bytes: 100 << 20,
                cpu_ms: 10,
            }],
            ..RunSummary::default()
        };
        let table = summary.table();
        for part in ["file:///x/manifest.json", "500,000 rows/s", "encode: encode        90.0", "orders-0-e1   100 MiB"]
        {
            assert!(table.contains(part), "{part} in\n{table}");
        }
    }
}
