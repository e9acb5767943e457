//! Points in time and lifetimes, in whole seconds.

use std::fmt;
use std::str::FromStr;

use der::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: whole seconds since 1970-01-01T00:00:00Z, from then to the end of the year 9999
/// (the last instant that RFC 5280 §4.1.2.5 can write).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last second of the year 9999.
const LATEST_UNIX_SECONDS: i64 = 253_402_300_799;

impl Timestamp {
    /// The first instant that can be written.
    pub const EPOCH: Self = Self(0);

    /// Takes seconds since 1970; what lies outside the writable range is moved to its nearest end.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        if seconds < 0 {
            Self(0)
        } else if seconds > LATEST_UNIX_SECONDS {
            Self(LATEST_UNIX_SECONDS)
        } else {
            Self(seconds)
        }
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// This instant and `ttl` more.
    #[must_use]
    pub const fn plus(self, ttl: Ttl) -> Self {
        Self::from_unix(self.0 + ttl.0)
    }

    /// `ttl` before this instant.
    #[must_use]
    pub const fn minus(self, ttl: Ttl) -> Self {
        Self::from_unix(self.0 - ttl.0)
    }

    /// Whole seconds from `earlier` to this instant; negative when `earlier` is later.
    #[must_use]
    pub const fn seconds_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// Days since 1970, the partition key of a record; the last representable day is 65535 (the year 2149).
    #[must_use]
    pub fn day(self) -> u16 {
        u16::try_from(self.0 / SECONDS_PER_DAY).unwrap_or(u16::MAX)
    }

    pub(crate) fn date_time(self) -> DateTime {
        let seconds = u64::try_from(self.0).unwrap_or(0);
        DateTime::from_unix_duration(std::time::Duration::from_secs(seconds))
            .unwrap_or(DateTime::INFINITY)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, in UTC: `2026-11-24T02:53:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.date_time();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minutes(),
            t.seconds()
        )
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(s: &str) -> Result<Self, TimeError> {
        let time: DateTime = s
            .parse()
            .map_err(|_| TimeError::NotATimestamp(s.to_owned()))?;
        let seconds = i64::try_from(time.unix_duration().as_secs())
            .map_err(|_| TimeError::NotATimestamp(s.to_owned()))?;
        Ok(Self::from_unix(seconds))
    }
}

/// A lifetime: whole seconds, from one second to fifty years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(i64);

const SECONDS_PER_MINUTE: i64 = 60;
const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_DAY: i64 = 86_400;
/// A year of 365 days: lifetimes are lengths, not calendar dates.
const SECONDS_PER_YEAR: i64 = 365 * SECONDS_PER_DAY;
const LONGEST_TTL_SECONDS: i64 = 50 * SECONDS_PER_YEAR;

impl Ttl {
    /// Takes seconds.
    ///
    /// # Errors
    /// When `seconds` is less than one or more than fifty years.
    pub const fn from_seconds(seconds: i64) -> Result<Self, TimeError> {
        if seconds < 1 || seconds > LONGEST_TTL_SECONDS {
            return Err(TimeError::TtlOutOfRange(seconds));
        }
        Ok(Self(seconds))
    }

    /// A lifetime of `n` minutes, for constants; zero counts as one, and the longest lifetime is the bound.
    #[must_use]
    pub const fn minutes(n: u32) -> Self {
        Self::bounded(n as i64 * SECONDS_PER_MINUTE)
    }

    /// A lifetime of `n` hours; bounded like [`Ttl::minutes`].
    #[must_use]
    pub const fn hours(n: u32) -> Self {
        Self::bounded(n as i64 * SECONDS_PER_HOUR)
    }

    /// A lifetime of `n` days; bounded like [`Ttl::minutes`].
    #[must_use]
    pub const fn days(n: u32) -> Self {
        Self::bounded(n as i64 * SECONDS_PER_DAY)
    }

    const fn bounded(seconds: i64) -> Self {
        if seconds < 1 {
            Self(1)
        } else if seconds > LONGEST_TTL_SECONDS {
            Self(LONGEST_TTL_SECONDS)
        } else {
            Self(seconds)
        }
    }

    /// The length in seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Ttl {
    /// The largest unit that divides it: `24h` is written `1d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (length, unit) in UNITS {
            if self.0 % length == 0 {
                return write!(f, "{}{unit}", self.0 / length);
            }
        }
        write!(f, "{}s", self.0)
    }
}

const UNITS: [(i64, char); 5] = [
    (SECONDS_PER_YEAR, 'y'),
    (SECONDS_PER_DAY, 'd'),
    (SECONDS_PER_HOUR, 'h'),
    (SECONDS_PER_MINUTE, 'm'),
    (1, 's'),
];

impl FromStr for Ttl {
    type Err = TimeError;

    /// A number and one unit: `30s`, `15m`, `24h`, `90d`, `10y`.
    fn from_str(s: &str) -> Result<Self, TimeError> {
        let not_a_ttl = || TimeError::NotATtl(s.to_owned());
        let unit = s.chars().last().ok_or_else(not_a_ttl)?;
        let (length, _) = UNITS
            .iter()
            .find(|(_, name)| *name == unit)
            .ok_or_else(not_a_ttl)?;
        let digits = &s[..s.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(not_a_ttl());
        }
        let count: i64 = digits.parse().map_err(|_| not_a_ttl())?;
        let seconds = count.checked_mul(*length).ok_or_else(not_a_ttl)?;
        Self::from_seconds(seconds)
    }
}

/// Why a time or a lifetime was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339 in UTC.
    #[error("{0:?} is not a time like 2026-11-24T02:53:00Z")]
    NotATimestamp(String),
    /// Not a number with a unit.
    #[error("{0:?} is not a lifetime like 30s, 15m, 24h, 90d or 10y")]
    NotATtl(String),
    /// Outside one second to fifty years.
    #[error("a lifetime of {0} s is outside 1 s to 50 years")]
    TtlOutOfRange(i64),
}

macro_rules! serde_by_display {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_by_display;

serde_by_display!(Timestamp);
serde_by_display!(Ttl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_through_text() {
        for seconds in [0, 1_795_489_980, 4_102_444_800, LATEST_UNIX_SECONDS] {
            let time = Timestamp::from_unix(seconds);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!(
            Timestamp::from_unix(1_795_488_780).to_string(),
            "2026-11-24T02:53:00Z"
        );
    }

    #[test]
    fn lifetimes_are_read_with_their_unit_and_nothing_else() {
        assert_eq!("24h".parse(), Ok(Ttl::days(1)));
        assert_eq!("90d".parse::<Ttl>().unwrap().seconds(), 90 * 86_400);
        for bad in [
            "",
            "h",
            "-1h",
            "+1h",
            "1",
            "1.5h",
            "1 h",
            "0s",
            "51y",
            "99999999999999999999d",
            "1ä",
        ] {
            assert!(bad.parse::<Ttl>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn arithmetic_stays_inside_the_writable_range() {
        assert_eq!(Timestamp::EPOCH.minus(Ttl::days(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_unix(i64::MAX).unix(), LATEST_UNIX_SECONDS);
    }
}
