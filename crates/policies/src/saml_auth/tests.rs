pub(crate) mod issuer;
mod wrapping;

use std::sync::LazyLock;

use daemun_config::decode::{Decoder, Setting as _};
use daemun_config::{Diagnostics, parse_text};
use daemun_pipeline::Outcome;
use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD};
use proptest::prelude::*;

use super::SamlAuthConfig;
use crate::jwt::Algorithm;
use crate::testing::{Bench, Chain, SECOND, WALL, consumer, sent_lines};
use issuer::{How, Issuer, PLACE, PLAIN, enveloped, of_algorithm};

static RSA: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(Algorithm::Rs256));
static EC: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(Algorithm::Es256));

/// Settings that take the assertion of [`PLAIN`].
pub(crate) fn settings(issuers: &[&Issuer]) -> String {
    let pem: Vec<String> = issuers.iter().map(|issuer| serde_json::to_string(&issuer.0.pem()).unwrap()).collect();
    format!(
        "issuer: https://idp.example.com, certificates: [{}], audience: shop-api, recipient: https://api.example.com/auth",
        pem.join(", ")
    )
}

fn chain_of(more: &str) -> Chain {
    let bench = Bench::new(vec![consumer("shop-app", &["buyer"], &[])]);
    bench.build(&format!("saml_auth: {{ {}{more} }}", settings(&[&RSA, &EC]))).unwrap()
}

fn chain() -> Chain {
    chain_of(", roles: role")
}

/// The subject of an assertion, or why it is not taken. That a call is let in or not is the same.
fn judge_at(chain: &Chain, text: &str, wall: u64) -> Result<String, String> {
    judge_encoded(chain, &BASE64URL_NOPAD.encode(text.as_bytes()), wall)
}

fn judge_encoded(chain: &Chain, token: &str, wall: u64) -> Result<String, String> {
    let call = || {
        let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nHost: a\nAuthorization: Bearer {token}"));
        exchange.wall = wall;
        exchange
    };
    let (outcome, detail) = chain.explain(&mut call());
    let mut exchange = call();
    let status = chain.status(&mut exchange);
    match outcome {
        Outcome::Pass => {
            assert_eq!(status, 0, "{detail}");
            Ok(exchange.identity.unwrap().subject.to_string())
        }
        Outcome::Skip | Outcome::Answer(_) | Outcome::Refuse(..) => {
            assert_eq!(status, 401, "{detail}");
            Err(detail)
        }
    }
}

fn judge(text: &str) -> Result<String, String> {
    judge_at(&chain(), text, WALL)
}

/// That a text is refused for this reason.
fn refused(text: &str, why: &str) {
    let found = judge(text);
    assert!(found.as_ref().is_err_and(|found| found.contains(why)), "{found:?} is not {why:?}: {text}");
}

#[test]
fn a_signed_assertion_tells_who_calls() {
    let chain = chain();
    let token = BASE64URL_NOPAD.encode(RSA.sign(PLAIN).as_bytes());
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nHost: a\nAuthorization: Bearer {token}"));
    exchange.wall = WALL;
    assert_eq!(chain.status(&mut exchange), 0);
    let lines = ["GET / HTTP/1.1", "Host: a", "X-Consumer-Name: alice@example.com", "X-Consumer-Roles: buyer,reader"];
    assert_eq!(sent_lines(&exchange), lines);
    let identity = exchange.identity.unwrap();
    assert_eq!(identity.scopes, ["read", "write"]);
    assert_eq!((&identity.claims["iss"], &identity.claims["sid"]), (&"https://idp.example.com".into(), &"s-1".into()));
    assert_eq!(identity.credential.as_deref(), Some("_one"));
}

#[test]
fn either_base64_is_read_with_and_without_padding_and_nothing_else() {
    let (chain, text) = (chain(), RSA.sign(PLAIN));
    // so that there is padding to leave out
    let text = (0..3).map(|more| format!("{text}{}", " ".repeat(more))).find(|text| text.len() % 3 == 1).unwrap();
    let padded = BASE64URL.encode(text.as_bytes());
    for good in [&padded, padded.trim_end_matches('='), &BASE64.encode(text.as_bytes())] {
        assert!(judge_encoded(&chain, good, WALL).is_ok(), "{good}");
    }
    for wrong in
        [padded.trim_end_matches("==").to_owned() + "=", padded.clone() + "=", format!("!{padded}"), "PA".into()]
    {
        assert!(judge_encoded(&chain, &wrong, WALL).is_err(), "{wrong}");
    }
}

