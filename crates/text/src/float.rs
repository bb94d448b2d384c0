//! Floating-point numbers as text.

/// The nearest float of double precision; `None` for what is no number, or one beyond the type's range.
#[must_use]
pub fn float64(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let kept = is_kept(text, value.is_infinite(), value == 0.0);
    kept.then_some(value)
}

/// The nearest float of single precision; `None` for what is no number, or one beyond the type's range.
#[must_use]
pub fn float32(text: &str) -> Option<f32> {
    let value: f32 = text.parse().ok()?;
    let kept = is_kept(text, value.is_infinite(), value == 0.0);
    kept.then_some(value)
}

/// The shortest text that is read as the same float.
#[must_use]
pub fn print_float64(value: f64) -> String {
    let magnitude = value.abs();
    let plain = magnitude == 0.0 || !value.is_finite() || (1e-5..1e16).contains(&magnitude);
    if plain { value.to_string() } else { format!("{value:e}") }
}

/// The shortest text that is read as the same float.
#[must_use]
pub fn print_float32(value: f32) -> String {
    let magnitude = value.abs();
    let plain = magnitude == 0.0 || !value.is_finite() || (1e-5..1e16).contains(&magnitude);
    if plain { value.to_string() } else { format!("{value:e}") }
}

/// Rust reads `1e400` as infinity and `1e-400` as zero: numbers of which any two would be one key. Infinity is what is
/// written as such, and zero what has no other digit.
fn is_kept(text: &str, infinite: bool, zero: bool) -> bool {
    if infinite {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        return unsigned.starts_with(['i', 'I']);
    }
    let mut mantissa = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    !(zero && mantissa.any(|byte| matches!(byte, b'1'..=b'9')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_range_is_infinite_or_zero_only_where_it_is_written_so() {
        for (text, double, single) in [
            ("1.5e3", Some(1500.0), Some(1500.0)),
            ("inf", Some(f64::INFINITY), Some(f32::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY), Some(f32::NEG_INFINITY)),
            ("+INF", Some(f64::INFINITY), Some(f32::INFINITY)),
            ("0e999", Some(0.0), Some(0.0)),
            ("-0.000", Some(0.0), Some(0.0)),
            ("1.7976931348623157e308", Some(f64::MAX), None),
            ("1e39", Some(1e39), None),
            ("-3.4028235e38", Some(-3.402_823_5e38), Some(f32::MIN)),
            ("1e400", None, None),
            ("-1e400", None, None),
            ("5e-324", Some(5e-324), None),
            ("1e-45", Some(1e-45), Some(1e-45)),
            ("1e-400", None, None),
            ("-0.0001e-400", None, None),
            ("", None, None),
            ("1e", None, None),
            ("1.5x", None, None),
            (" 1", None, None),
            ("1_000", None, None),
            ("infinit", None, None),
        ] {
            assert_eq!(float64(text), double, "{text}");
            assert_eq!(float32(text), single, "{text}");
        }
        assert!(float64(&format!("1{}", "0".repeat(400))).is_none(), "without an exponent");
        assert!(float64("NaN").is_some_and(f64::is_nan) && float32("-nan").is_some_and(f32::is_nan));
    }

    #[test]
    fn a_float_is_printed_in_short_and_read_as_the_same_bits() {
        for (value, text) in [(-0.0, "-0"), (0.1, "0.1"), (1e16, "1e16"), (f64::MAX, "1.7976931348623157e308")] {
            assert_eq!(print_float64(value), text);
        }
        for value in [0.0, -0.0, 1e-5, 9e-6, 1e15, 1e16, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::NEG_INFINITY] {
            let text = print_float64(value);
            assert_eq!(float64(&text).map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
        for value in [0.0, -0.0, 0.1, 1e-5, 1e16, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY] {
            let text = print_float32(value);
            assert_eq!(float32(&text).map(f32::to_bits), Some(value.to_bits()), "{text}");
        }
    }
}
