/// A text as one line that is safe to print: control characters and those that turn the direction of what follows become
/// blanks, blanks in a row become one, and an error document of an object store becomes its code and its message.
#[must_use]
pub fn one_line(text: &str) -> String {
    let text = without_document(text);
    let visible = |c: char| if c.is_control() || is_invisible(c) { ' ' } else { c };
    text.chars().map(visible).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most so many characters of a text as one line, with a mark where it was cut.
#[must_use]
pub fn short_line(text: &str, longest: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= longest {
        return line;
    }
    let kept: String = line.chars().take(longest.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Marks of direction, of lines, and of no width: a terminal draws what follows elsewhere, or not at all.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `<?xml …?><Error><Code>…</Code><Message>…</Message>…</Error>` as `Code: Message`; all else stays.
fn without_document(text: &str) -> String {
    let found = || {
        let begin = text.find("<Error>")?;
        let end = begin + text.get(begin..)?.find("</Error>")? + "</Error>".len();
        let document = text.get(begin..end)?;
        let said: Vec<String> = ["Code", "Message"].into_iter().filter_map(|name| element(document, name)).collect();
        let before = text.get(..begin)?;
        let before = before
            .rfind("<?xml")
            .filter(|at| before[*at..].trim_end().ends_with("?>"))
            .map_or(before, |at| &before[..at]);
        (!said.is_empty()).then(|| format!("{before}{}{}", said.join(": "), &text[end..]))
    };
    found().unwrap_or_else(|| text.to_owned())
}

fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = inner.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(plain.replace("&amp;", "&")).filter(|inner| !inner.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_somebody_wrote_is_one_line() {
        for (text, line) in [
            ("plain", "plain"),
            ("", ""),
            ("two\nlines\r\n\tand\u{2028}more", "two lines and more"),
            ("\u{1b}[31mred\u{7}\u{0}", "[31mred"),
            ("left\u{202e}right", "left right"),
            (
                "s3://lake/a: the store says: <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n  <Code>AccessDenied</Code>\n  <Message>Access &amp; all Denied</Message>\n  <RequestId>7</RequestId>\n</Error>; check the credentials",
                "s3://lake/a: the store says: AccessDenied: Access & all Denied; check the credentials",
            ),
            ("<Error><Code>NoSuchBucket</Code></Error>", "NoSuchBucket"),
            ("<Error>\n</Error> and <Error><Code>cut", "<Error> </Error> and <Error><Code>cut"),
            ("<html>\n<body>502</body>\n</html>", "<html> <body>502</body> </html>"),
        ] {
            assert_eq!(one_line(text), line);
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_a_short_one_is_not() {
        assert_eq!(short_line("a\nb", 3), "a b");
        assert_eq!(short_line("é🦀é🦀", 4), "é🦀é🦀");
        assert_eq!(short_line("é🦀é🦀é", 4), "é🦀é…");
        assert_eq!(short_line(&"word ".repeat(100), 21).chars().count(), 20, "no blank before the mark");
    }
}
