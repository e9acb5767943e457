//! PKCS#11 URIs (RFC 7512): which key, in which token.

use std::fmt;
use std::path::{Path, PathBuf};

/// A token, and a key in it where one is named: `pkcs11:token=ca;object=root`.
///
/// One of `token`, `serial` and `slot-id` says which token; `object` (the label), `id` or both say which key. Every
/// attribute stands once and is not empty. Never a PIN: a URI is written into configurations, records and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyUri {
    token: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    slot_id: Option<u64>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    module_path: Option<PathBuf>,
}

/// A token as it describes itself (`CK_TOKEN_INFO`, without the padding), and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenDescription<'a> {
    /// Its label.
    pub label: &'a str,
    /// Who made it.
    pub manufacturer: &'a str,
    /// Its model.
    pub model: &'a str,
    /// Its serial number.
    pub serial: &'a str,
    /// The slot that it is in; of some modules another one after each start.
    pub slot_id: u64,
}

const SCHEME: &str = "pkcs11:";
/// The longest URI that is read, in bytes.
const MAX_BYTES: usize = 4096;
/// The lengths of CK_TOKEN_INFO's fields, in bytes.
const MAX_LABEL_BYTES: usize = 32;
const MAX_MANUFACTURER_BYTES: usize = 32;
const MAX_MODEL_BYTES: usize = 16;
const MAX_SERIAL_BYTES: usize = 16;
/// PKCS#11 sets no bound on a key's label and id; no token that we know goes beyond these.
const MAX_OBJECT_BYTES: usize = 255;
const MAX_ID_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 1024;

impl KeyUri {
    /// Takes a URI as text: `pkcs11:` in lower case, path attributes parted by `;`, and after a `?` perhaps
    /// `module-path`. `type` may only be `private`, which is what is always meant.
    ///
    /// # Errors
    /// When an attribute is unknown, repeated, empty, too long or not text, no attribute says which token, or there is
    /// a PIN in it. Of an error's words none is an attribute's value.
    pub fn parse(s: &str) -> Result<Self, KeyUriError> {
        if s.len() > MAX_BYTES {
            return Err(KeyUriError::TooLong {
                attribute: "uri",
                max: MAX_BYTES,
            });
        }
        let rest = s.strip_prefix(SCHEME).ok_or(KeyUriError::Scheme)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        let mut typed = None;
        for pair in path.split(';') {
            let (name, value) = split(pair)?;
            match name {
                "token" => once("token", &mut uri.token, text(name, value)?)?,
                "manufacturer" => {
                    once("manufacturer", &mut uri.manufacturer, text(name, value)?)?;
                }
                "serial" => once("serial", &mut uri.serial, text(name, value)?)?,
                "model" => once("model", &mut uri.model, text(name, value)?)?,
                "object" => once("object", &mut uri.object, text(name, value)?)?,
                "id" => once("id", &mut uri.id, decode("id", value)?)?,
                "slot-id" => once("slot-id", &mut uri.slot_id, slot(value)?)?,
                "type" => once("type", &mut typed, private(value)?)?,
                _ => return Err(KeyUriError::unknown(name)),
            }
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = split(pair)?;
            match name {
                "module-path" => {
                    let path = PathBuf::from(text(name, value)?);
                    once("module-path", &mut uri.module_path, path)?;
                }
                _ => return Err(KeyUriError::unknown(name)),
            }
        }
        uri.checked()
    }