#[test]
fn signatures_of_each_algorithm_that_is_taken_are_verified() {
    let more = "http://www.w3.org/2001/04/xmldsig-more#";
    let pss = "http://www.w3.org/2007/05/xmldsig-more#";
    let [sha256, sha384, sha512] = [
        "http://www.w3.org/2001/04/xmlenc#sha256",
        "http://www.w3.org/2001/04/xmldsig-more#sha384",
        "http://www.w3.org/2001/04/xmlenc#sha512",
    ];
    for (algorithm, space, name, hash) in [
        (Algorithm::Rs256, more, "rsa-sha256", sha512),
        (Algorithm::Rs384, more, "rsa-sha384", sha256),
        (Algorithm::Rs512, more, "rsa-sha512", sha384),
        (Algorithm::Ps256, pss, "sha256-rsa-MGF1", sha256),
        (Algorithm::Ps384, pss, "sha384-rsa-MGF1", sha256),
        (Algorithm::Ps512, pss, "sha512-rsa-MGF1", sha256),
        (Algorithm::Es256, more, "ecdsa-sha256", sha256),
        (Algorithm::Es384, more, "ecdsa-sha384", sha384),
        (Algorithm::Es512, more, "ecdsa-sha512", sha512),
    ] {
        let issuer = Issuer::new(algorithm);
        let chain = Bench::new(Vec::new()).build(&format!("saml_auth: {{ {} }}", settings(&[&issuer]))).unwrap();
        let method = of_algorithm("SignatureMethod", &format!("{space}{name}"), "");
        let text = issuer.sign_as(PLAIN, &How { algorithm, method, hash, ..How::default() });
        assert_eq!(judge_at(&chain, &text, WALL).as_deref(), Ok("alice@example.com"), "{name}");
    }
}

#[test]
fn weak_and_foreign_signatures_are_refused() {
    let method = |uri: &str| How { method: of_algorithm("SignatureMethod", uri, ""), ..How::default() };
    let why = "an algorithm that is not taken";
    for uri in [
        "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
        "http://www.w3.org/2000/09/xmldsig#hmac-sha1",
        "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-md5",
        "",
    ] {
        refused(&RSA.sign_as(PLAIN, &method(uri)), why);
    }
    refused(&RSA.sign_as(PLAIN, &How { hash: "http://www.w3.org/2000/09/xmldsig#sha1", ..How::default() }), why);
    // the public key, which everybody has, as a shared secret
    let hmac = Issuer(crate::jwt::tests::signer::Signer::Secret(RSA.0.pem().into_bytes()));
    let how = How { algorithm: Algorithm::Hs256, ..method("http://www.w3.org/2001/04/xmldsig-more#hmac-sha256") };
    refused(&hmac.sign_as(PLAIN, &how), why);
    refused(&hmac.sign_as(PLAIN, &How { algorithm: Algorithm::Hs256, ..How::default() }), "not that of a certificate");
    // somebody else's key, which the signature itself brings along
    let other = Issuer::new(Algorithm::Rs256);
    let key = "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>MIIB</ds:X509Certificate></ds:X509Data></ds:KeyInfo>";
    refused(&other.sign_as(PLAIN, &How { behind: key.to_owned(), ..How::default() }), "not that of a certificate");
    assert!(judge(&RSA.sign_as(PLAIN, &How { behind: key.to_owned(), ..How::default() })).is_ok());
    refused(&PLAIN.replace(PLACE, ""), "it is not signed");
    // an algorithm of another kind of key
    refused(
        &RSA.sign_as(PLAIN, &method("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256")),
        "not that of a certificate",
    );
}

