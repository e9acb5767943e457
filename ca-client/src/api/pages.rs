//! A list, page by page.

use serde_json::Value;

use super::{ApiClient, ApiError, Call};

/// The most items that the API gives at a time.
const LARGEST_PAGE: usize = 500;

/// The pages of a list that are still to come.
pub struct Pages<'a> {
    client: &'a ApiClient,
    call: Call,
    next: Next,
    left: Option<usize>,
}

enum Next {
    First,
    At(String),
    None,
}

impl<'a> Pages<'a> {
    pub(super) fn new(client: &'a ApiClient, call: Call, limit: Option<usize>) -> Self {
        let size = limit.map_or(LARGEST_PAGE, |limit| limit.clamp(1, LARGEST_PAGE));
        Self {
            client,
            call: call.query("limit", Some(size)),
            next: Next::First,
            left: limit,
        }
    }

    /// The next page; `None` when there is no more, or the limit is reached.
    ///
    /// # Errors
    /// When the server does not answer, or answers with something else than a page.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, ApiError> {
        let call = match (&self.next, self.left) {
            (Next::None, _) | (_, Some(0)) => return Ok(None),
            (Next::First, _) => self.call.clone(),
            (Next::At(page), _) => self.call.at_page(page),
        };
        let broken = |reason: &str| ApiError::Answer {
            address: self.client.address().to_owned(),
            reason: reason.to_owned(),
        };
        let mut page = self.client.send(&call).await?.json()?;
        let Some(Value::Array(mut items)) = page.get_mut("items").map(Value::take) else {
            return Err(broken("it has no list of items"));
        };
        self.next = match page.get("next") {
            None | Some(Value::Null) => Next::None,
            Some(Value::String(next)) => {
                if matches!(&self.next, Next::At(here) if here == next) {
                    return Err(broken("the next page is the same page again"));
                }
                Next::At(next.clone())
            }
            Some(_) => return Err(broken("its next page is not a text")),
        };
        if let Some(left) = &mut self.left {
            items.truncate(*left);
            *left -= items.len();
        }
        Ok(Some(items))
    }

    /// Whether the server has more than was asked for.
    #[must_use]
    pub fn has_more(&self) -> bool {
        matches!(self.next, Next::At(_))
    }
}
