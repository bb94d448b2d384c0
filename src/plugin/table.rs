//! Tables as kubectl draws them: columns in capitals, no lines.

use indexbuild_text::{aligned, one_line, short_line};

/// The longest message that a row shows where it is cut.
const LONGEST: usize = 100;

/// How much of a message a cell shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cells {
    Short,
    Whole,
}

impl Cells {
    /// A message, whoever wrote it: a store's answer has lines of its own, which would break those of the table.
    pub(super) fn message(self, text: &str) -> String {
        match self {
            Self::Short => short_line(text, LONGEST),
            Self::Whole => one_line(text),
        }
    }
}

/// Rows under a head. Each cell is a line, whatever is in it.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|name| name.to_uppercase()).collect();
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| one_line(cell)).collect());
    aligned(std::iter::once(head).chain(rows), (0, 3), |_| false)
}

/// A value, or what kubectl shows for none.
pub(super) fn or_none(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).filter(|text| !text.is_empty()).unwrap_or_else(|| "<none>".to_owned())
}

/// How long ago a time is, as kubectl shows it.
pub(super) fn age(time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> String {
    let Some(time) = time else {
        return "<unknown>".to_owned();
    };
    let seconds = jiff::Timestamp::now().as_second().saturating_sub(time.0.as_second()).max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_lines() {
        let text = table(&["name", "phase"], [vec!["a".to_owned(), "Encoding".to_owned()]]);
        assert_eq!(text, "NAME   PHASE\na      Encoding\n");
        assert_eq!(or_none(None::<u32>), "<none>");
    }

    #[test]
    fn a_row_is_a_line_whatever_a_store_has_answered_and_whole_where_that_is_asked_for() {
        let xml = format!(
            "lake: <?xml version=\"1.0\"?>\n<Error><Code>Denied</Code>\n<Message>{}</Message></Error>",
            "no ".repeat(99)
        );
        let row = |cell: String| table(&["name", "message"], [vec!["a".to_owned(), cell]]);
        let (plain, short, whole) =
            (row(xml.clone()), row(Cells::Short.message(&xml)), row(Cells::Whole.message(&xml)));
        for text in [&plain, &short, &whole] {
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("lake: Denied: no no"), "{text}");
        }
        assert!(short.contains('…') && short.lines().all(|line| line.chars().count() < 120), "{short}");
        assert!(!whole.contains('…') && whole.matches("no ").count() >= 98, "{whole}");
    }
}
