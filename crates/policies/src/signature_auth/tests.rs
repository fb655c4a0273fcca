//! What `signature_auth` holds beyond its page.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding,
};
use daemun_config::model::{CredentialName, HmacKey, SecretBytes, SignatureAlgorithm, SigningKey, Spanned, Terms};
use daemun_config::tree::At;
use daemun_pipeline::{Consumer, Exchange, Outcome};
use proptest::prelude::*;

use crate::base64_text;
use crate::testing::{Bench, Chain, SECOND, consumer, exchange, told, upstream_lines};

const NOW: u64 = 1_700_000_000;

fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64_text::encode(bytes, &mut text);
    String::from_utf8(text).unwrap()
}

fn spanned(text: &str) -> Spanned<String> {
    Spanned { value: text.to_owned(), at: At::default() }
}

fn public(id: &str, algorithm: SignatureAlgorithm, key: &str) -> SigningKey {
    SigningKey { id: spanned(id), algorithm, public_key: spanned(key) }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(der))
}

/// Appendix B.1 of RFC 9421.
mod rfc {
    pub(super) const RSA_PSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
";
    pub(super) const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";
    pub(super) const SECRET: &str =
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    /// When its examples are signed.
    pub(super) const CREATED: u64 = 1_618_884_473;
    /// `test-request`, without what ends its head.
    pub(super) const REQUEST: &str = "POST /foo?param=Value&Pet=dog HTTP/1.1
Host: example.com
Date: Tue, 20 Apr 2021 02:07:55 GMT
Content-Type: application/json
Content-Digest: sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:
Content-Length: 18";
    pub(super) const BODY: &str = "{\"hello\": \"world\"}";
}

fn rfc_chain(settings: &str) -> Chain {
    let mut secret = vec![0; 64];
    base64_text::decode(rfc::SECRET.as_bytes(), &mut secret).unwrap();
    let signing_keys = vec![
        public("test-key-rsa-pss", SignatureAlgorithm::RsaPssSha512, rfc::RSA_PSS),
        public("test-key-ed25519", SignatureAlgorithm::Ed25519, rfc::ED25519),
    ];
    let hmac = vec![HmacKey { id: spanned("test-shared-secret"), secret: SecretBytes(secret) }];
    let bench = Bench::new(vec![Consumer { signing_keys, hmac, ..consumer("rfc", &[], &[]) }]);
    bench.build(&format!("signature_auth: {settings}")).unwrap()
}

fn asked(chain: &Chain, text: &str, wall: u64) -> Exchange {
    let mut exchange = chain.exchange(text);
    exchange.wall = wall * SECOND;
    exchange
}

fn status(chain: &Chain, text: &str, body: &str, wall: u64) -> u16 {
    let mut exchange = asked(chain, text, wall);
    chain.inward_with(&mut exchange, body.as_bytes()).1.map_or_else(|stop| crate::testing::status(&stop), |()| 0)
}

/// The request examples of appendix B.2: input and signature of each.
fn examples() -> [(&'static str, &'static str, &'static str); 5] {
    [
        (
            "sig-b21",
            "();created=1618884473;keyid=\"test-key-rsa-pss\";nonce=\"b3k2pp5k7z-50gnwp.yemd\"",
            "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==",
        ),
        (
            "sig-b22",
            "(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");created=1618884473;keyid=\"test-key-rsa-pss\";tag=\"header-example\"",
            "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==",
        ),
        (
            "sig-b23",
            "(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
            "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==",
        ),
        (
            "sig-b25",
            "(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
            "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
        ),
        (
            "sig-b26",
            "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"",
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
        ),
    ]
}

