use std::any::Any;
use std::error::Error;

/// An error, then what caused it, down to the first cause.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (**error).source())
}

/// An error with all that caused it, in one line; what a cause repeats is said once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).fold(String::new(), |mut text, error| {
        let cause = error.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        text
    })
}

/// At most so many bytes of a message, cut between characters, with a mark where it was cut.
#[must_use]
pub fn bounded(message: &str, longest: usize) -> String {
    const CUT: &str = "…";
    if message.len() <= longest {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(longest.saturating_sub(CUT.len()));
    format!("{}{CUT}", message.get(..end).unwrap_or_default())
}

/// What a thread said when it panicked, as whoever joins it gets it.
#[must_use]
pub fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|cause| cause.as_ref() as _)
        }
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let error = Link("cannot read: disk", Some(Box::new(Link("disk", Some(Box::new(Link("EIO", None)))))));
        assert_eq!(causes(&error).count(), 3);
        assert_eq!(chain(&error), "cannot read: disk: EIO");
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        for (panic, words) in [
            (Box::new("plain") as Box<dyn Any + Send>, "plain"),
            (Box::new("made".to_owned()), "made"),
            (Box::new(17), "without words"),
        ] {
            assert_eq!(panic_words(panic.as_ref()), words);
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(bounded("short", 5), "short");
        for shift in 0..8 {
            let cut = bounded(&format!("{}{}", "x".repeat(shift), "🦀é".repeat(400)), 1_024);
            assert!(cut.len() <= 1_024 && cut.len() > 1_024 - 8 && cut.ends_with('…'), "{}", cut.len());
        }
    }
}
