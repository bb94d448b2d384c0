//! Tables as kubectl draws them: columns in capitals, no lines.

use indexbuild_text::aligned;

/// Rows under a head.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|name| name.to_uppercase()).collect();
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
}