#[test]
fn a_signature_that_one_route_has_let_in_no_other_does_whatever_it_remembers() {
    let signer = Signer::new();
    let signing_keys = vec![public("k", signer.algorithm(), &pem(&signer.der()))];
    let bench = Bench::new(vec![Consumer { signing_keys, ..consumer("partner", &["buyer"], &[]) }]);
    let chain = |settings: &str| bench.build(&format!("signature_auth: {settings}")).unwrap();
    let few = chain("{ replay_entries: 1000, clock_skew: 10s }");
    let many = chain("{ replay_entries: 200000 }");
    let text =
        signer.request("\"@method\" \"@authority\" \"@path\" \"@query\"", &format!(";created={NOW};keyid=\"k\""));
    assert_eq!(status(&few, &text, "", NOW), 0);
    assert_eq!((status(&many, &text, "", NOW), status(&many, &text, "", NOW + 300)), (401, 401));
}

#[test]
fn the_examples_of_the_rfc_are_verified_and_none_after_a_change() {
    let chain = rfc_chain("{ required: [], replay: allow, body: ignored }");
    for (label, input, signature) in examples() {
        let text = format!("{}\nSignature-Input: {label}={input}\nSignature: {label}=:{signature}:", rfc::REQUEST);
        assert_eq!(status(&chain, &text, rfc::BODY, rfc::CREATED), 0, "{label}");
        // white space that structured fields may have is none of the base
        let spaced = text.replace(";created", "; created").replace("(\"", "(  \"");
        assert_eq!(status(&chain, &spaced, rfc::BODY, rfc::CREATED), 0, "{label}");
        for (from, to) in [("1618884473", "1618884474"), (":d", ":e"), ("keyid=\"test-", "keyid=\"no-")] {
            let changed = text.replace(from, to);
            assert!(changed == text || status(&chain, &changed, rfc::BODY, rfc::CREATED) == 401, "{label} {from}");
        }
        for (part, from, to) in [
            ("@authority", "Host: example.com", "Host: example.org"),
            ("date", "02:07:55", "02:07:56"),
            ("@method", "POST", "PUT"),
            ("@path", "/foo", "/fop"),
            ("@query\"", "param=", "parm="),
            ("Pet", "Pet=dog", "Pet=cat"),
            ("content-type", "Type: application/json", "Type: text/json"),
            ("content-length", "Length: 18", "Length: 19"),
        ] {
            let changed = text.replacen(from, to, 1);
            let covered = input.contains(part) || part == "Pet" && input.contains("@query\"");
            let wanted = if covered { 401 } else { 0 };
            assert_eq!(status(&chain, &changed, rfc::BODY, rfc::CREATED), wanted, "{label} {part}");
        }
    }
}

#[test]
fn a_body_is_held_against_the_digest_that_is_covered() {
    let chain = rfc_chain("{ required: [], replay: allow }");
    for (label, input, signature) in examples() {
        let text = format!("{}\nSignature-Input: {label}={input}\nSignature: {label}=:{signature}:", rfc::REQUEST);
        let covered = input.contains("content-digest");
        assert_eq!(status(&chain, &text, rfc::BODY, rfc::CREATED), if covered { 0 } else { 401 }, "{label}");
        assert_eq!(status(&chain, &text, "", rfc::CREATED), if covered { 401 } else { 0 }, "{label}");
        assert_eq!(status(&chain, &text, "{\"hello\": \"World\"}", rfc::CREATED), 401, "{label}");
    }
}

/// A caller with a key of its own.
enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(SignatureAlgorithm, EcdsaKeyPair),
    Rsa(SignatureAlgorithm, &'static dyn RsaEncoding, aws_lc_rs::rsa::KeyPair),
}

impl Signer {
    fn all() -> Vec<Signer> {
        let ecdsa = |algorithm, curve| Signer::Ecdsa(algorithm, EcdsaKeyPair::generate(curve).unwrap());
        let rsa = |algorithm, encoding| {
            Signer::Rsa(algorithm, encoding, aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap())
        };
        vec![
            Signer::new(),
            ecdsa(SignatureAlgorithm::EcdsaP256Sha256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            ecdsa(SignatureAlgorithm::EcdsaP384Sha384, &ECDSA_P384_SHA384_FIXED_SIGNING),
            rsa(SignatureAlgorithm::RsaPssSha512, &RSA_PSS_SHA512),
            rsa(SignatureAlgorithm::RsaV15Sha256, &RSA_PKCS1_SHA256),
        ]
    }

    fn new() -> Signer {
        Signer::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Signer::Ed25519(_) => SignatureAlgorithm::Ed25519,
            Signer::Ecdsa(algorithm, _) | Signer::Rsa(algorithm, _, _) => *algorithm,
        }
    }

