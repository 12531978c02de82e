//! Certificates, requests and tokens, made and read back.

use std::time::Duration;

use gantry_object::Timestamp;
use gantry_pki::{
    Authority, CertificateIdentity, CertificateRequest, Claims, JoinToken, Profile, RequestError, TokenError, TokenKey, ca_hash, expiry,
    new_request,
};
use gantry_ports::SeededRandom;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn node_profile() -> Profile {
    Profile {
        common_name: "system:node:n1".into(),
        organization: "system:nodes".into(),
        dns_names: vec!["n1".into()],
        addresses: vec!["10.1.2.3".parse().expect("an address")],
        client: true,
        ..Profile::default()
    }
}

fn der(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let body: String = pem.lines().filter(|l| !l.starts_with("---")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
}

#[test]
fn an_authority_issues_and_is_taken_up_again() {
    let random = SeededRandom::new(1);
    let ca = Authority::generate("gantry", NOW, &random).expect("generates");
    let again = Authority::load(ca.certificate_pem(), ca.key_pem()).expect("loads");
    let issued = again.issue(&node_profile(), HOUR, NOW, &random).expect("issues");
    let identity = CertificateIdentity::of(&der(&issued.certificate_pem)).expect("parses");
    assert_eq!((identity.common_name.as_str(), &identity.organizations[..]), ("system:node:n1", &["system:nodes".to_owned()][..]));
    let (from, until) = expiry(&issued.certificate_pem).expect("parses");
    assert!(from < NOW && until == NOW.plus(HOUR));
    assert!(Authority::load(ca.certificate_pem(), "nonsense").is_err());
}

#[test]
fn requests_are_read_and_signed() {
    let random = SeededRandom::new(2);
    let ca = Authority::generate("gantry", NOW, &random).expect("generates");
    let asked = new_request(&node_profile()).expect("makes a request");
    let request = CertificateRequest::parse(&asked.certificate_pem).expect("parses");
    assert_eq!(
        (request.common_name.as_str(), &request.dns_names[..], request.addresses.len()),
        ("system:node:n1", &["n1".to_owned()][..], 1)
    );
    let signed = ca.sign(&request, false, true, HOUR, NOW, &random).expect("signs");
    assert_eq!(CertificateIdentity::of(&der(&signed)).expect("parses").common_name, "system:node:n1");
    assert_eq!(CertificateRequest::parse("x").expect_err("not PEM"), RequestError::NotPem);
    let other = new_request(&Profile::default()).expect("makes a request");
    let mut forged = der(&asked.certificate_pem);
    let end = forged.len();
    forged[end - 20..].copy_from_slice(&der(&other.certificate_pem)[der(&other.certificate_pem).len() - 20..]);
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(forged);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(matches!(CertificateRequest::parse(&pem), Err(RequestError::Signature | RequestError::Malformed)));
}

#[test]
fn tokens_hold_while_they_last_and_only_as_signed() {
    let (key, kept) = TokenKey::generate().expect("generates");
    let claims = Claims {
        sub: "system:serviceaccount:a:b".into(),
        iat: NOW.seconds(),
        nbf: NOW.seconds(),
        exp: NOW.seconds() + 10,
        ..Claims::default()
    };
    let token = key.sign(&claims).expect("signs");
    let key = TokenKey::load(&kept).expect("loads");
    assert_eq!(key.verify(&token, NOW), Ok(claims));
    assert_eq!(key.verify(&token, NOW.plus(Duration::from_secs(10))), Err(TokenError::Expired));
    let (other, _) = TokenKey::generate().expect("generates");
    assert_eq!(other.verify(&token, NOW), Err(TokenError::Invalid));
    for at in [0, token.len() / 2, token.len() - 1] {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert!(key.verify(&String::from_utf8(forged).expect("ASCII"), NOW).is_err(), "byte {at} changed and still taken");
    }
    assert!(key.verify("a.b", NOW).is_err() && key.verify("", NOW).is_err());
}

#[test]
fn join_tokens_pin_the_authority() {
    let random = SeededRandom::new(3);
    let ca = Authority::generate("gantry", NOW, &random).expect("generates");
    let token = JoinToken::generate(ca_hash(ca.certificate_pem()).expect("hashes"), &random);
    assert_eq!(token.to_string().parse::<JoinToken>().expect("parses"), token);
    for bad in ["", "a.b.c", &token.bearer()] {
        assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
    }
}
