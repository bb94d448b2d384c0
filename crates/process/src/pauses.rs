use std::time::Duration;

/// Pauses after failures in a row: each twice as long as the one before, up to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    pub first: Duration,
    pub longest: Duration,
}

impl Pauses {
    /// The pause after the last of so many failures in a row; none after none.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// A pause between two lengths, by a random number: those who failed in one moment do not come back in one.
#[must_use]
pub fn between(least: Duration, most: Duration, chance: u8) -> Duration {
    least.saturating_add(most.saturating_sub(least) / 256 * u32::from(chance))
}

/// A pause of about that length: by chance up to a `part`-th shorter or longer.
#[must_use]
pub fn about(pause: Duration, part: u32) -> Duration {
    let most = pause / part;
    between(pause.saturating_sub(most), pause.saturating_add(most), chance())
}

/// A random number for [`between`].
#[must_use]
pub fn chance() -> u8 {
    let [.., last] = uuid::Uuid::new_v4().into_bytes();
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_nothing_is_waited_for_before_a_failure() {
        let pauses = Pauses { first: Duration::from_millis(200), longest: Duration::from_secs(5) };
        let after = |failures| pauses.after(failures).as_millis();
        assert_eq!([0, 1, 2, 3, 5, 6, 40, u32::MAX].map(after), [0, 200, 400, 800, 3_200, 5_000, 5_000, 5_000]);
    }

    proptest! {
        #[test]
        fn chance_keeps_within_its_bounds(pause in 1_u64..100_000_000, part in 1_u32..20, chance: u8) {
            let pause = Duration::from_micros(pause);
            prop_assert!((pause..=pause * 2).contains(&between(pause, pause * 2, chance)));
            let about = about(pause, part);
            prop_assert!(about >= pause - pause / part && about <= pause + pause / part, "{about:?}");
        }
    }

    #[test]
    fn chance_reaches_nearly_all_there_is() {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(between(least, most, 0), least);
        assert!(between(least, most, u8::MAX) > Duration::from_millis(1_990));
        assert_eq!(between(most, least, u8::MAX), most, "bounds that cross leave no room for chance");
    }
}