    /// The token with this label and serial number, both as the token says them.
    ///
    /// # Errors
    /// When both are empty, or one cannot stand in a URI.
    pub fn of_token(label: &str, serial: &str) -> Result<Self, KeyUriError> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            token: given(label),
            serial: given(serial),
            ..Self::default()
        }
        .checked()
    }

    /// A key in the same token. What named another key, or the module, is dropped: a module lies elsewhere on another
    /// machine.
    ///
    /// # Errors
    /// When neither a label nor an id is given, or one cannot stand in a URI.
    pub fn with_key(&self, object: Option<&str>, id: Option<&[u8]>) -> Result<Self, KeyUriError> {
        let uri = Self {
            object: object.map(str::to_owned),
            id: id.map(<[u8]>::to_vec),
            module_path: None,
            ..self.clone()
        }
        .checked()?;
        if uri.names_key() {
            Ok(uri)
        } else {
            Err(KeyUriError::NoKey)
        }
    }

    /// The token alone, by what names it on every machine and day: without a key and the module, and without the slot where
    /// something else names the token.
    #[must_use]
    pub fn token_alone(&self) -> Self {
        Self {
            object: None,
            id: None,
            module_path: None,
            slot_id: self.slot_id.filter(|_| self.is_by_slot_alone()),
            ..self.clone()
        }
    }

    /// The bounds that hold however a URI came to be.
    fn checked(self) -> Result<Self, KeyUriError> {
        for (attribute, value, max) in [
            ("token", &self.token, MAX_LABEL_BYTES),
            ("manufacturer", &self.manufacturer, MAX_MANUFACTURER_BYTES),
            ("serial", &self.serial, MAX_SERIAL_BYTES),
            ("model", &self.model, MAX_MODEL_BYTES),
            ("object", &self.object, MAX_OBJECT_BYTES),
        ] {
            let Some(value) = value else { continue };
            bounded(attribute, value.as_bytes(), max)?;
            if value.chars().any(char::is_control) {
                return Err(KeyUriError::NotText { attribute });
            }
        }
        if let Some(id) = &self.id {
            bounded("id", id, MAX_ID_BYTES)?;
        }
        if let Some(path) = &self.module_path {
            let bytes = path.as_os_str().as_encoded_bytes();
            bounded("module-path", bytes, MAX_PATH_BYTES)?;
            if bytes.iter().any(u8::is_ascii_control) {
                return Err(KeyUriError::NotText {
                    attribute: "module-path",
                });
            }
            if bytes[0] != b'/' {
                return Err(KeyUriError::RelativeModule);
            }
        }
        if self.token.is_none() && self.serial.is_none() && self.slot_id.is_none() {
            return Err(KeyUriError::NoToken);
        }
        Ok(self)
    }

    /// Whether it says which key, not only which token.
    #[must_use]
    pub fn names_key(&self) -> bool {
        self.object.is_some() || self.id.is_some()
    }

    /// Whether every attribute of a token that stands in it is this token's.
    #[must_use]
    pub fn is_of(&self, token: &TokenDescription<'_>) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        fits(&self.token, token.label)
            && fits(&self.manufacturer, token.manufacturer)
            && fits(&self.model, token.model)
            && fits(&self.serial, token.serial)
            && self.slot_id.is_none_or(|slot| slot == token.slot_id)
    }

    /// Whether it names its token by nothing but the slot, which is another one on another machine or day.
    #[must_use]
    pub fn is_by_slot_alone(&self) -> bool {
        self.token.is_none() && self.serial.is_none()
    }

    /// The token's label.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The token's serial number.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// The key's label.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// The module that reaches the token, an absolute path.
    #[must_use]
    pub fn module_path(&self) -> Option<&Path> {
        self.module_path.as_deref()
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        let slot_id = self.slot_id.map(|slot| slot.to_string());
        let mut parting = "";
        for (name, value) in [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("model", &self.model),
            ("slot-id", &slot_id),
            ("object", &self.object),
        ] {
            let Some(value) = value else { continue };
            write!(f, "{parting}{name}=")?;
            encode(f, value.as_bytes())?;
            parting = ";";
        }
        if let Some(id) = &self.id {
            write!(f, "{parting}id=")?;
            // RFC 7512 §2.3: an id is percent-encoded whole, since its bytes are no text.
            id.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
        }
        if let Some(path) = &self.module_path {
            f.write_str("?module-path=")?;
            encode(f, path.as_os_str().as_encoded_bytes())?;
        }
        Ok(())
    }
}

impl std::str::FromStr for KeyUri {
    type Err = KeyUriError;

    fn from_str(s: &str) -> Result<Self, KeyUriError> {
        Self::parse(s)
    }
}

impl serde::Serialize for KeyUri {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for KeyUri {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn split(pair: &str) -> Result<(&str, &str), KeyUriError> {
    pair.split_once('=').ok_or(KeyUriError::NotAPair)
}

fn once<T>(attribute: &'static str, slot: &mut Option<T>, value: T) -> Result<(), KeyUriError> {
    match slot.replace(value) {
        Some(_) => Err(KeyUriError::Repeated { attribute }),
        None => Ok(()),
    }
}

/// Decodes `%41` to `A`. What RFC 7512 §2.3 wants encoded and is not is refused; so are `&`, `?` and `|`, which it lets
/// stand in places, and behind which a misplaced `pin-value=` would hide in another attribute's value.
fn decode(attribute: &'static str, value: &str) -> Result<Vec<u8>, KeyUriError> {
    let refused = KeyUriError::Encoding { attribute };
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let [Some(high), Some(low)] = digits.map(|d| d.and_then(hex_digit)) else {
                    return Err(refused);
                };
                high << 4 | low
            }
            _ if is_plain(byte) => byte,
            _ => return Err(refused),
        });
    }
    Ok(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// What needs no encoding in an attribute of the path or of the query (RFC 7512 §2.3), and `/`, which stands in the
/// path attributes of many tools.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]@!$'()*+,=/".contains(&byte)
}

