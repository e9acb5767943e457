//! The keys in a token: finding them, reading what they say, making them.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use pki::key::{KeyAlgorithm, KeyError, PublicKey};
use pki::name::KeyUri;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::{Fault, TokenError};
use super::origin::KeyOrigin;
use super::session::Link;

/// Octets of a new key's id: enough that no two keys of any token ever share one.
const ID_BYTES: usize = 16;
/// Octets of a new secret.
const SECRET_BYTES: usize = 32;

/// Which kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Private,
    Secret,
}

impl Kind {
    fn class(self) -> ObjectClass {
        match self {
            Self::Private => ObjectClass::PRIVATE_KEY,
            Self::Secret => ObjectClass::SECRET_KEY,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Private => "private key",
            Self::Secret => "secret key",
        }
    }
}

/// A key as the threads look it up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyName {
    pub(super) kind: Kind,
    /// Names the key by its label, its id, or both.
    pub(super) uri: KeyUri,
}

/// What is to be known of a private key to sign with it.
pub(super) struct Found {
    pub(super) uri: KeyUri,
    pub(super) public_key: PublicKey,
    pub(super) origin: KeyOrigin,
}

impl Link {
    /// The handle of a key, looked up once in each session.
    pub(super) fn handle(&mut self, name: &KeyName) -> Result<ObjectHandle, Fault> {
        if let Some(handle) = self.keys.get(name) {
            return Ok(*handle);
        }
        let handle = self.look_up(name)?;
        self.keys.insert(name.clone(), handle);
        Ok(handle)
    }

    /// The one key that fits.
    fn look_up(&self, name: &KeyName) -> Result<ObjectHandle, Fault> {
        let uri = &name.uri;
        let found =
            self.session
                .find_objects(&template(name.kind.class(), uri.object(), uri.id()))?;
        match found[..] {
            [handle] => Ok(handle),
            [] => {
                // A token that was lost may show itself empty instead of failing.
                self.check()?;
                Err(Fault::Final(TokenError::NoKey {
                    what: name.kind.words(),
                    uri: Box::new(uri.clone()),
                }))
            }
            _ => Err(Fault::Final(TokenError::SeveralKeys {
                uri: Box::new(uri.clone()),
                found: found.len(),
            })),
        }
    }

    /// The one private key that fits `uri`, with its public half.
    pub(super) fn find(&self, uri: &KeyUri) -> Result<Found, Fault> {
        let key = self.look_up(&KeyName {
            kind: Kind::Private,
            uri: uri.clone(),
        })?;
        let exact = self.exact_uri(key, uri)?;
        if self.flag(key, AttributeType::AlwaysAuthenticate)? == Some(true) {
            return Err(TokenError::AlwaysAuthenticates(Box::new(exact)).into());
        }
        Ok(Found {
            public_key: self.public_key(key, &exact)?,
            origin: self.origin(key)?,
            uri: exact,
        })
    }

    /// The one secret that fits `uri`.
    pub(super) fn find_secret(&self, uri: &KeyUri) -> Result<(KeyUri, KeyOrigin), Fault> {
        let key = self.look_up(&KeyName {
            kind: Kind::Secret,
            uri: uri.clone(),
        })?;
        Ok((self.exact_uri(key, uri)?, self.origin(key)?))
    }

    /// The key's own label and id.
    fn exact_uri(&self, key: ObjectHandle, uri: &KeyUri) -> Result<KeyUri, Fault> {
        let (mut label, mut id) = (None, None);
        for attribute in self
            .session
            .get_attributes(key, &[AttributeType::Label, AttributeType::Id])?
        {
            match attribute {
                // A label that is no text stays out: then the id has to do.
                Attribute::Label(bytes) if !bytes.is_empty() => {
                    label = String::from_utf8(bytes).ok()
                }
                Attribute::Id(bytes) if !bytes.is_empty() => id = Some(bytes),
                _ => {}
            }
        }
        uri.with_key(label.as_deref(), id.as_deref())
            .map_err(|error| Fault::Final(error.into()))
    }

