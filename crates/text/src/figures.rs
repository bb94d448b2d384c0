/// A number of bytes, to be read.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count;
    while scaled >= 10 * 1024 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    if unit + 1 < UNITS.len() && scaled >= 1024 {
        // One digit after the point where there is only one before it.
        return format!("{}.{} {}", scaled / 1024, scaled % 1024 * 10 / 1024, UNITS[unit + 1]);
    }
    format!("{scaled} {}", UNITS[unit])
}

/// A number with its thousands apart.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_to_be_read() {
        assert_eq!(
            [bytes(0), bytes(1_000), bytes(1_536), bytes(12 << 20), bytes(3 << 29)],
            ["0 B", "1000 B", "1.5 KiB", "12 MiB", "1.5 GiB"].map(str::to_owned)
        );
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"].map(str::to_owned));
    }
}