fn encode(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    use fmt::Write;
    for byte in bytes {
        if is_plain(*byte) {
            f.write_char(char::from(*byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

fn text(name: &str, value: &str) -> Result<String, KeyUriError> {
    let attribute = known(name);
    String::from_utf8(decode(attribute, value)?).map_err(|_| KeyUriError::NotText { attribute })
}

/// The attribute's name as it lives in errors.
fn known(name: &str) -> &'static str {
    [
        "token",
        "manufacturer",
        "serial",
        "model",
        "object",
        "module-path",
    ]
    .into_iter()
    .find(|known| *known == name)
    .unwrap_or("uri")
}

fn slot(value: &str) -> Result<u64, KeyUriError> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(KeyUriError::Slot);
    }
    value.parse().map_err(|_| KeyUriError::Slot)
}

fn private(value: &str) -> Result<(), KeyUriError> {
    (value == "private").then_some(()).ok_or(KeyUriError::Type)
}

fn bounded(attribute: &'static str, value: &[u8], max: usize) -> Result<(), KeyUriError> {
    if value.is_empty() {
        return Err(KeyUriError::Empty { attribute });
    }
    if value.len() > max {
        return Err(KeyUriError::TooLong { attribute, max });
    }
    Ok(())
}

/// Why a PKCS#11 URI was not taken. It never repeats a value: a PIN may be among them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyUriError {
    /// An attribute without a value.
    #[error("{attribute} is empty in the PKCS#11 URI")]
    Empty {
        /// The attribute.
        attribute: &'static str,
    },
    /// A character that has to be percent-encoded, or `%` without two hexadecimal digits.
    #[error("{attribute} in the PKCS#11 URI is not percent-encoded (RFC 7512 §2.3)")]
    Encoding {
        /// The attribute.
        attribute: &'static str,
    },
    /// Nothing says which key.
    #[error("the PKCS#11 URI names no key: it needs object= (its label) or id=")]
    NoKey,
    /// Nothing says which token.
    #[error("the PKCS#11 URI names no token: it needs token= (its label), serial= or slot-id=")]
    NoToken,
    /// Something without `=`.
    #[error("something in the PKCS#11 URI is not attribute=value")]
    NotAPair,
    /// Not UTF-8, or with a control character.
    #[error("{attribute} in the PKCS#11 URI is not text")]
    NotText {
        /// The attribute.
        attribute: &'static str,
    },
    /// A PIN, or where to find one.
    #[error(
        "the PKCS#11 URI has a PIN in it (pin-value or pin-source): a PIN goes in a file of its own, readable by its user alone"
    )]
    Pin,
    /// A module path that depends on the working directory.
    #[error("module-path in the PKCS#11 URI is not absolute")]
    RelativeModule,
    /// An attribute that stands twice.
    #[error("{attribute} stands twice in the PKCS#11 URI")]
    Repeated {
        /// The attribute.
        attribute: &'static str,
    },
    /// Another scheme, or another case.
    #[error("a PKCS#11 URI begins with pkcs11: in lower case")]
    Scheme,
    /// Not a slot's number.
    #[error("slot-id in the PKCS#11 URI is not a number")]
    Slot,
    /// More bytes than its kind has.
    #[error("{attribute} in the PKCS#11 URI has more than {max} bytes")]
    TooLong {
        /// The attribute, or `uri` for the whole.
        attribute: &'static str,
        /// The bound in bytes.
        max: usize,
    },
    /// Another type of object than a private key.
    #[error("type in the PKCS#11 URI is not private")]
    Type,
    /// An attribute that is not read here.
    #[error("the PKCS#11 URI has an attribute {attribute:?}, which is not read here")]
    Unknown {
        /// Its name, cut to 32 characters.
        attribute: String,
    },
}

impl KeyUriError {
    fn unknown(name: &str) -> Self {
        match name {
            "pin-value" | "pin-source" => Self::Pin,
            _ => Self::Unknown {
                attribute: name.chars().take(32).collect(),
            },
        }
    }
}

#[cfg(test)]
#[path = "key_uri_tests.rs"]
mod tests;
