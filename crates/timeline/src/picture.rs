//! The timeline as a picture: one SVG that needs nothing else, or an HTML page around it.
//!
//! A row per volume of a slot, a bar per owner's time with one directory. The time that a process lived
//! on after it had lost the slot is hatched.

use std::fmt::Write;

use crate::timeline::{Span, Timeline, idle_from, seconds, short, text, why};

const LEFT: u64 = 110;
const RIGHT: u64 = 30;
const TOP: u64 = 64;
const ROW: u64 = 34;
const WIDTH: u64 = 1_120;

/// Kinds of work and their colours; readable on white, in greyscale, and to the colour-blind.
const COLOURS: [(&str, &str); 6] = [
    ("plan", "#8073ac"),
    ("encode", "#3182bd"),
    ("sort", "#31a354"),
    ("publish", "#e6a100"),
    ("clean", "#969696"),
    ("idle", "#d9d9d9"),
];

fn kind(span: &Span) -> &'static str {
    let work = span.work.as_deref().unwrap_or("idle");
    COLOURS.iter().map(|(kind, _)| *kind).find(|kind| work.starts_with(kind)).unwrap_or("idle")
}

fn colour(kind: &str) -> &'static str {
    COLOURS.iter().find(|(known, _)| *known == kind).map_or("#d9d9d9", |(_, colour)| colour)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A step between marks of the axis: 1, 2 or 5 times a power of ten, at most ten marks.
fn axis_step(length: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if length / (step * factor) <= 10 {
                return step * factor;
            }
        }
        step *= 10;
    }
}

pub fn svg(timeline: &Timeline, title: &str) -> String {
    let length = timeline.length.max(1);
    let x = |at: u64| LEFT + at.min(length) * (WIDTH - LEFT - RIGHT) / length;
    let mut rows: Vec<(u32, u32)> = timeline.spans.iter().map(|span| (span.slot, span.volume)).collect();
    rows.sort_unstable();
    rows.dedup();
    let y = |slot: u32, volume: u32| {
        let row = rows.iter().position(|row| *row == (slot, volume)).unwrap_or(0);
        TOP + u64::try_from(row).unwrap_or(0) * ROW
    };
    let bottom = TOP + u64::try_from(rows.len()).unwrap_or(0) * ROW;
    let height = bottom + 64;
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12">
<title>{title}</title>
<defs><pattern id="late" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="#f7f7f7"/><rect width="2" height="6" fill="#bd0026"/></pattern></defs>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="24" font-size="15" font-weight="600" fill="#222">{title}</text>
"##,
        title = escape(title)
    );
    let step = axis_step(length);
    for mark in 0..=length / step {
        let at = x(mark * step);
        let _ = writeln!(
            out,
            r##"<line x1="{at}" y1="{TOP}" x2="{at}" y2="{bottom}" stroke="#e5e5e5"/><text x="{at}" y="{}" text-anchor="middle" fill="#666">{}</text>"##,
            TOP - 8,
            escape(&axis_label(mark * step, step)),
        );
    }
    for (slot, volume) in &rows {
        let at = y(*slot, *volume);
        let _ = writeln!(
            out,
            r##"<text x="16" y="{}" fill="#222">slot {slot}</text><text x="66" y="{}" fill="#888">vol {volume}</text>"##,
            at + 20,
            at + 20
        );
    }
    for span in &timeline.spans {
        bar(&mut out, span, idle_from(timeline, span), &x, y(span.slot, span.volume));
    }
    for remark in &timeline.remarks {
        let of_slot: Vec<u64> =
            rows.iter().filter(|(slot, _)| *slot == remark.slot).map(|(slot, volume)| y(*slot, *volume)).collect();
        if let (Some(first), Some(last)) = (of_slot.first(), of_slot.last()) {
            let at = x(remark.at);
            let _ = writeln!(
                out,
                r##"<line x1="{at}" y1="{first}" x2="{at}" y2="{}" stroke="#bd0026" stroke-dasharray="3 2"><title>{}: {}</title></line>"##,
                last + ROW - 2,
                seconds(remark.at),
                escape(&remark.text)
            );
        }
    }
    legend(&mut out, bottom + 30);
    out.push_str("</svg>\n");
    out
}

fn axis_label(at: u64, step: u64) -> String {
    if step >= 1_000 { format!("{} s", at / 1_000) } else { format!("{at} ms") }
}

