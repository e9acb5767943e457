//! How to log.

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::reader::Section;

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// JSON lines instead of text.
    pub json: bool,
    /// What [`targets`] reads, such as `info` or `info,ca_server=debug`.
    pub filter: String,
}

impl Log {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let mut section = root.section("log");
        let json = match section.text("format").as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => {
                section.fault(
                    "format",
                    format!("{other:?} is neither \"text\" nor \"json\""),
                );
                false
            }
        };
        let filter = section.text("filter").unwrap_or_else(|| "info".to_owned());
        if let Err(error) = targets(&filter) {
            section.fault("filter", error);
        }
        section.finish();
        Self { json, filter }
    }
}

/// A filter: levels with commas between them, each for all modules or, as `module=level`, for one and those below it.
///
/// # Errors
/// What is none. A library that took `inf` for the name of a module would log nothing.
pub fn targets(filter: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for part in filter.split(',').map(str::trim) {
        let (module, level) = part
            .split_once('=')
            .map_or((None, part), |(module, level)| {
                (Some(module.trim()), level.trim())
            });
        let known: Option<LevelFilter> = match level.is_empty() {
            true => None,
            false => level.parse().ok(),
        };
        targets = match (module, known) {
            (None, Some(level)) => targets.with_default(level),
            (Some(module), Some(level)) if is_module(module) => targets.with_target(module, level),
            _ => {
                return Err(format!(
                    "{part:?} is neither a level (off, error, warn, info, debug, trace) nor module=level"
                ));
            }
        };
    }
    Ok(targets)
}

fn is_module(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    !name.is_empty() && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_filter_is_levels_for_all_and_for_modules() {
        let both = targets("info, ca_server=debug,h2=off").unwrap();
        assert!(both.would_enable("sqlx", &Level::INFO));
        assert!(!both.would_enable("sqlx", &Level::DEBUG));
        assert!(both.would_enable("ca_server::app", &Level::DEBUG));
        assert!(!both.would_enable("h2", &Level::ERROR));
        for none in [
            "",
            "inf",
            "info,",
            "=debug",
            "ca_server=",
            "a=b=info",
            "[span]=info",
        ] {
            assert!(targets(none).is_err(), "{none}");
        }
    }
}
