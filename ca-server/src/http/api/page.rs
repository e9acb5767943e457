//! Lists, a page at a time. A page begins after the last thing of the one before, however much came or went meanwhile.

use axum::http::StatusCode;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::Call;
use super::fault::Fault;
use crate::app::Error;

/// Where a page begins and how long it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many at most.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub(super) limit: u32,
    /// The `next` of the page before.
    pub(super) page: Option<String>,
}

/// How many things a page has where nobody says.
pub(super) const fn default_limit() -> u32 {
    100
}

/// How many, within bounds.
pub(super) fn bounded(limit: u32) -> Result<u32, Fault> {
    if (1..=500).contains(&limit) {
        Ok(limit)
    } else {
        Err(Fault::malformed(format!(
            "the query: limit is 1 to 500, not {limit}"
        )))
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// What is on it.
    pub(super) items: Vec<T>,
    /// The next page's `page`; null on the last one.
    pub(super) next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is short enough to be one page each `limit` things, in their order, each found again by its key.
    pub(super) fn of(
        call: &Call,
        items: Vec<T>,
        limit: u32,
        page: Option<&str>,
        key: impl Fn(&T) -> String,
    ) -> Result<Self, Fault> {
        let limit = usize::try_from(bounded(limit)?).unwrap_or(usize::MAX);
        let after: Option<String> = page.map(|page| read(call, page)).transpose()?;
        let mut rest: Vec<T> = match after {
            None => items,
            // Gone meanwhile: what would have come after it still does, where the keys are in order.
            Some(after) => match items.iter().position(|item| key(item) == after) {
                Some(at) => items.into_iter().skip(at + 1).collect(),
                None => items.into_iter().filter(|item| key(item) > after).collect(),
            },
        };
        let more = rest.len() > limit;
        rest.truncate(limit);
        let last = rest.last().filter(|_| more);
        let next = last.map(|last| write(call, &key(last))).transpose()?;
        Ok(Self { items: rest, next })
    }
}

/// A place in a list as text that means nothing to anybody else, and nothing in another list: something may stand there that
/// the caller does not see.
pub(super) fn write<T: Serialize>(call: &Call, place: &T) -> Result<String, Fault> {
    let json = serde_json::to_vec(place).unwrap_or_default();
    let key = &call.context().key_encryption_key;
    let sealed = key
        .seal_bytes(&list(call), &json)
        .map_err(Error::internal)?;
    Ok(Base64UrlUnpadded::encode_string(&sealed))
}

fn list(call: &Call) -> Vec<u8> {
    format!("page of {}", call.permit.operation().as_str()).into_bytes()
}

/// Reads a place.
pub(super) fn read<T: DeserializeOwned>(call: &Call, text: &str) -> Result<T, Fault> {
    let key = &call.context().key_encryption_key;
    Base64UrlUnpadded::decode_vec(text)
        .ok()
        .and_then(|sealed| key.open_bytes(&list(call), &sealed).ok())
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| {
            let text = "there is no such page: it is the `next` of another page of the same list";
            Fault::new(StatusCode::NOT_FOUND, "page", text)
        })
}
