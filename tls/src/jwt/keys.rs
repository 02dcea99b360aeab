//! The keys of an issuer (RFC 7517), and whether one of them signed a token.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::token::Jwt;
use super::{Refusal, digest, json};
use crate::block;

/// Keys of one set that are looked at.
pub const MOST_KEYS: usize = 100;
/// Signatures that are tried for one token: who names no key makes work.
const TRIES: usize = 8;

/// The keys of an issuer.
#[derive(Debug)]
pub struct Keys {
    /// Unlike that of all others in this process.
    pub number: u64,
    all: Vec<Key>,
    /// Of the text that they were read from.
    text: [u8; 32],
    faults: Vec<String>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// What the key may be used with.
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

impl Keys {
    /// Keys that nobody has: no token is right.
    pub fn nobodys() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), all: Vec::new(), text: [0; 32], faults: Vec::new() }
    }

    /// Reads a JSON Web Key Set. Keys for other uses, and kinds that are not known, are passed over (RFC 7517 section 5).
    ///
    /// # Errors
    /// It is none, or no key in it can verify a signature.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let set = json::object(text).ok_or("it is no JSON object")?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("it has more than {MOST_KEYS} keys"));
        }
        let mut faults = Vec::new();
        let mut all = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            match Key::read(key) {
                Ok(key) => all.push(key),
                Err(fault) => faults.push((key, format!("key {number}: {fault}"))),
            }
        }
        if all.is_empty() {
            let faults: Vec<String> = faults.into_iter().map(|(_, fault)| fault).collect();
            let faults = if faults.is_empty() { "it is empty".to_owned() } else { faults.join("; ") };
            return Err(format!("no key in it verifies signatures ({faults})"));
        }
        let faults = faults.into_iter().filter(|(key, _)| is_for_signatures(key)).map(|(_, fault)| fault).collect();
        Ok(Self { all, text: digest(text), faults, ..Self::nobodys() })
    }

    /// Reads public keys as PEM (`PUBLIC KEY`).
    ///
    /// # Errors
    /// There is none, or one that verifies nothing.
    pub fn read_pem(text: &[u8]) -> Result<Self, String> {
        let blocks = block::blocks(text).map_err(|why| why.to_string())?;
        let public = blocks.iter().filter(|block| block.label == "PUBLIC KEY").take(MOST_KEYS);
        let all: Vec<Key> = public
            .map(|block| block.der.as_ref().map_err(ToString::to_string).and_then(|der| Key::of_spki(der)))
            .collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err("it has no BEGIN PUBLIC KEY block; `openssl pkey -pubout` writes one".to_owned());
        }
        Ok(Self { all, text: digest(text), ..Self::nobodys() })
    }

    /// Whether the others were read from the same text.
    pub fn is_same(&self, others: &Self) -> bool {
        self.text == others.text
    }

    /// Why keys for signatures were passed over, a sentence each.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether one of the keys signed a token.
    ///
    /// # Errors
    /// None fits, or none has.
    pub fn verify(&self, token: &Jwt<'_>) -> Result<(), Refusal> {
        let fits = |key: &&Key| {
            let named = token.key_id.as_ref().is_none_or(|id| key.id.as_ref().is_none_or(|own| own == id));
            named && key.algorithms.contains(&token.algorithm)
        };
        let mut fitting = self.all.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::NoKey);
        }
        // The one that is named comes before those without a name, however many there are.
        let is_named = |key: &&Key| key.id.is_some() && key.id == token.key_id;
        let named = self.all.iter().filter(fits).filter(is_named);
        let fitting = named.chain(fitting.filter(|key| !is_named(key)));
        let signed = |key: &Key| {
            let message = token.signed.as_bytes();
            crypto::verify(token.signature, message, &key.key, token.algorithm).is_ok_and(|good| good)
        };
        let mut fitting = fitting.take(TRIES);
        if fitting.any(signed) { Ok(()) } else { Err(Refusal::Signature) }
    }
}

impl Key {
    /// Of a SubjectPublicKeyInfo.
    fn of_spki(der: &[u8]) -> Result<Self, String> {
        let (_, info) =
            SubjectPublicKeyInfo::from_der(der).map_err(|_| "a public key that cannot be read".to_owned())?;
        let coded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (algorithms, key): (&'static [Algorithm], _) = match info.parsed() {
            Ok(PublicKey::RSA(key)) => (RSA, rsa(&coded(key.modulus), &coded(key.exponent))?),
            Ok(PublicKey::EC(point)) => match point.data() {
                [4, rest @ ..] if rest.len() == 64 => {
                    (&[Algorithm::ES256], ec(&coded(&rest[..32]), &coded(&rest[32..]), &ECDSA_P256_SHA256_FIXED, 32)?)
                }
                [4, rest @ ..] if rest.len() == 96 => {
                    (&[Algorithm::ES384], ec(&coded(&rest[..48]), &coded(&rest[48..]), &ECDSA_P384_SHA384_FIXED, 48)?)
                }
                _ => return Err("an ECDSA key on another curve than P-256 and P-384".to_owned()),
            },
            _ if info.algorithm.algorithm == OID_SIG_ED25519 => {
                (&[Algorithm::EdDSA], edwards(&coded(&info.subject_public_key.data))?)
            }
            _ => return Err("a public key that verifies nothing here".to_owned()),
        };
        Ok(Self { id: None, algorithms, key })
    }

