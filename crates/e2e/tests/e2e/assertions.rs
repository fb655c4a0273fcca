//! SAML assertions on the wire: a token is given for one once, also after a restart; with each call they let in whom they name.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::{Client, Gateway, Origin, wait_until};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::Value;

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// What a program prints for what it is given.
fn run(folder: &Path, program: &str, arguments: &str, input: &str) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap_or_else(|_| panic!("`{program}` must be installed"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments}");
    output.stdout
}

/// A moment so many minutes from now.
fn moment(minutes: i64) -> String {
    let out = run(Path::new("/"), "date", &format!("-u -d {minutes}minutes +%Y-%m-%dT%H:%M:%SZ"), "");
    String::from_utf8(out).unwrap().trim().to_owned()
}

/// A login service, with its key in a folder.
fn issuer() -> Folder {
    let folder = Folder::new();
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout idp.key -out idp.crt -days 30 -subj /CN=idp";
    run(folder.path(), "openssl", make, "");
    folder
}

/// An assertion of a name, signed, in base64url. What is signed is written in canonical form.
fn assertion(issuer: &Folder, id: &str, subject: &str) -> String {
    let (issued, until) = (moment(-1), moment(5));
    let text = |signature: &str| {
        format!(
            "<Assertion xmlns=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{id}\" IssueInstant=\"{issued}\" Version=\"2.0\">\
             <Issuer>https://idp.test</Issuer>{signature}<Subject><NameID>{subject}</NameID>\
             <SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><SubjectConfirmationData NotOnOrAfter=\"{until}\" \
             Recipient=\"https://api.test/auth\"></SubjectConfirmationData></SubjectConfirmation></Subject>\
             <Conditions NotBefore=\"{issued}\" NotOnOrAfter=\"{until}\"><AudienceRestriction><Audience>shop-api</Audience>\
             </AudienceRestriction></Conditions><AttributeStatement><Attribute Name=\"role\"><AttributeValue>buyer</AttributeValue>\
             </Attribute></AttributeStatement></Assertion>"
        )
    };
    let digest = BASE64.encode(&run(issuer.path(), "openssl", "dgst -sha256 -binary", &text("")));
    let rest = format!(
        "<CanonicalizationMethod Algorithm=\"{EXCLUSIVE}\"></CanonicalizationMethod>\
         <SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"></SignatureMethod><Reference URI=\"#{id}\">\
         <Transforms><Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></Transform>\
         <Transform Algorithm=\"{EXCLUSIVE}\"></Transform></Transforms>\
         <DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></DigestMethod><DigestValue>{digest}</DigestValue>\
         </Reference></SignedInfo>"
    );
    let space = "xmlns=\"http://www.w3.org/2000/09/xmldsig#\"";
    let signed = format!("<SignedInfo {space}>{rest}");
    let value = BASE64.encode(&run(issuer.path(), "openssl", "dgst -sha256 -sign idp.key", &signed));
    let signature =
        format!("<Signature {space}><SignedInfo>{rest}<SignatureValue>{value}</SignatureValue></Signature>");
    BASE64URL_NOPAD.encode(text(&signature).as_bytes())
}

