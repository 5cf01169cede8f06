//! What V8's old generation may grow to: the limit that counts. Pure.
//!
//! `used_heap_size / heap_size_limit` does not tell. The limit includes room that V8 reserves for the young generation, three
//! semi-spaces: 48 MiB in Node 20 and 22, 192 MiB in Node 24, 96 MiB in Node 26. What the application keeps moves to the old
//! generation, and V8 ends the process when that one cannot grow any more. With `--max-old-space-size=512` this happens at 91 % of
//! `heap_size_limit` in Node 20 and at 72 % in Node 24.
//!
//! Called by `binding::heap` on Node's thread.

pub const MEBIBYTE: u64 = 1024 * 1024;

/// No version of V8 reserves more for the young generation than this share of the old one, unless it is told to: 3/128 in Node
/// 20, 22 and 26, 3/64 in Node 24.
const OLD_SHARE_OF_LIMIT: (u64, u64) = (64, 67);

/// The semi-spaces of the young generation: two to copy between, and as much again for large objects.
const SEMI_SPACES: u64 = 3;

/// What the process was told about its heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapSettings {
    /// Bytes of the old generation, of a worker or by `--max-old-space-size` and `--max-old-space-size-percentage`.
    pub old: Option<u64>,
    /// Bytes, `--max-semi-space-size`.
    pub semi_space: Option<u64>,
}

impl HeapSettings {
    /// The last of each flag counts. Hyphens and underscores are the same to V8.
    pub fn from_flags<'a>(flags: impl Iterator<Item = &'a str>, memory: impl Fn() -> Option<u64>) -> Self {
        let mut settings = Self::default();
        for flag in flags {
            let Some((name, value)) = flag.split_once('=') else { continue };
            let Ok(number) = value.parse::<f64>() else { continue };
            // V8 takes 0 for "not set".
            if number <= 0.0 {
                continue;
            }
            let mebibytes = Some((number as u64).saturating_mul(MEBIBYTE));
            match name.replace('_', "-").as_str() {
                "--max-old-space-size" => settings.old = mebibytes,
                "--max-old-space-size-percentage" => {
                    settings.old = memory().map(|memory| (memory as f64 * number / 100.0) as u64);
                }
                "--max-semi-space-size" => settings.semi_space = mebibytes,
                _ => {}
            }
        }
        settings
    }

    /// What the old generation may grow to.
    pub fn old_generation_limit(self, heap_size_limit: u64) -> u64 {
        let by_share = heap_size_limit / OLD_SHARE_OF_LIMIT.1 * OLD_SHARE_OF_LIMIT.0;
        let by_semi_space = self
            .semi_space
            .and_then(|bytes| bytes.div_ceil(MEBIBYTE).checked_next_power_of_two()?.checked_mul(SEMI_SPACES * MEBIBYTE))
            .and_then(|young| heap_size_limit.checked_sub(young));
        let told = self.old.filter(|old| *old <= heap_size_limit);
        by_semi_space.or(told).filter(|old| *old > 0).unwrap_or(by_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSET: HeapSettings = HeapSettings { old: None, semi_space: None };

    fn mebibytes(limit: u64, settings: HeapSettings) -> u64 {
        settings.old_generation_limit(limit * MEBIBYTE) / MEBIBYTE
    }

    fn parse(flags: &str) -> HeapSettings {
        HeapSettings::from_flags(flags.split(' '), || Some(1000 * MEBIBYTE))
    }

    #[test]
    fn the_old_generation_is_what_the_flag_says_whatever_is_reserved_beside_it() {
        for limit in [128 + 48, 128 + 192, 128 + 96] {
            assert_eq!(mebibytes(limit, parse("--max-old-space-size=128")), 128);
        }
        assert_eq!(mebibytes(512 + 192, parse("--max_old_space_size=512")), 512);
        assert_eq!(mebibytes(250 + 96, parse("--max-old-space-size-percentage=25")), 250);
    }

    #[test]
    fn the_size_of_the_semi_spaces_tells_what_is_left() {
        assert_eq!(mebibytes(128 + 3, parse("--max-old-space-size=128 --max-semi-space-size=1")), 128);
        assert_eq!(mebibytes(4096 + 12, parse("--max-semi-space-size=4")), 4096);
        // V8 rounds up to a power of two.
        assert_eq!(mebibytes(4096 + 24, parse("--max-semi-space-size=5")), 4096);
    }

    #[test]
    fn without_flags_the_limit_is_never_taken_to_be_larger_than_it_is() {
        // What Node 20, 24 and 26 have by default: 4096 MiB and the young generation.
        for limit in [4096 + 48, 4096 + 192, 4096 + 96] {
            let old = mebibytes(limit, UNSET);
            assert!((3950..=4096).contains(&old), "{old} of {limit}");
        }
    }

    #[test]
    fn the_last_flag_counts_and_nonsense_does_not() {
        assert_eq!(parse("--max-old-space-size=100 --max-old-space-size=200").old, Some(200 * MEBIBYTE));
        assert_eq!(
            parse("--max-old-space-size=0 --max-old-space-size --max-old-space-size=x --other=5 file.js"),
            UNSET
        );
        assert_eq!(mebibytes(670, HeapSettings { old: Some(u64::MAX), semi_space: Some(10_000 * MEBIBYTE) }), 640);
    }
}
