//! Times as people read them: the instant, and how far off it is.

use pki::time::Timestamp;

const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];

/// How far `time` is from `now`: `in 3h`, `20m ago`, `now`.
fn relative(time: Timestamp, now: Timestamp) -> String {
    let seconds = time.seconds_since(now);
    let away = seconds.abs();
    // Two of a unit at least, so that a day's certificate is seen to shrink.
    let unit = UNITS.into_iter().find(|(length, _)| away >= 2 * length);
    let Some((length, unit)) = unit.or(if away == 1 { Some((1, "s")) } else { None }) else {
        return "now".to_owned();
    };
    let count = away / length;
    if seconds > 0 {
        format!("in {count}{unit}")
    } else {
        format!("{count}{unit} ago")
    }
}

/// The text of a time with how far off it is; any other text as it is.
pub(crate) fn annotated(text: &str, now: Timestamp) -> String {
    match read(text) {
        Some(time) => format!("{text} ({})", relative(time, now)),
        None => text.to_owned(),
    }
}

/// Reads what is certainly a time of RFC 3339 in UTC.
fn read(text: &str) -> Option<Timestamp> {
    let shape = text.len() == "2026-11-28T06:05:00Z".len() && text.ends_with('Z');
    shape.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_off_is_told_in_the_largest_unit_that_says_something() {
        let now: Timestamp = "2026-11-28T06:00:00Z".parse().unwrap();
        let at = |seconds: i64| relative(Timestamp::from_unix(now.unix() + seconds), now);
        for (seconds, text) in [
            (0, "now"),
            (1, "in 1s"),
            (-1, "1s ago"),
            (119, "in 119s"),
            (120, "in 2m"),
            (10_800, "in 3h"),
            (86_400, "in 24h"),
            (-172_800, "2d ago"),
        ] {
            assert_eq!(at(seconds), text);
        }
        assert_eq!(
            annotated("2026-11-28T09:00:00Z", now),
            "2026-11-28T09:00:00Z (in 3h)"
        );
        assert_eq!(annotated("central", now), "central");
    }
}