    fn read(key: &Value) -> Result<Self, String> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures (`use`)".to_owned());
        }
        if !is_for_signatures(key) {
            return Err("it is not for verifying (`key_ops`)".to_owned());
        }
        let part = |name: &str| text(name).ok_or_else(|| format!("`{name}` is missing"));
        let (family, decoded): (&'static [Algorithm], _) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => (RSA, rsa(part("n")?, part("e")?)?),
            (Some("EC"), Some("P-256")) => {
                (&[Algorithm::ES256], ec(part("x")?, part("y")?, &ECDSA_P256_SHA256_FIXED, 32)?)
            }
            (Some("EC"), Some("P-384")) => {
                (&[Algorithm::ES384], ec(part("x")?, part("y")?, &ECDSA_P384_SHA384_FIXED, 48)?)
            }
            (Some("OKP"), Some("Ed25519")) => (&[Algorithm::EdDSA], edwards(part("x")?)?),
            (Some(kind), curve) => {
                let curve = curve.map(|curve| format!(" on {curve}")).unwrap_or_default();
                return Err(format!("{kind}{curve} verifies nothing here"));
            }
            (None, _) => return Err("`kty` is missing".to_owned()),
        };
        let algorithms = match text("alg") {
            None => family,
            Some(name) => {
                let at = family.iter().position(|own| format!("{own:?}") == name);
                let at = at.ok_or_else(|| format!("`alg` {name} does not fit the key"))?;
                &family[at..=at]
            }
        };
        Ok(Self { id: text("kid").filter(|id| !id.is_empty()).map(str::to_owned), algorithms, key: decoded })
    }
}

/// As far as `use` and `key_ops` say.
fn is_for_signatures(key: &Value) -> bool {
    let verifies = |operations: &Value| operations.as_array().is_some_and(|all| all.iter().any(|it| it == "verify"));
    key.get("use").and_then(Value::as_str).is_none_or(|purpose| purpose == "sig")
        && key.get("key_ops").is_none_or(verifies)
}

fn bytes(text: &str, name: &str) -> Result<Vec<u8>, String> {
    // Some issuers pad.
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| format!("`{name}` is not base64url"))
}

fn rsa(modulus: &str, exponent: &str) -> Result<DecodingKey, String> {
    let (modulus, exponent) = (bytes(modulus, "n")?, bytes(exponent, "e")?);
    let first = modulus.iter().position(|byte| *byte != 0).unwrap_or(modulus.len());
    let bits = (modulus.len() - first) * 8;
    if !(2048..=8192).contains(&bits) {
        return Err(format!("an RSA key of {bits} bits; 2048 to 8192 are wanted"));
    }
    // A product of odd primes is odd, and an exponent that is even or 1 signs nothing (RFC 8017 section 3.1).
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let is_one = exponent.iter().rev().skip(1).all(|byte| *byte == 0) && exponent.last() == Some(&1);
    if !is_odd(&modulus) || !is_odd(&exponent) || is_one {
        return Err("`n` and `e` are no RSA key".to_owned());
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus[first..], &exponent))
}

fn ec(x: &str, y: &str, curve: &'static dyn VerificationAlgorithm, size: usize) -> Result<DecodingKey, String> {
    let (x_bytes, y_bytes) = (bytes(x, "x")?, bytes(y, "y")?);
    if x_bytes.len() != size || y_bytes.len() != size {
        return Err(format!("`x` and `y` have {size} bytes each on this curve"));
    }
    // Uncompressed, SEC 1 section 2.3.3. What is no point of the curve verifies nothing, ever.
    let point = [&[4], &*x_bytes, &*y_bytes].concat();
    ParsedPublicKey::new(curve, point).map_err(|_| "`x` and `y` are no point of this curve".to_owned())?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x_bytes), URL_SAFE_NO_PAD.encode(y_bytes));
    DecodingKey::from_ec_components(&x, &y).map_err(|error| error.to_string())
}

fn edwards(x: &str) -> Result<DecodingKey, String> {
    let x = bytes(x, "x")?;
    if x.len() != 32 {
        return Err("`x` has 32 bytes on this curve".to_owned());
    }
    DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(x)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::openssl::Workshop;

    #[test]
    fn public_keys_of_every_kind_are_read_as_pem() {
        let Some(shop) = Workshop::open() else { return };
        let kinds = [
            ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
            ("p256", "EC -pkeyopt ec_paramgen_curve:P-256"),
            ("p384", "EC -pkeyopt ec_paramgen_curve:P-384"),
            ("ed", "ED25519"),
        ];
        let mut all = Vec::new();
        for (name, kind) in kinds {
            shop.run(&format!("genpkey -algorithm {kind} -out {name}.key"));
            shop.run(&format!("pkey -in {name}.key -pubout -out {name}.pem"));
            all.extend(shop.read(&format!("{name}.pem")));
            assert_eq!(Keys::read_pem(&shop.read(&format!("{name}.pem"))).expect(name).count(), 1);
        }
        assert_eq!(Keys::read_pem(&all).expect("keys").count(), 4);
        let private = Keys::read_pem(&shop.read("rsa.key")).expect_err("is none");
        assert!(private.contains("no BEGIN PUBLIC KEY block"), "{private}");
        shop.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key");
        shop.run("pkey -in weak.key -pubout -out weak.pem");
        assert!(Keys::read_pem(&shop.read("weak.pem")).expect_err("is weak").contains("1024 bits"));
    }
}