    pub(super) fn origin(&self, key: ObjectHandle) -> Result<KeyOrigin, Fault> {
        // What a token does not say is taken for the worse.
        let says = |kind, unsaid| Ok::<_, Fault>(self.flag(key, kind)?.unwrap_or(unsaid));
        Ok(KeyOrigin {
            local: says(AttributeType::Local, false)?,
            sensitive: says(AttributeType::Sensitive, false)?,
            always_sensitive: says(AttributeType::AlwaysSensitive, false)?,
            extractable: says(AttributeType::Extractable, true)?,
            never_extractable: says(AttributeType::NeverExtractable, false)?,
        })
    }

    fn flag(&self, key: ObjectHandle, kind: AttributeType) -> Result<Option<bool>, Fault> {
        let attributes = self.session.get_attributes(key, &[kind])?;
        Ok(match attributes[..] {
            [
                Attribute::AlwaysAuthenticate(value)
                | Attribute::AlwaysSensitive(value)
                | Attribute::Extractable(value)
                | Attribute::Local(value)
                | Attribute::NeverExtractable(value)
                | Attribute::Sensitive(value),
            ] => Some(value),
            _ => None,
        })
    }

    /// The public half: from the public key with the same id (or label, where there is no id), else from the private
    /// key's own attributes, where its token writes them there.
    fn public_key(&self, key: ObjectHandle, uri: &KeyUri) -> Result<PublicKey, Fault> {
        let label = uri.object().filter(|_| uri.id().is_none());
        let beside = template(ObjectClass::PUBLIC_KEY, label, uri.id());
        let mut sources = self.session.find_objects(&beside)?;
        sources.push(key);
        for source in sources {
            if let Some(found) = self.read_public(source)? {
                return found.map_err(|error| {
                    let uri = Box::new(uri.clone());
                    Fault::Final(TokenError::PublicKey { uri, error })
                });
            }
        }
        Err(TokenError::NoPublicKey(Box::new(uri.clone())).into())
    }

    fn read_public(
        &self,
        object: ObjectHandle,
    ) -> Result<Option<Result<PublicKey, KeyError>>, Fault> {
        let (mut curve, mut point, mut spki) = (None, None, None);
        for attribute in self.session.get_attributes(
            object,
            &[
                AttributeType::EcParams,
                AttributeType::EcPoint,
                AttributeType::PublicKeyInfo,
            ],
        )? {
            match attribute {
                Attribute::EcParams(bytes) if !bytes.is_empty() => curve = Some(bytes),
                Attribute::EcPoint(bytes) if !bytes.is_empty() => point = Some(bytes),
                Attribute::PublicKeyInfo(bytes) if !bytes.is_empty() => spki = Some(bytes),
                _ => {}
            }
        }
        Ok(match (curve, point, spki) {
            (Some(curve), Some(point), _) => Some(ec_key(&curve, &point)),
            (_, _, Some(spki)) => Some(PublicKey::from_spki(&spki)),
            _ => None,
        })
    }

    /// Makes a key pair under a label that no private key has.
    pub(super) fn generate(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<KeyUri, Fault> {
        let Some(curve) = curve(algorithm) else {
            return Err(TokenError::Algorithm(algorithm).into());
        };
        let (label, id) = self.new_name(uri, Kind::Private)?;
        let common = [
            Attribute::Token(true),
            Attribute::KeyType(KeyType::EC),
            Attribute::Label(label.clone().into_bytes()),
            Attribute::Id(id.to_vec()),
        ];
        let public = [
            &common[..],
            &[
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::EcParams(curve.to_vec()),
            ],
        ];
        let private = [
            &common[..],
            &[
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ],
        ];
        self.session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &public.concat(),
                &private.concat(),
            )
            .map_err(made_once)?;
        uri.with_key(Some(&label), Some(&id))
            .map_err(|error| Fault::Final(error.into()))
    }