    fn der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Signer::Ed25519(pair) => pair.public_key().as_der().unwrap(),
            Signer::Ecdsa(_, pair) => pair.public_key().as_der().unwrap(),
            Signer::Rsa(_, _, pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    fn jwk(&self) -> String {
        let url = |bytes: &[u8]| base64(bytes).replace('+', "-").replace('/', "_").replace('=', "");
        match self {
            Signer::Ed25519(pair) => {
                format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{}\"}}", url(pair.public_key().as_ref()))
            }
            Signer::Ecdsa(_, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                format!("{{\"kty\":\"EC\",\"crv\":\"{curve}\",\"x\":\"{}\",\"y\":\"{}\"}}", url(x), url(y))
            }
            Signer::Rsa(_, _, pair) => {
                // PKCS#1: a sequence of a number of 2048 bits and 65537
                let key = pair.public_key().as_ref();
                assert_eq!(key.len(), 270);
                format!("{{\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"{}\"}}", url(&key[9..265]), url(&key[267..]))
            }
        }
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Ed25519(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
            Signer::Ecdsa(_, pair) => pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Rsa(_, encoding, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
        }
    }

    /// A chain that knows it as `k`.
    fn chain(&self, settings: &str) -> Chain {
        let signing_keys = vec![public("k", self.algorithm(), &pem(&self.der()))];
        let bench = Bench::new(vec![Consumer { signing_keys, ..consumer("partner", &["buyer"], &[]) }]);
        bench.build(&format!("signature_auth: {settings}")).unwrap()
    }

    /// `GET /a?b=c` on `h`, signed with these parameters behind what is covered.
    fn request(&self, covered: &str, params: &str) -> String {
        let lines = |name: &str| match name {
            "\"@method\"" => "GET",
            "\"@authority\"" => "h",
            "\"@path\"" => "/a",
            "\"@query\"" => "?b=c",
            "\"@target-uri\"" => "http://h/a?b=c",
            "\"@request-target\"" => "/a?b=c",
            "\"@scheme\"" => "http",
            "\"x-list\"" => "a, b;c, d",
            "\"x-list\";key=\"b\"" => "?1;c",
            "\"x-list\";bs" => ":YSwgYjtj:, :ZA==:",
            "\"@query-param\";name=\"b\"" => "c",
            other => panic!("{other}"),
        };
        let mut base: String = covered
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(|name| format!("{name}: {}\n", lines(name)))
            .collect();
        let input = format!("({covered}){params}");
        base.push_str(&format!("\"@signature-params\": {input}"));
        let signature = base64(&self.sign(&base));
        format!(
            "GET /a?b=c HTTP/1.1\nHost: H:80\nX-List:  a, b;c\nX-List: d\nSignature-Input: s={input}\nSignature: s=:{signature}:"
        )
    }
}

const ALL: &str = "\"@method\" \"@authority\" \"@path\" \"@query\"";

fn params(more: &str) -> String {
    format!(";created={NOW};keyid=\"k\"{more}")
}

#[test]
fn every_algorithm_is_verified_with_keys_of_both_forms_and_with_no_other_algorithm() {
    let signers = Signer::all();
    for signer in &signers {
        let name = signer.algorithm().name();
        for key in [pem(&signer.der()), signer.jwk()] {
            let signing_keys = vec![public("k", signer.algorithm(), &key)];
            let bench = Bench::new(vec![Consumer { signing_keys, ..consumer("partner", &[], &[]) }]);
            let chain = bench.build("signature_auth: {}").unwrap();
            assert_eq!(status(&chain, &signer.request(ALL, &params("")), "", NOW), 0, "{name} {key}");
            let named = signer.request(ALL, &params(&format!(";alg=\"{name}\"")));
            assert_eq!(status(&chain, &named, "", NOW), 0, "{name}");
            for other in ["hmac-sha256", "ed25519", "rsa-v1_5-sha256", "rsa-pss-sha512", "none", ""] {
                let named = signer.request(ALL, &params(&format!(";alg=\"{other}\"")));
                assert!(other == name || status(&chain, &named, "", NOW) == 401, "{name} {other}");
            }
            for other in signers.iter().filter(|other| other.algorithm() != signer.algorithm()) {
                assert_eq!(status(&chain, &other.request(ALL, &params("")), "", NOW), 401, "{name}");
            }
        }
        for other in signers.iter().map(Signer::algorithm).filter(|other| *other != signer.algorithm()) {
            let both_rsa = other.name().starts_with("rsa") && name.starts_with("rsa");
            for key in [pem(&signer.der()), signer.jwk()] {
                let signing_keys = vec![public("k", other, &key)];
                let bench = Bench::new(vec![Consumer { signing_keys, ..consumer("partner", &[], &[]) }]);
                let errors = bench.errors("signature_auth: {}");
                assert!(both_rsa || errors.len() == 1 && errors[0].contains("`k` of consumer `partner`"), "{errors:?}");
            }
        }
    }
}

#[test]
fn a_signed_request_passes_once_and_its_signature_stays_here() {
    let signer = Signer::all().remove(1);
    let chain = signer.chain("{}");
    let text = signer.request(ALL, &params(""));
    let mut exchange = asked(&chain, &text, NOW);
    assert!(chain.inward_with(&mut exchange, b"").1.is_ok());
    let sent = upstream_lines(&exchange.request);
    let told = [
        "GET /a?b=c HTTP/1.1",
        "Host: H:80",
        "X-List: a, b;c",
        "X-List: d",
        "X-Consumer-Name: partner",
        "X-Consumer-Roles: buyer",
    ];
    assert_eq!(sent, told);
    assert_eq!(status(&chain, &text, "", NOW), 401);
    // another signature of the same text is the same request again
    assert_eq!(status(&chain, &signer.request(ALL, &params("")), "", NOW), 401);
    assert_eq!(status(&chain, &signer.request(ALL, &params(";nonce=\"1\"")), "", NOW), 0);
    let forwarded = signer.chain("{ forward: true }");
    let mut exchange = asked(&forwarded, &text, NOW);
    assert!(forwarded.inward_with(&mut exchange, b"").1.is_ok());
    assert!(exchange.request.head.get("signature").is_some() && exchange.request.head.get("signature-input").is_some());
}

#[test]
fn what_must_be_covered_is_and_a_larger_part_will_do() {
    let signer = Signer::new();
    let chain = signer.chain("{ replay: allow }");
    for (covered, wanted) in [
        (ALL, 0),
        ("\"@method\" \"@target-uri\"", 0),
        ("\"@method\" \"@authority\" \"@request-target\"", 0),
        ("\"@method\" \"@authority\" \"@request-target\" \"@scheme\" \"x-list\" \"x-list\";bs \"x-list\";key=\"b\"", 0),
        ("\"@method\" \"@request-target\"", 401),
        ("\"@authority\" \"@path\" \"@query\"", 401),
        ("\"@method\" \"@authority\" \"@path\"", 401),
        ("\"@method\" \"@authority\" \"@path\" \"@query-param\";name=\"b\"", 401),
        ("", 401),
    ] {
        assert_eq!(status(&chain, &signer.request(covered, &params("")), "", NOW), wanted, "{covered}");
    }
    let chain = signer.chain("{ required: [x-list], require_nonce: true, replay: allow }");
    for (covered, more, wanted) in [
        ("\"x-list\"", ";nonce=\"1\"", 0),
        ("\"x-list\"", "", 401),
        ("\"x-list\"", ";nonce=\"\"", 401),
        ("\"x-list\";bs", ";nonce=\"1\"", 401),
    ] {
        assert_eq!(status(&chain, &signer.request(covered, &params(more)), "", NOW), wanted, "{covered} {more}");
    }
}

#[test]
fn a_signature_counts_for_its_time() {
    let signer = Signer::new();
    let chain = signer.chain("{ clock_skew: 60s, replay: allow }");
    for (more, wall, wanted) in [
        ("", NOW - 61, 401),
        ("", NOW - 60, 0),
        ("", NOW + 60, 0),
        ("", NOW + 61, 401),
        (";expires=1700000010", NOW + 10, 0),
        (";expires=1700000010", NOW + 11, 401),
        (";expires=-1", NOW, 401),
        (";expires=\"1700000010\"", NOW, 401),
    ] {
        assert_eq!(status(&chain, &signer.request(ALL, &params(more)), "", wall), wanted, "{more} {wall}");
    }
    for params in [";keyid=\"k\"", ";created=1.5;keyid=\"k\"", ";created=1700000000", ";created=1700000000;keyid=k"] {
        assert_eq!(status(&chain, &signer.request(ALL, params), "", NOW), 401, "{params}");
    }
}

#[test]
fn only_the_one_signature_that_is_meant_for_here_counts() {
    let signer = Signer::new();
    let (plain, tagged) = (signer.chain("{ replay: allow }"), signer.chain("{ tag: shop, replay: allow }"));
    let other = "Signature-Input: t=(\"@method\");created=1;keyid=\"x\"\nSignature: t=:YQ==:";
    for (more, with_other, without_tag, with_tag) in [
        ("", false, 0, 401),
        ("", true, 401, 401),
        (";tag=\"shop\"", false, 0, 0),
        (";tag=\"shop\"", true, 401, 0),
        (";tag=\"shops\"", false, 0, 401),
    ] {
        let mut text = signer.request(ALL, &params(more));
        if with_other {
            text = format!("{text}\n{other}");
        }
        assert_eq!(status(&plain, &text, "", NOW), without_tag, "{more} {with_other}");
        assert_eq!(status(&tagged, &text, "", NOW), with_tag, "{more} {with_other}");
    }
}

#[test]
fn whatever_is_wrong_is_refused_in_the_same_words() {
    let signer = Signer::new();
    let chain = signer.chain("{}");
    let refusal = |text: &str| {
        let mut stop = format!("{:?}", chain.inward_with(&mut asked(&chain, text, NOW), b"").1.unwrap_err());
        let (from, to) = (stop.find("cause").unwrap(), stop.find("fields").unwrap());
        stop.replace_range(from..to, "");
        stop
    };
    let missing = refusal("GET /a?b=c HTTP/1.1\nHost: h");
    let right = signer.request(ALL, &params(""));
    let input = right.lines().find(|line| line.starts_with("Signature-Input")).unwrap();
    for (wrong, why) in [
        (right.replace("keyid=\"k\"", "keyid=\"l\""), "an unknown key"),
        (right.replace("b=c", "b=d"), "another query"),
        (right.replacen("GET", "HEAD", 1), "another method"),
        (right.replace("Host: H:80", "Host: i"), "another host"),
        (right.replace("Host: H:80", "Host: H:81"), "another port"),
        (right.replace("s=:", "s=:AAAA"), "another signature"),
        (right.replace("s=:", "t=:"), "another label"),
        (right.replace("s=:", "s=("), "no byte sequence"),
        (right.replace("Signature: ", "X-Signature: "), "no signature"),
        (right.replace("Signature-Input: ", "X-Signature-Input: "), "no input"),
        (right.replace("s=(\"@method\"", "s=(\"@method\" \"@method\""), "a component twice"),
        (right.replace("s=(\"@method\"", "s=(\"@status\" \"@method\""), "a component of answers"),
        (right.replace("s=(\"@method\"", "s=(\"x-none\" \"@method\""), "a field that is not there"),
        (right.replace("s=(\"@method\"", "s=(\"X-List\" \"@method\""), "a name that is not in lower case"),
        (right.replace("s=(\"@method\"", "s=(\"x-list\";sf \"@method\""), "a parameter that is not understood"),
        (right.replace("s=(\"@method\"", "s=(\"x-list\";req \"@method\""), "a part of another message"),
        (right.replace("s=(\"@method\"", "s=(x-list \"@method\""), "a token"),
        (right.replace("s=(\"@method\"", "s=(\"@query-param\" \"@method\""), "a parameter without a name"),
        (right.replace("s=(", "s=\"x\",r=("), "an input that is no list"),
        (right.replace("s=(", "s=(("), "no structured field"),
        (format!("{right}\nSignature-Input: {}", ",a=()".repeat(20).trim_start_matches(',')), "too many"),
        (
            right.replace(
                input,
                &format!("Signature-Input: s=({});created={NOW};keyid=\"k\"", "\"@method\" ".repeat(2_000)),
            ),
            "too long",
        ),
    ] {
        assert_ne!(wrong, right, "{why}");
        assert_eq!(refusal(&wrong), missing, "{why}");
    }
    assert_eq!(status(&chain, &right, "", NOW), 0, "none of these used it up");
}

#[test]
fn explain_uses_nothing_up() {
    let signer = Signer::new();
    let chain = signer.chain("{}");
    let text = signer.request(ALL, &params(""));
    for _ in 0..2 {
        let (outcome, detail) = chain.explain(&mut asked(&chain, &text, NOW));
        assert!(outcome == Outcome::Pass && detail.contains("a key of `partner`"), "{detail}");
    }
    assert_eq!(status(&chain, &text, "", NOW), 0);
    for (text, wall, words) in [
        (text.clone(), NOW, "presented before"),
        (text.clone(), NOW + 301, "clock_skew"),
        ("GET / HTTP/1.1".to_owned(), NOW, "no signature"),
        (signer.request("\"@method\"", &params("")), NOW, "`required`"),
        (text.replace("b=c", "b=d"), NOW, "not made with a key"),
    ] {
        let (outcome, detail) = chain.explain(&mut asked(&chain, &text, wall));
        assert!(outcome == Outcome::Refuse(401, "unauthenticated") && detail.contains(words), "{detail}");
    }
}

#[test]
fn query_parameters_are_covered_in_their_one_spelling() {
    // the examples of section 2.2.8
    let text = "GET /parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something&twice=1&tw%69ce=2 HTTP/1.1";
    let base = |name: &str| {
        let input = format!("s=(\"@query-param\";name=\"{name}\")");
        let read = super::presented::read(input.as_bytes()).unwrap();
        let sfv::ListEntry::InnerList(list) = &read["s"] else { panic!("a list") };
        super::components::base(list, &exchange(text)).map(|base| String::from_utf8(base).unwrap())
    };
    for (name, value) in [
        ("var", "this%20is%20a%20big%0Amultiline%20value"),
        ("bar", "with%20plus%20whitespace"),
        ("fa%C3%A7ade%22%3A%20", "something"),
    ] {
        assert!(base(name).unwrap().starts_with(&format!("\"@query-param\";name=\"{name}\": {value}\n")), "{name}");
    }
    assert_eq!((base("twice"), base("none")), (None, None));
}

#[test]
fn wrong_settings_and_keys_are_found() {
    let bench = Bench::new(vec![consumer("a", &[], &[])]);
    for settings in [
        "{ required: ['@status'] }",
        "{ required: [Host] }",
        "{ tag: '' }",
        "{ clock_skew: 2h }",
        "{ replay_entries: 1 }",
    ] {
        let errors = bench.errors(&format!("signature_auth: {settings}"));
        assert!(errors.len() == 1 && errors[0].starts_with("bad_value"), "{settings}: {errors:?}");
    }
    let chain = bench.build("signature_auth: {}");
    assert!(chain.is_ok());
    for (key, words) in [
        ("x", "no PEM"),
        ("{", "no JSON"),
        ("{}", "no key of its `algorithm`"),
        ("{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}", "missing"),
        ("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"JrQ=\"}", "base64url"),
        ("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"JrQL\"}", "no key of its `algorithm`"),
        ("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"JrQL\",\"d\":\"JrQL\"}", "private key"),
        (rfc::RSA_PSS, "no key of its `algorithm`"),
    ] {
        let signing_keys = vec![public("k", SignatureAlgorithm::Ed25519, key)];
        let bench = Bench::new(vec![Consumer { signing_keys, ..consumer("partner", &[], &[]) }]);
        let errors = bench.errors("signature_auth: {}");
        assert!(errors.len() == 1 && errors[0].contains(words), "{key}: {errors:?}");
    }
}

#[test]
fn a_digest_in_the_field_must_be_well_formed_where_it_is_covered() {
    let signer = Signer::new();
    let chain = signer.chain("{ required: [], replay: allow }");
    let of = |field: &str| {
        let input = format!("(\"content-digest\"){}", params(""));
        let base = format!("\"content-digest\": {field}\n\"@signature-params\": {input}");
        let signature = base64(&signer.sign(&base));
        format!("POST / HTTP/1.1\nContent-Digest: {field}\nSignature-Input: s={input}\nSignature: s=:{signature}:")
    };
    let right = base64(digest(&SHA256, b"abc").as_ref());
    assert_eq!(status(&chain, &of(&format!("sha-256=:{right}:")), "abc", NOW), 0);
    assert_eq!(status(&chain, &of("sha-256=:YQ==:"), "abc", NOW), 401);
    assert_eq!(status(&chain, &of("md5=:YQ==:"), "abc", NOW), 401);
}

proptest! {
    #[test]
    fn no_text_brings_the_reader_down(text in "(sig1=|\\(|\\)|\"@method\"|\"@query-param\"|;name=\"b\"|;bs|;key=\"a\"|\"x-list\"| |;created=1|,|:YQ==:|\\PC){0,30}") {
        let asked = exchange("GET /a?b=c HTTP/1.1\nHost: h\nX-List: a, b");
        prop_assert_eq!(super::check_reader(text.as_bytes(), &asked), Ok(()));
    }
}

#[test]
fn a_key_that_has_expired_or_is_disabled_is_answered_as_an_unknown_one() {
    let signer = Signer::new();
    for (expires, disabled, wanted) in
        [(Some(NOW * 1000), false, "has expired"), (None, true, "is disabled"), (Some(NOW * 1000 + 1), false, "")]
    {
        let signing_keys = vec![public("k", signer.algorithm(), &pem(&signer.der()))];
        let said = Terms { expires, disabled, ..Terms::default() };
        let terms = [(CredentialName::Signer("k".to_owned()), said)].into_iter().collect();
        let bench = Bench::new(vec![Consumer { signing_keys, terms, ..consumer("partner", &[], &[]) }]);
        let chain = bench.build("signature_auth: {}").unwrap();
        let of = |key: &str| {
            let covered = "\"@method\" \"@authority\" \"@path\" \"@query\"";
            asked(&chain, &signer.request(covered, &format!(";created={NOW};keyid=\"{key}\"")), NOW)
        };
        let (outcome, detail) = chain.explain(&mut of("k"));
        let answer = chain.inward_with(&mut of("k"), b"").1;
        if wanted.is_empty() {
            assert!(answer.is_ok() && outcome == Outcome::Pass, "{detail}");
            continue;
        }
        let unknown = chain.inward_with(&mut of("nobody"), b"").1;
        assert_eq!(told(answer.unwrap_err()), told(unknown.unwrap_err()), "{wanted}");
        assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{wanted}");
        assert!(detail.contains(wanted), "{detail}");
    }
}