fn yaml(issuer: &Folder, origin: &Origin, store: &Path) -> String {
    let trust = format!(
        "issuer: https://idp.test, certificates: {}, audience: shop-api, recipient: https://api.test/auth, roles: role",
        issuer.path().join("idp.crt").display()
    );
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: {{ path: \"{}\" }}\n\
         upstreams: {{ origin: {{ targets: [\"{}\"] }} }}\n\
         tokens: {{ shop: {{ grants: [saml2_bearer], refresh: off, saml: {{ {trust} }} }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: shop }}\n  \
         - {{ name: items, match: {{ path: /items }}, upstream: origin, policies: {{ token_auth: {{}} }} }}\n  \
         - name: direct\n    match: {{ path: /direct }}\n    upstream: origin\n    authenticate: {{ any: [key_auth, saml_auth] }}\n    \
         policies: {{ key_auth: {{ header: X-Api-Key }}, saml_auth: {{ {trust} }} }}\n\
         consumers: [{{ name: shop-app, keys: [shop-app-key-0001] }}]\n",
        store.display(),
        origin.url()
    )
}

fn ask(client: &mut Client, assertion: &str) -> (u16, Value) {
    let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Asaml2-bearer&assertion={assertion}");
    let answer = client.call(format!(
        "POST /auth HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    (answer.status, answer.json())
}

fn call(client: &mut Client, target: &str, field: &str) -> u16 {
    client.call(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).status
}

#[test]
fn an_assertion_gives_a_token_once_also_after_a_restart() {
    let (issuer, folder, origin) = (issuer(), Folder::new(), Origin::echo());
    let yaml = yaml(&issuer, &origin, &folder.path().join("daemun.db"));
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    let first = assertion(&issuer, "_first", "alice");
    let (status, told) = ask(&mut client, &first);
    assert_eq!(status, 200, "{told}");
    assert!(told.get("refresh_token").is_none());
    let token = format!("Authorization: Bearer {}", told["access_token"].as_str().unwrap());
    assert_eq!(call(&mut client, "/items", &token), 200);
    let seen = origin.only_request();
    assert_eq!((seen.field("x-consumer-name"), seen.field("x-consumer-roles")), (Some("alice"), Some("buyer")));
    let refused = |client: &mut Client, assertion: &str| {
        let (status, told) = ask(client, assertion);
        assert_eq!((status, told["error"].as_str()), (400, Some("invalid_grant")), "{told}");
        told["error_description"].as_str().unwrap().to_owned()
    };
    let again = refused(&mut client, &first);
    let text = BASE64URL_NOPAD.decode(assertion(&issuer, "_forged", "alice").as_bytes()).unwrap();
    let forged = String::from_utf8(text).unwrap().replace("<NameID>alice", "<NameID>admin");
    assert_eq!(refused(&mut client, &BASE64URL_NOPAD.encode(forged.as_bytes())), again, "one answer for all");
    drop((client, gateway));
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    refused(&mut client, &first);
    assert_eq!(call(&mut client, "/items", &token), 200);
    assert_eq!(ask(&mut client, &assertion(&issuer, "_second", "alice")).0, 200);
}

#[test]
fn an_assertion_with_each_call_lets_in_until_its_certificate_is_another() {
    let (own, other, folder, origin) = (issuer(), issuer(), Folder::new(), Origin::echo());
    let gateway = Gateway::start(&yaml(&own, &origin, &folder.path().join("daemun.db")));
    let mut client = gateway.connect();
    let of = |issuer: &Folder| format!("Authorization: Bearer {}", assertion(issuer, "_one", "alice"));
    let (good, foreign) = (of(&own), of(&other));
    for _ in 0..2 {
        assert_eq!(call(&mut client, "/direct", &good), 200);
    }
    origin.look(|log| {
        let last = log.requests.last().unwrap();
        assert_eq!((last.field("x-consumer-name"), last.field("authorization")), (Some("alice"), None));
    });
    assert_eq!(call(&mut client, "/direct", "X-Api-Key: shop-app-key-0001"), 200);
    for wrong in [&foreign, "Authorization: Bearer PGE-", "X-Api-Key: no-such-key-00001", "X-Other: a"] {
        assert_eq!(call(&mut client, "/direct", wrong), 401, "{wrong}");
    }
    let certificate = std::fs::read(other.path().join("idp.crt")).unwrap();
    own.write("next.crt", certificate);
    std::fs::rename(own.path().join("next.crt"), own.path().join("idp.crt")).unwrap();
    wait_until("the reload", Duration::from_secs(30), || (call(&mut client, "/direct", &foreign) == 200).then_some(()));
    assert_eq!(call(&mut client, "/direct", &good), 401);
}