#[test]
fn only_the_form_of_signature_that_saml_allows_is_taken() {
    let exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#";
    let transform = |uri: &str| of_algorithm("Transform", uri, "");
    let how = |transforms: String| How { transforms, ..How::default() };
    let list = |prefixes: &str| {
        format!(r#"<ec:InclusiveNamespaces xmlns:ec="{exclusive}" PrefixList="{prefixes}"></ec:InclusiveNamespaces>"#)
    };
    for good in [
        how(enveloped() + &of_algorithm("Transform", exclusive, &list("xs"))),
        how(enveloped() + &transform("http://www.w3.org/2001/10/xml-exc-c14n#WithComments")),
    ] {
        assert_eq!(judge(&RSA.sign_as(PLAIN, &good)).as_deref(), Ok("alice@example.com"), "{}", good.transforms);
    }
    for wrong in [
        String::new(),
        enveloped(),
        transform(exclusive),
        transform(exclusive) + &enveloped(),
        enveloped() + &transform("http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        enveloped() + &transform("http://www.w3.org/TR/1999/REC-xslt-19991116"),
        enveloped() + &transform("http://www.w3.org/TR/1999/REC-xpath-19991116"),
        enveloped() + &transform(exclusive) + &transform(exclusive),
        enveloped() + &of_algorithm("Transform", exclusive, "<ds:XPath>/</ds:XPath>"),
        enveloped() + &of_algorithm("Transform", exclusive, &list(&"a ".repeat(17))),
        of_algorithm("Transform", "http://www.w3.org/2000/09/xmldsig#enveloped-signature", "<ds:XPath>/</ds:XPath>")
            + &transform(exclusive),
    ] {
        refused(&RSA.sign_as(PLAIN, &how(wrong)), "its signature");
    }
    let form = of_algorithm("CanonicalizationMethod", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", "");
    refused(&RSA.sign_as(PLAIN, &How { form, ..How::default() }), "a transform that is not taken");
    for uri in ["", "#", "#_two", "_one", "#xpointer(id('_one'))", "http://example.com/a"] {
        refused(&RSA.sign_as(PLAIN, &How { uri, ..How::default() }), "over something else");
    }
    let object = "<ds:Object>x</ds:Object>".to_owned();
    refused(&RSA.sign_as(PLAIN, &How { behind: object, ..How::default() }), "not of the form");
    let signed = RSA.sign(PLAIN);
    refused(&signed.replace("<ds:SignedInfo>", "<ds:SignedInfo><!-- a -->"), "comment in its signature");
    refused(&signed.replace("<ds:SignatureValue>", "<ds:SignatureValue>!"), "not base64");
    let twice = signed.replace("</ds:Reference>", "</ds:Reference><ds:Reference URI=\"#_one\"></ds:Reference>");
    refused(&twice, "not of the form");
}

#[test]
fn what_is_no_plain_text_is_refused_before_anything_is_made_of_it() {
    let signed = RSA.sign(PLAIN);
    let laughs: String =
        (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    refused(&format!("<!DOCTYPE a [<!ENTITY l0 \"ha\">{laughs}]>{}", signed.replace("alice", "&l9;")), "document type");
    refused(&format!("<!DOCTYPE a SYSTEM \"file:///etc/passwd\">{signed}"), "document type");
    refused(&format!("<!DOCTYPE a [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{signed}"), "document type");
    refused(&signed.replace("alice", "&e;"), "refers to an entity");
    refused(&signed.replace("\"_one\"", "\"&e;\""), "refers to an entity");
    refused(&signed.replace("alice", "<?php x?>alice"), "processing instruction");
    refused(&format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>{signed}"), "another encoding");
    refused(&format!("{signed}{signed}"), "well-formed");
    refused(signed.strip_suffix('>').unwrap(), "well-formed");
    refused(" ", "well-formed");
    let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
    refused(&signed.replace("<saml:Subject>", &format!("{deep}<saml:Subject>")), "too deep");
    refused(&format!("<a>{}</a>", "<b/>".repeat(3_000)), "too many elements");
    let prefixes: String = (0..40).map(|n| format!(" xmlns:a{n}=\"b\"")).collect();
    refused(&format!("<a{prefixes}/>"), "too many attributes or prefixes");
    refused(&"x".repeat(64 << 10 | 1), "longer than `max_size`");
    assert_eq!(
        judge(&format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{signed}\n")).as_deref(),
        Ok("alice@example.com")
    );
}

#[test]
fn a_comment_in_a_name_does_not_cut_it() {
    // comments are no part of what is signed, so that anybody can put them in
    let signed = RSA.sign(&PLAIN.replace("alice@example.com", "alice@example.com.evil.test"));
    for with in ["alice@example.com<!-- -->.evil.test", "<!-- -->alice@example.com<!----><!---->.evil.test<!-- -->"] {
        let text = signed.replace("alice@example.com.evil.test", with);
        assert_ne!(text, signed);
        assert_eq!(judge(&text).as_deref(), Ok("alice@example.com.evil.test"), "{with}");
    }
    let signed = RSA.sign(&PLAIN.replace("alice@", "al&amp;ice@"));
    assert_eq!(judge(&signed.replace("al&amp;ice@", "al<![CDATA[&]]>ice@")).as_deref(), Ok("al&ice@example.com"));
}

#[test]
fn an_assertion_is_for_here_or_refused() {
    for (from, to, why) in [
        ("https://idp.example.com<", "https://idp.example.com/<", "its `Issuer`"),
        (">shop-api<", ">other-api<", "another audience"),
        ("<saml:Audience>shop-api</saml:Audience>", "", "another audience"),
        (
            "<saml:AudienceRestriction><saml:Audience>shop-api</saml:Audience></saml:AudienceRestriction>",
            "",
            "not whom it is for",
        ),
        (
            "</saml:AudienceRestriction>",
            "</saml:AudienceRestriction><saml:AudienceRestriction><saml:Audience>b</saml:Audience></saml:AudienceRestriction>",
            "another audience",
        ),
        ("https://api.example.com/auth", "https://other.example.com/auth", "`Recipient`"),
        (r#" Recipient="https://api.example.com/auth""#, "", "`Recipient`"),
        (r#"NotOnOrAfter="2027-01-15T08:05:00Z" "#, "", "not until when"),
        ("cm:bearer", "cm:holder-of-key", "confirmed in no way"),
        ("<saml:Conditions ", "<saml:Unknown ", "a part that is not known"),
        (
            "<saml:AudienceRestriction>",
            "<saml:Condition></saml:Condition><saml:AudienceRestriction>",
            "a condition that is not known",
        ),
        (
            "<saml:AudienceRestriction>",
            "<saml:OneTimeUse></saml:OneTimeUse><saml:AudienceRestriction>",
            "may be used once",
        ),
        (r#"Version="2.0""#, r#"Version="1.1""#, "`Version`"),
        (r#" IssueInstant="2027-01-15T07:59:00Z""#, "", "`IssueInstant`"),
        ("SessionIndex=\"s-1\"", "SessionIndex=\"s-1\" SessionNotOnOrAfter=\"2027-01-15T08:00:00Z\"", "has ended"),
        ("alice@example.com", "", "its `NameID` is empty"),
        ("alice@example.com", "alice\nroot", "its `NameID`"),
        ("alice@example.com", "<saml:a></saml:a>", "its `NameID`"),
        ("alice@example.com", "shop-app", "names no consumer"),
    ] {
        let text = PLAIN.replace(from, to);
        assert_ne!(text, PLAIN, "{from}");
        let text = if to == "<saml:Unknown " { text.replace("</saml:Conditions>", "</saml:Unknown>") } else { text };
        refused(&RSA.sign(&text), why);
    }
    let twice =
        PLAIN.replace("<saml:AttributeStatement>", "<saml:Conditions></saml:Conditions><saml:AttributeStatement>");
    refused(&RSA.sign(&twice), "one `Conditions`");
}

#[test]
fn an_assertion_holds_between_its_times_with_the_leeway() {
    let (chain, signed) = (chain(), RSA.sign(PLAIN));
    // from 07:59:00 to 08:05:00, and 30 seconds more
    for (seconds, good) in [(-91_i64, false), (-90, true), (0, true), (329, true), (330, false), (86_400, false)] {
        let wall = WALL.saturating_add_signed(seconds * 1_000_000_000);
        assert_eq!(judge_at(&chain, &signed, wall).is_ok(), good, "{seconds}");
    }
    for (from, to, good) in [
        ("IssueInstant=\"2027-01-15T07:59:00Z", "IssueInstant=\"2027-01-15T08:00:30Z", true),
        ("IssueInstant=\"2027-01-15T07:59:00Z", "IssueInstant=\"2027-01-15T08:00:31Z", false),
        ("NotBefore=\"2027-01-15T07:59:00Z", "NotBefore=\"2027-01-15T08:00:31Z", false),
        ("2027-01-15T08:10:00Z", "2027-01-15T07:59:30Z", false),
        ("2027-01-15T08:10:00Z", "2027-01-15T08:10:00+01:00", false),
        ("<saml:SubjectConfirmationData ", "<saml:SubjectConfirmationData NotBefore=\"2027-01-15T08:00:31Z\" ", false),
        ("2027-01-15T08:05:00Z", "2099-01-15T08:05:00Z", true),
    ] {
        let text = PLAIN.replace(from, to);
        assert_ne!(text, PLAIN, "{from}");
        assert_eq!(judge_at(&chain, &RSA.sign(&text), WALL).is_ok(), good, "{to}");
    }
    let long = PLAIN
        .replace("2027-01-15T08:05:00Z", "2027-01-16T08:00:00Z")
        .replace("2027-01-15T08:10:00Z", "2027-01-17T08:00:00Z");
    refused(&RSA.sign(&long), "longer than `max_lifetime`");
    assert!(judge_at(&chain_of(", max_lifetime: 48h"), &RSA.sign(&long), WALL).is_ok());
}

#[test]
fn what_is_remembered_ends_with_the_assertion() {
    let (chain, signed) = (chain_of(""), RSA.sign(PLAIN));
    assert!(judge_at(&chain, &signed, WALL).is_ok());
    assert!(judge_at(&chain, &signed, WALL + 329 * SECOND).is_ok());
    assert!(judge_at(&chain, &signed, WALL + 330 * SECOND).is_err());
    let changed = signed.replace("alice", "mallo");
    assert!(judge_at(&chain, &changed, WALL).is_err(), "the end alone finds nothing");
}

#[test]
fn a_subject_with_the_name_of_a_consumer_of_the_store_is_not_taken_for_it() {
    let bench = Bench::new(Vec::new());
    let chain = bench.build(&format!("saml_auth: {{ {} }}", settings(&[&RSA]))).unwrap();
    let text = RSA.sign(PLAIN);
    assert!(judge_at(&chain, &text, WALL).is_ok());
    let _accounts = bench.with_stored("alice@example.com");
    assert!(judge_at(&chain, &text, WALL).is_err());
}

#[test]
fn attributes_say_what_they_are_asked_for() {
    let signed = RSA.sign(PLAIN);
    assert!(judge_at(&chain_of(", claims: { role: [admin, reader] }"), &signed, WALL).is_ok());
    assert!(judge_at(&chain_of(", claims: { role: admin }"), &signed, WALL).is_err());
    let named = PLAIN
        .replace("<saml:Attribute Name=\"scope\">", "<saml:Attribute Name=\"app\">")
        .replace("read write", "shop-app");
    let chain = chain_of(", consumer: app");
    assert!(judge_at(&chain, &signed, WALL).unwrap_err().contains("it has no `app`"));
    assert_eq!(judge_at(&chain, &RSA.sign(&named), WALL).as_deref(), Ok("alice@example.com"));
    // what an assertion says by itself is no attribute's to say
    let own = PLAIN.replace("Name=\"scope\"", "Name=\"sub\"");
    assert_eq!(judge(&RSA.sign(&own)).as_deref(), Ok("alice@example.com"));
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let bench = Bench::new(Vec::new());
    let of = |settings: String| bench.errors(&format!("saml_auth: {{ {settings} }}"));
    let good = settings(&[&RSA]);
    for (from, to, why) in [
        (
            "certificates: [",
            "certificates: [\"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\", ",
            "cannot be read",
        ),
        ("certificates: [", "certificates: [/nowhere/at/all.crt, ", "cannot be read"),
        ("audience: shop-api", "audience: []", "expected 1 to 16 of them, found 0"),
        ("audience: shop-api, ", "", "`audience` is missing"),
        ("audience: shop-api", "audience: shop-api, leeway: 11m", "`10m` at most"),
        ("audience: shop-api", "audience: shop-api, max_size: 1MiB", "`1KiB` to `256KiB`"),
        ("audience: shop-api", "audience: shop-api, from: []", "at least one place"),
        ("issuer: https://idp.example.com", "issuer: \"\"", "1 to 1024 bytes"),
    ] {
        let settings = good.replace(from, to);
        assert_ne!(settings, good, "{from}");
        let found = of(settings);
        assert!(found.iter().any(|line| line.contains(why)), "{found:?} has no {why:?}");
    }
    assert_eq!(of(good), [""; 0]);
    // whichever of the two sets a key is of, it is found once, and told by the nearest of both
    for (wrong, right) in [("audence", "audience"), ("forwrd", "forward")] {
        let mut found = Diagnostics::new();
        let node = parse_text(&format!("{{ {}, {wrong}: x }}", settings(&[&RSA])), &mut found).unwrap();
        SamlAuthConfig::decode(&node, &mut Decoder::new(&mut found, "saml_auth"));
        let found: Vec<String> = found.iter().map(|one| format!("{one:?}")).collect();
        assert!(found.len() == 1 && found[0].contains(wrong) && found[0].contains(&format!("`{right}`")), "{found:?}");
    }
}

/// A tree of elements as text, with everything in it that has a form of its own.
fn element() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "p:a", "q:b", "saml:Assertion"]);
    let attributes = prop::sample::subsequence(
        vec![
            "x=\"1\"",
            "p:x='a\"b'",
            "q:x=\"&#13;&#10;&#9; &lt;&amp;&quot;\"",
            "y=' \t\n '",
            "xmlns=\"urn:d\"",
            "xmlns:p=\"urn:p2\"",
            "xmlns:q='urn:q2'",
            "xml:space=\"preserve\"",
        ],
        0..8,
    );
    let piece = prop::sample::select(vec![
        "t",
        " ",
        "\r\n",
        "&#xD;",
        "&lt;",
        "&gt;&amp;",
        "]]&gt;",
        "\"'",
        "\u{e9}\u{10000}",
        "<![CDATA[<&>]]>",
        "<!-- - -->",
    ]);
    let leaf = piece.prop_map(str::to_owned);
    let content = leaf.prop_recursive(4, 48, 6, move |inner| {
        let children = prop::collection::vec(inner, 0..6).prop_map(|children| children.concat());
        (name.clone(), attributes.clone(), children).prop_map(|(name, attributes, children)| {
            let attributes: String = attributes.iter().map(|attribute| format!(" {attribute}")).collect();
            format!("<{name}{attributes}>{children}</{name}>")
        })
    });
    let space = "xmlns:p=\"urn:p\" xmlns:q=\"urn:q\" xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"";
    content.prop_map(move |content| format!("<r {space}>{content}</r>"))
}

proptest! {
    #[test]
    fn what_is_read_later_is_what_was_signed(text in element(), soup in "[<>/&;! -\\[\\]a-zA-Z0-9=\"':]{0,120}") {
        prop_assert!(uppsala::parse(&text).is_ok(), "{}", text);
        prop_assert_eq!(super::check_reader(text.as_bytes()), Ok(()), "{}", text);
        prop_assert_eq!(super::check_reader(soup.as_bytes()), Ok(()));
        let (at, end) = (text.len() / 3, text.len() / 2);
        if let (Some(before), Some(behind)) = (text.get(..at), text.get(end..)) {
            let text = format!("{before}{soup}{behind}");
            prop_assert_eq!(super::check_reader(text.as_bytes()), Ok(()), "{}", text);
        }
    }

    #[test]
    fn no_text_is_taken_and_none_panics(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let chain = chain();
        prop_assert!(judge_at(&chain, &text, WALL).is_err());
        prop_assert!(judge_encoded(&chain, &BASE64URL_NOPAD.encode(&bytes), WALL).is_err());
    }

    #[test]
    fn whatever_is_changed_nothing_else_is_said(
        at in 0_usize..4_000,
        length in 0_usize..60,
        with in "[ <>/&;a-zA-Z0-9=\"#!-]{0,40}",
    ) {
        let method = of_algorithm("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", "");
        let text = EC.sign_as(PLAIN, &How { algorithm: Algorithm::Es256, method, ..How::default() });
        let begin = at.min(text.len());
        let end = (begin + length).min(text.len());
        let changed = format!("{}{with}{}", &text[..begin], &text[end..]);
        if let Ok(subject) = judge(&changed) {
            prop_assert_eq!(subject, "alice@example.com");
        }
    }
}
