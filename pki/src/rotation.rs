//! When the next authority of a cluster takes over: pure decisions over two slots.

use crate::time::{Timestamp, Ttl};

/// A cluster's authority takes over this long before the end of the one before it (DESIGN: "30 days before its end").
const TAKE_OVER_BEFORE_END: Ttl = Ttl::days(30);

/// The validity of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second, that of every CA above it counted in.
    pub not_after: Timestamp,
}

/// When the authority that signs now is to be replaced: thirty days before its end, or as long before as its leaves
/// live when that is longer; never before half of its life.
#[must_use]
pub fn replacement_due(active: Life, longest_leaf: Ttl) -> Timestamp {
    let margin = TAKE_OVER_BEFORE_END.max(longest_leaf);
    let half = active.not_after.seconds_since(active.not_before) / 2;
    let half_time = Timestamp::from_unix(active.not_before.unix() + half);
    active.not_after.minus(margin).max(half_time)
}

/// Whether an authority has enough life left to sign: it ends no sooner than a leaf that it signs now would.
///
/// # Errors
/// When it is not valid yet or has too little life left.
pub fn may_activate(next: Life, longest_leaf: Ttl, now: Timestamp) -> Result<(), TooShort> {
    if now < next.not_before || now.plus(longest_leaf) > next.not_after {
        return Err(TooShort {
            not_after: next.not_after,
            longest_leaf,
        });
    }
    Ok(())
}

/// Too little life left to begin signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the authority ends at {not_after}, sooner than the {longest_leaf} that its leaves may live"
)]
pub struct TooShort {
    /// When it ends.
    pub not_after: Timestamp,
    /// How long its leaves may live.
    pub longest_leaf: Ttl,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn life(ttl: Ttl) -> Life {
        Life {
            not_before: START,
            not_after: START.plus(ttl),
        }
    }

    #[test]
    fn a_years_authority_is_replaced_thirty_days_before_its_end() {
        let year = life(Ttl::days(365));
        assert_eq!(
            replacement_due(year, Ttl::days(1)),
            START.plus(Ttl::days(335))
        );
        assert_eq!(
            replacement_due(year, Ttl::days(90)),
            START.plus(Ttl::days(275))
        );
    }

    #[test]
    fn a_short_authority_is_replaced_at_half_its_life() {
        assert_eq!(
            replacement_due(life(Ttl::days(2)), Ttl::hours(1)),
            START.plus(Ttl::days(1))
        );
    }

    proptest! {
        #[test]
        fn an_active_authority_outlives_the_leaves_it_begins_with(life_days in 1u32..900, leaf_hours in 1u32..5000, after in 0i64..80_000_000) {
            let (next, leaf) = (life(Ttl::days(life_days)), Ttl::hours(leaf_hours));
            let now = Timestamp::from_unix(START.unix() + after);
            if may_activate(next, leaf, now).is_ok() {
                prop_assert!(now.plus(leaf) <= next.not_after);
            }
        }
    }
}