    /// Makes a secret for HMAC under a label that no secret key has.
    pub(super) fn generate_secret(&self, uri: &KeyUri) -> Result<KeyUri, Fault> {
        let (label, id) = self.new_name(uri, Kind::Secret)?;
        let template = [
            Attribute::Token(true),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Label(label.clone().into_bytes()),
            Attribute::Id(id.to_vec()),
            Attribute::ValueLen(SECRET_BYTES.try_into()?),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Verify(false),
        ];
        self.session
            .generate_key(&Mechanism::GenericSecretKeyGen, &template)
            .map_err(made_once)?;
        uri.with_key(Some(&label), Some(&id))
            .map_err(|error| Fault::Final(error.into()))
    }

    /// The label that `uri` asks for, when it is free, and a fresh id.
    fn new_name(&self, uri: &KeyUri, kind: Kind) -> Result<(String, [u8; ID_BYTES]), Fault> {
        let label = uri.object().unwrap_or_default().to_owned();
        let taken = self
            .session
            .find_objects(&template(kind.class(), Some(&label), None))?;
        if !taken.is_empty() {
            return Err(TokenError::LabelTaken { label }.into());
        }
        let mut id = [0; ID_BYTES];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| TokenError::NoResources)?;
        Ok((label, id))
    }
}

/// A failed call that may have made a key all the same: never done again by itself.
fn made_once(error: cryptoki::error::Error) -> Fault {
    Fault::Final(Fault::from(error).into_error())
}

fn template(class: ObjectClass, label: Option<&str>, id: Option<&[u8]>) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(class), Attribute::Token(true)];
    template.extend(label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
    template.extend(id.map(|id| Attribute::Id(id.to_vec())));
    template
}

/// DER of the named curves' object identifiers, as CKA_EC_PARAMS has them.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

fn curve(algorithm: KeyAlgorithm) -> Option<&'static [u8]> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Some(P256),
        KeyAlgorithm::EcdsaP384 => Some(P384),
        KeyAlgorithm::Ed25519 | KeyAlgorithm::Rsa { .. } => None,
    }
}

/// A key from CKA_EC_PARAMS and CKA_EC_POINT. The point is wrapped in an OCTET STRING (PKCS#11 §6.3.3); some tokens
/// give it bare.
fn ec_key(params: &[u8], point: &[u8]) -> Result<PublicKey, KeyError> {
    let algorithm = match params {
        P256 => KeyAlgorithm::EcdsaP256,
        P384 => KeyAlgorithm::EcdsaP384,
        _ => return Err(KeyError::Unsupported),
    };
    // Told apart by length: a bare point too begins with 0x04.
    let point = match point {
        [0x04, 65, bare @ ..] if bare.len() == 65 => bare,
        [0x04, 97, bare @ ..] if bare.len() == 97 => bare,
        bare => bare,
    };
    PublicKey::from_raw(algorithm, point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Signer, SoftwareSigner};

    #[test]
    fn points_are_read_wrapped_and_bare() {
        for (algorithm, length) in [(KeyAlgorithm::EcdsaP256, 65), (KeyAlgorithm::EcdsaP384, 97)] {
            let (signer, _) = SoftwareSigner::generate(algorithm).unwrap();
            let key = signer.public_key();
            let params = curve(algorithm).unwrap();
            assert_eq!(&ec_key(params, key.raw()).unwrap(), key);
            let wrapped = [&[0x04, length], key.raw()].concat();
            assert_eq!(&ec_key(params, &wrapped).unwrap(), key);
            for broken in [&[][..], &[4], &key.raw()[1..], &wrapped[..20]] {
                assert!(ec_key(params, broken).is_err());
            }
            // secp256k1
            assert!(ec_key(&[6, 5, 0x2b, 0x81, 4, 0, 10], key.raw()).is_err());
        }
    }
}