fn bar(out: &mut String, span: &Span, idle: Option<u64>, x: &impl Fn(u64) -> u64, y: u64) {
    let (from, to) = (x(span.from), x(span.to));
    let width = (x(idle.unwrap_or(span.to)) - from).max(2);
    let work = span.work.as_deref().unwrap_or("no work");
    let kind = kind(span);
    let mut about = format!(
        "{} to {}: {work} in {} by {}; {}",
        seconds(span.from),
        seconds(span.to),
        span.directory,
        span.pod,
        why(span.reason)
    );
    for (what, where_) in [("on node", &span.node), ("on volume", &span.claim)] {
        if let Some(name) = where_ {
            let _ = write!(about, "; {what} {name}");
        }
    }
    if let Some(end) = &span.end {
        let _ = write!(about, "; {end}");
    }
    let _ = writeln!(
        out,
        r##"<rect x="{from}" y="{}" width="{width}" height="{}" rx="3" fill="{}" stroke="#ffffff"><title>{}</title></rect>"##,
        y + 4,
        ROW - 10,
        colour(kind),
        escape(&about)
    );
    // A label only where it fits: about 7 units a character.
    let directory = format!("{work} · {}", short(&span.directory));
    let whole = span.node.as_ref().map_or_else(|| directory.clone(), |node| format!("{directory} · {node}"));
    let label = [whole.as_str(), directory.as_str(), work]
        .into_iter()
        .find(|label| (label.chars().count() as u64) * 7 + 8 <= width);
    if let Some(label) = label {
        let fill = if kind == "idle" { "#222222" } else { "#ffffff" };
        let _ = writeln!(
            out,
            r##"<text x="{}" y="{}" fill="{fill}" font-size="11" pointer-events="none">{}</text>"##,
            from + 5,
            y + 20,
            escape(label)
        );
    }
    if let Some(since) = idle {
        let _ = writeln!(
            out,
            r##"<rect x="{}" y="{}" width="{}" height="{}" rx="3" fill="{}" stroke="#ffffff"><title>{} to {}: idle since {work} was done, as no work is left to hand out yet</title></rect>"##,
            x(since),
            y + 4,
            (to - x(since)).max(2),
            ROW - 10,
            colour("idle"),
            seconds(since),
            seconds(span.to),
        );
    }
    if let Some(until) = span.lived_until {
        let late = (x(until) - to).max(2);
        let _ = writeln!(
            out,
            r##"<rect x="{to}" y="{}" width="{late}" height="{}" rx="3" fill="url(#late)" opacity="0.75"><title>{} to {}: the process of {} lived on; the slot was no longer its own</title></rect>"##,
            y + 10,
            ROW - 22,
            seconds(span.to),
            seconds(until),
            escape(&span.directory)
        );
    }
}

fn legend(out: &mut String, y: u64) {
    let mut x = LEFT;
    for (kind, colour) in COLOURS {
        let _ = writeln!(
            out,
            r##"<rect x="{x}" y="{}" width="12" height="12" rx="2" fill="{colour}"/><text x="{}" y="{y}" fill="#444">{kind}</text>"##,
            y - 10,
            x + 17
        );
        x += 80;
    }
    let _ = writeln!(
        out,
        r##"<rect x="{x}" y="{}" width="12" height="12" fill="url(#late)"/><text x="{}" y="{y}" fill="#444">a former owner lives on, harmless</text>"##,
        y - 10,
        x + 17
    );
    x += 230;
    let _ = writeln!(
        out,
        r##"<line x1="{x}" y1="{}" x2="{x}" y2="{}" stroke="#bd0026" stroke-dasharray="3 2"/><text x="{}" y="{y}" fill="#444">a remark: point at it</text>"##,
        y - 12,
        y + 2,
        x + 8
    );
}

/// The picture in a page that needs nothing else, with the table below it.
pub fn html(timeline: &Timeline, title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>body{{font-family:system-ui,sans-serif;margin:24px;color:#222}}pre{{background:#f7f7f7;padding:12px;overflow:auto;font-size:12px}}svg{{max-width:100%;height:auto}}</style></head>\n<body>\n{}<pre>{}</pre>\n</body></html>\n",
        svg(timeline, title),
        escape(&text(timeline)),
        title = escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::tests::{idle, incident};
    use crate::timeline::timeline;

    #[test]
    fn a_picture_has_a_bar_for_each_directory_and_hatches_what_was_late() {
        let picture = svg(&timeline(&incident()), "orders <by customer>");
        assert_eq!(picture.matches("rx=\"3\" fill=\"#").count(), 4, "{picture}");
        assert_eq!(picture.matches("rx=\"3\" fill=\"url(#late)\"").count(), 1);
        assert!(picture.contains("orders &lt;by customer&gt;"));
        for part in ["slot 0", "slot 1", "vol 2", "encode-1 · 2-cccccccc", "cut off (a fault that was asked for)"] {
            assert!(picture.contains(part), "{part}");
        }
        assert!(!picture.contains("http://www.w3.org/1999") && !picture.contains("<script"), "needs nothing else");
    }

    #[test]
    fn an_owner_that_waits_for_other_slots_is_shown_idle() {
        let picture = svg(&idle(), "t");
        assert_eq!(picture.matches("idle since").count(), 1, "{picture}");
    }

    #[test]
    fn the_axis_has_round_marks_and_at_most_ten_of_them() {
        for (length, step) in [(1, 1), (10, 1), (11, 2), (4_000, 500), (61_000, 10_000), (3_600_000, 500_000)] {
            assert_eq!(axis_step(length), step, "{length}");
        }
    }

    #[test]
    fn a_page_holds_the_picture_and_the_table() {
        let page = html(&timeline(&incident()), "orders");
        assert!(
            page.contains("<svg") && page.contains("the slot&#39;s first owner")
                || page.contains("the slot's first owner")
        );
    }
}
