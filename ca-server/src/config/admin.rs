//! `[admin]`: how the API is administered.

use std::collections::BTreeSet;

use super::OidcSettings;
use super::reader::Section;
use crate::app::acts::ActKind;

/// How the API is administered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The acts that wait for a second person.
    pub two_person: BTreeSet<ActKind>,
    /// Who may say who an administrator is.
    pub oidc: Vec<OidcSettings>,
    /// Calls that one principal may make in a minute.
    pub per_caller_per_minute: u32,
}

impl AdminSettings {
    /// For [`super::Config::describe`].
    pub(super) fn describe(&self) -> String {
        let kinds: Vec<_> = self.two_person.iter().map(|kind| kind.as_str()).collect();
        let two_person = match kinds.is_empty() {
            true => "(none)".to_owned(),
            false => kinds.join(", "),
        };
        let oidc: String = self.oidc.iter().map(OidcSettings::describe).collect();
        format!(
            "admin.two_person = {two_person}\nadmin.per_caller_per_minute = {}\n{oidc}",
            self.per_caller_per_minute
        )
    }

    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let mut section = root.section("admin");
        let mut two_person = BTreeSet::new();
        for name in section.list("two_person") {
            let kind = ActKind::ALL.into_iter().find(|kind| kind.as_str() == name);
            match kind {
                Some(kind) => {
                    two_person.insert(kind);
                }
                None => {
                    let known: Vec<_> = ActKind::ALL.iter().map(|kind| kind.as_str()).collect();
                    section.fault(
                        "two_person",
                        format!("{name:?} is no such act: expected {}", known.join(", ")),
                    );
                }
            }
        }
        let per_caller_per_minute = section.number("per_caller_per_minute", 1_200, 6, 1_000_000);
        let oidc = OidcSettings::read_all(&mut section);
        section.finish();
        Self {
            two_person,
            oidc,
            per_caller_per_minute,
        }
    }
}
