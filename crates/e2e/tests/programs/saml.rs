//! Assertions that an independent program signs (xmlsec1, of libxmlsec): what it makes is taken, in each algorithm, however it is laid out, and
//! what is changed behind it is not.

use std::path::Path;
use std::process::Command;

use daemun_e2e::gateway::Folder;
use daemun_e2e::{Client, Gateway, Origin};

use crate::peers::all_there;

/// An assertion with a place for a signature, laid out as no canonical form is.
fn template(id: &str, method: &str, hash: &str, prefixes: &str) -> String {
    let moment = |minutes: i64| {
        let out =
            Command::new("date").args(["-u", "-d", &format!("{minutes}minutes"), "+%Y-%m-%dT%H:%M:%S.250Z"]).output();
        String::from_utf8(out.unwrap().stdout).unwrap().trim().to_owned()
    };
    let (issued, until) = (moment(-1), moment(5));
    let exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#";
    format!(
        r##"<?xml version="1.0" encoding="UTF-8"?>
<!-- made by hand -->
<saml2:Assertion Version='2.0'   ID="{id}" IssueInstant="{issued}"
    xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity">https://idp.test/&amp;a</saml2:Issuer>
  <ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
    <ds:SignedInfo>
      <ds:CanonicalizationMethod Algorithm="{exclusive}"/>
      <ds:SignatureMethod Algorithm="{method}"/>
      <ds:Reference URI="#{id}">
        <ds:Transforms>
          <ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
          <ds:Transform Algorithm="{exclusive}">{prefixes}</ds:Transform>
        </ds:Transforms>
        <ds:DigestMethod Algorithm="{hash}"/>
        <ds:DigestValue/>
      </ds:Reference>
    </ds:SignedInfo>
    <ds:SignatureValue/>
    <ds:KeyInfo><ds:X509Data/></ds:KeyInfo>
  </ds:Signature>
  <saml2:Subject>
    <saml2:NameID>al<!-- not the end -->ice&#64;shop.test</saml2:NameID>
    <saml2:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
      <saml2:SubjectConfirmationData Recipient="https://api.test/auth" NotOnOrAfter="{until}"/>
    </saml2:SubjectConfirmation>
  </saml2:Subject>
  <saml2:Conditions NotOnOrAfter="{until}" NotBefore="{issued}">
    <saml2:AudienceRestriction><saml2:Audience>shop-api</saml2:Audience></saml2:AudienceRestriction>
  </saml2:Conditions>
  <saml2:AuthnStatement AuthnInstant="{issued}"><saml2:AuthnContext><saml2:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml2:AuthnContextClassRef></saml2:AuthnContext></saml2:AuthnStatement>
  <saml2:AttributeStatement>
    <saml2:Attribute Name="http://idp.test/role" NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:uri" FriendlyName="role">
      <saml2:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string"><![CDATA[buyer]]></saml2:AttributeValue>
      <saml2:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">r&#x65;ader</saml2:AttributeValue>
    </saml2:Attribute>
  </saml2:AttributeStatement>
</saml2:Assertion>
"##
    )
}

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What xmlsec1 makes of a template.
fn signed(folder: &Folder, key: &str, template: &str) -> String {
    folder.write("template.xml", template);
    let keys = format!("{key}.key,{key}.crt");
    let id = "urn:oasis:names:tc:SAML:2.0:assertion:Assertion";
    let sign = ["--sign", "--privkey-pem", &keys, "--id-attr:ID", id, "--output", "signed.xml", "template.xml"];
    run(folder.path(), "xmlsec1", &sign);
    std::fs::read_to_string(folder.path().join("signed.xml")).unwrap()
}

