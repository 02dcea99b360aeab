//! A root that goes on with its key: a certificate that ends later, and that nobody can tell from the old one otherwise.
//!
//! A verifier finds the issuer of a certificate by its name, which some compare byte by byte, and by the identifier of its key,
//! which many makers compute in their own ways. Both are taken over as they stand.

use std::time::{Duration, SystemTime};

use rcgen::string::{BmpString, TeletexString, UniversalString};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::signer::{BACKDATED, serial};
use crate::identity::x509_pem;
use crate::pem;

/// The certificate of a root for longer, as PEM.
///
/// # Errors
/// A sentence: it cannot be the same CA.
pub fn renewed(certificate: &[u8], key: &[u8], lifetime: Duration, now: SystemTime) -> Result<String, String> {
    let unreadable = |_| "its certificate cannot be read".to_owned();
    let old = pem::certificates(certificate).map_err(|error| error.to_string())?;
    let old = old.first().ok_or("there is no certificate")?;
    let (_, old) = X509Certificate::from_der(old).map_err(unreadable)?;
    let key = pem::private_key(key).map_err(|error| error.to_string())?;
    let key = KeyPair::try_from(&key).map_err(|error| error.to_string())?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(old.subject())?;
    if let Some(id) = key_id(&old) {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id.to_vec());
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lifetime).into();
    let made = params.self_signed(&key).map_err(|error| error.to_string())?;
    let (_, new) = X509Certificate::from_der(made.der()).map_err(unreadable)?;
    // Where the old one has no identifier, nobody compares it.
    let same_id = key_id(&old).is_none_or(|id| key_id(&new) == Some(id));
    if new.subject().as_raw() != old.subject().as_raw() || new.public_key().raw != old.public_key().raw || !same_id {
        return Err("its name or its key cannot be written as they stand".to_owned());
    }
    Ok(x509_pem(made.der()))
}

fn key_id<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// A name with every string of its kind.
fn name(of: &X509Name<'_>) -> Result<DistinguishedName, String> {
    let mut name = DistinguishedName::new();
    for part in of.iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err("its name has parts of several attributes".to_owned());
        };
        let kind: Option<Vec<u64>> = attribute.attr_type().iter().map(Iterator::collect);
        let kind = DnType::from_oid(&kind.ok_or("its name has an attribute of an unknown kind")?);
        if name.get(&kind).is_some() {
            return Err("its name has an attribute twice".to_owned());
        }
        name.push(kind, value(attribute)?);
    }
    Ok(name)
}

fn value(attribute: &AttributeTypeAndValue<'_>) -> Result<DnValue, String> {
    let bytes = attribute.attr_value().data;
    let odd = |_| "its name has an odd text".to_owned();
    let text = || std::str::from_utf8(bytes).map_err(|_| "its name has an odd text".to_owned());
    Ok(match attribute.attr_value().header.tag() {
        Tag::PrintableString => DnValue::PrintableString(text()?.try_into().map_err(odd)?),
        Tag::Utf8String => DnValue::Utf8String(text()?.to_owned()),
        Tag::Ia5String => DnValue::Ia5String(text()?.try_into().map_err(odd)?),
        Tag::T61String => DnValue::TeletexString(TeletexString::try_from(text()?).map_err(odd)?),
        Tag::BmpString => DnValue::BmpString(BmpString::from_utf16be(bytes.to_vec()).map_err(odd)?),
        Tag::UniversalString => DnValue::UniversalString(UniversalString::from_utf32be(bytes.to_vec()).map_err(odd)?),
        _ => return Err("its name has a text of an unknown kind".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::lists::Lists;
    use crate::authority::signer::{Material, Signer};
    use crate::tests::openssl::Workshop;

    const DAY: Duration = Duration::from_secs(86_400);
    /// As Go writes a root: printable strings, and SHA-1 of the key.
    const AS_GO: &str = "[req]\nstring_mask=default\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\n\
        basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";

    fn material(shop: &Workshop, certificate: &str) -> Material {
        let certificate = shop.read(certificate);
        Material {
            roots: certificate.clone(),
            certificate,
            key: shop.read("root.key"),
            chain: Vec::new(),
            crl: Vec::new(),
        }
    }

    fn made(shop: &Workshop, subject: &str) {
        shop.write("req.cnf", AS_GO.as_bytes());
        shop.run(&format!(
            "req -x509 -config req.cnf -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj {subject}"
        ));
    }

    #[test]
    fn a_root_that_others_have_made_goes_on_as_the_same_ca() {
        let Some(shop) = Workshop::open() else { return };
        made(&shop, "/O=cluster.local");
        let now = SystemTime::now();
        let text = renewed(&shop.read("root.pem"), &shop.read("root.key"), 3650 * DAY, now).expect("goes on");
        shop.write("new.pem", text.as_bytes());
        let load = |file| Signer::load(&material(&shop, file), now).expect("is a CA");
        let (old, new) = (load("root.pem"), load("new.pem"));
        assert!(new.ends() > old.ends() + 3000 * DAY);
        assert!(
            old.is_trusted(new.roots(), &Lists::default(), now).is_ok()
                && new.is_trusted(old.roots(), &Lists::default(), now).is_ok()
        );
        // The names of keys are compared too.
        for (signer, roots) in [(old, "new.pem"), (new, "root.pem")] {
            let (leaf, _, _) = signer.server(&["a.example".to_owned()], DAY, now).expect("signs");
            shop.write("leaf.pem", leaf.as_bytes());
            shop.run(&format!("verify -x509_strict -CAfile {roots} leaf.pem"));
        }
    }

    #[test]
    fn a_name_that_cannot_be_written_again_is_told() {
        let Some(shop) = Workshop::open() else { return };
        for (subject, why) in [("/O=a/O=b", "twice"), ("/O=a+CN=b", "several")] {
            made(&shop, &format!("{subject} -multivalue-rdn"));
            let told = renewed(&shop.read("root.pem"), &shop.read("root.key"), DAY, SystemTime::now()).unwrap_err();
            assert!(told.contains(why), "{subject}: {told}");
        }
    }
}