/// Makes keys, `NAME.key` and `NAME.crt`; where their certificates are.
fn certificates(folder: &Folder) -> Vec<String> {
    let keys =
        [("rsa", "rsa:2048", ""), ("p256", "ec", "ec_paramgen_curve:P-256"), ("p384", "ec", "ec_paramgen_curve:P-384")];
    for (name, kind, curve) in keys {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut make =
            vec!["req", "-x509", "-newkey", kind, "-nodes", "-keyout", &key, "-out", &certificate, "-subj", "/CN=idp"];
        if !curve.is_empty() {
            make.extend(["-pkeyopt", curve]);
        }
        run(folder.path(), "openssl", &make);
    }
    keys.iter().map(|(name, ..)| folder.path().join(format!("{name}.crt")).display().to_string()).collect()
}

fn call(client: &mut Client, text: &str) -> u16 {
    let token = data_encoding::BASE64.encode(text.as_bytes());
    client.call(format!("GET /direct HTTP/1.1\r\nHost: a\r\nX-Assertion: {token}\r\n\r\n")).status
}

#[test]
fn what_xmlsec_signs_is_taken_and_what_is_changed_behind_it_is_not() {
    if !all_there(&["xmlsec1", "openssl"], &[]) {
        return;
    }
    let folder = Folder::new();
    let files = certificates(&folder);
    let origin = Origin::echo();
    let gateway = Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{}\"] }} }}\nroutes:\n  \
         - name: direct\n    match: {{ path: /direct }}\n    upstream: origin\n    policies:\n      saml_auth:\n        \
         issuer: https://idp.test/&a\n        certificates: [{}]\n        audience: shop-api\n        recipient: https://api.test/auth\n        \
         roles: http://idp.test/role\n        from: {{ header: X-Assertion }}\n",
        origin.url(),
        files.join(", ")
    ));
    let mut client = gateway.connect();
    let (more, sha256) = ("http://www.w3.org/2001/04/xmldsig-more#", "http://www.w3.org/2001/04/xmlenc#sha256");
    let sha512 = "http://www.w3.org/2001/04/xmlenc#sha512";
    let list = "<ec:InclusiveNamespaces xmlns:ec=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"xs\"/>";
    for (number, (key, method, hash, prefixes)) in [
        ("rsa", format!("{more}rsa-sha256"), sha256, ""),
        ("rsa", format!("{more}rsa-sha256"), sha256, list),
        ("rsa", format!("{more}rsa-sha512"), sha512, ""),
        ("p256", format!("{more}ecdsa-sha256"), sha256, ""),
        ("p384", format!("{more}ecdsa-sha384"), sha512, list),
    ]
    .into_iter()
    .enumerate()
    {
        let text = signed(&folder, key, &template(&format!("_n{number}"), &method, hash, prefixes));
        assert_eq!(call(&mut client, &text), 200, "{text}");
        for (from, to) in [
            ("al<!--", "ali<!--"),
            ("shop-api", "shop-apy"),
            ("buyer", "admin"),
            ("Version=\"2.0\"", "Version=\"2.0\" a=\"\""),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            assert_eq!(call(&mut client, &changed), 401, "{to}");
        }
        // what is no part of what is signed
        let other = text
            .replace("<!-- not the end -->", "<!-- x --><!---->")
            .replace("<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "");
        assert_eq!(call(&mut client, &other), 200);
    }
    origin.look(|log| {
        for seen in &log.requests {
            assert_eq!(seen.field("x-consumer-name"), Some("alice@shop.test"), "{}", seen.shown());
            assert_eq!(seen.field("x-consumer-roles"), Some("buyer,reader"), "{}", seen.shown());
        }
        assert_eq!(log.requests.len(), 10);
    });
    for (method, hash) in [
        ("http://www.w3.org/2000/09/xmldsig#rsa-sha1".to_owned(), sha256),
        (format!("{more}rsa-sha256"), "http://www.w3.org/2000/09/xmldsig#sha1"),
    ] {
        assert_eq!(
            call(&mut client, &signed(&folder, "rsa", &template("_old", &method, hash, ""))),
            401,
            "{method} {hash}"
        );
    }
}
