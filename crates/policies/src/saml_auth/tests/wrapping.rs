//! XML signature wrapping: a text that was signed stands somewhere in another one, so that what is verified and what is read differ.

use super::issuer::{How, PLACE, PLAIN};
use super::{RSA, judge, refused};

/// The assertion of somebody else, with a place for a signature.
fn evil(id: &str) -> String {
    PLAIN.replace("alice@example.com", "admin@example.com").replace("_one", id)
}

/// The signature of the signed assertion.
fn signature() -> String {
    RSA.signature(&PLAIN.replace(PLACE, ""), &How::default())
}

/// The signed assertion without its signature.
fn bare() -> String {
    PLAIN.replace(PLACE, "")
}

/// The signature with something in an object of it.
fn holding(inner: &str) -> String {
    signature().replace("</ds:Signature>", &format!("<ds:Object>{inner}</ds:Object></ds:Signature>"))
}

fn response(inner: &str) -> String {
    format!(
        "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_r\" Version=\"2.0\">{inner}</samlp:Response>"
    )
}

#[test]
fn a_signed_assertion_within_another_text_proves_nothing() {
    let signed = RSA.sign(PLAIN);
    assert_eq!(judge(&signed).as_deref(), Ok("alice@example.com"));
    let within = |place: &str, what: &str, text: &str| text.replace(place, &format!("{place}{what}"));
    let advice = |inner: &str| format!("<saml:Advice>{inner}</saml:Advice>");
    let one = "more than one assertion";
    let texts = [
        // around responses, which are not taken at all
        (response(&signed), "no `Assertion`"),
        (response(&(evil("_two").replace(PLACE, "") + &signed)), "no `Assertion`"),
        (response(&(signed.clone() + &evil("_two").replace(PLACE, ""))), "no `Assertion`"),
        // the signed one in an object of its signature, in one of another name and in one of the same
        (evil("_two").replace(PLACE, &holding(&bare())), one),
        (evil("_one").replace(PLACE, &holding(&bare())), "one id"),
        // the signed one, whole, within the other
        (within("</saml:Conditions>", &advice(&signed), &evil("_two").replace(PLACE, "")), one),
        (within("</saml:Conditions>", &signed, &evil("_two").replace(PLACE, "")), one),
        (within("</saml:Conditions>", &advice(&signed), &evil("_one").replace(PLACE, "")), "one id"),
        // its signature directly within the other, and itself further in
        (within("</saml:Conditions>", &advice(&bare()), &evil("_two").replace(PLACE, &signature())), one),
        (within("</saml:Conditions>", &advice(&bare()), &evil("_one").replace(PLACE, &signature())), "one id"),
        (within("</saml:Conditions>", &bare(), &evil("_two").replace(PLACE, &signature())), one),
        // the other within the signed one, where it could be found first
        (within("</saml:Issuer>", &evil("_two").replace(PLACE, ""), &signed), one),
        (within("</saml:Conditions>", &advice(&evil("_two").replace(PLACE, "")), &signed), one),
        (PLAIN.replace(PLACE, &holding(&evil("_two").replace(PLACE, ""))), one),
        // what is no assertion of SAML in the signed one's place within its signature
        (
            evil("_two").replace(PLACE, &holding(&bare().replace("urn:oasis:names:tc:SAML:2.0:assertion", "urn:a"))),
            "not of the form",
        ),
        // its signature alone
        (evil("_one").replace(PLACE, &signature()), "not what was signed"),
        (evil("_two").replace(PLACE, &signature()), "over something else"),
        // the signature further in
        (within("<saml:Subject>", &signature(), &bare()), "not directly within"),
        (within("<saml:AttributeStatement>", &signature(), &evil("_one").replace(PLACE, "")), "not directly within"),
        // two signatures, of which either is genuine
        (signed.replace("<ds:Signature ", &format!("{}<ds:Signature ", signature())), "more than one signature"),
        // and two roots
        (format!("{}{signed}", evil("_two").replace(PLACE, "")), "well-formed"),
    ];
    for (text, why) in texts {
        refused(&text, why);
    }
}

#[test]
fn an_id_that_stands_twice_is_refused_however_it_is_written() {
    let signed = RSA.sign(PLAIN);
    for attribute in ["ID", "Id", "id", "xml:id", "AssertionID"] {
        let text = signed.replace("<saml:NameID ", &format!("<saml:NameID {attribute}=\"_one\" "));
        refused(&text, "two elements of it have one id");
    }
}

#[test]
fn a_subject_that_is_put_beside_the_signed_one_is_refused() {
    let signed = RSA.sign(PLAIN);
    let subject = "<saml:Subject><saml:NameID>admin@example.com</saml:NameID></saml:Subject>";
    refused(&signed.replace("<saml:Subject>", &format!("{subject}<saml:Subject>")), "not what was signed");
    refused(&signed.replace("alice@", "admin@"), "not what was signed");
    // of another namespace, but of the same prefix
    let other = signed.replace("<saml:NameID ", "<saml:NameID xmlns:saml=\"urn:other\" ");
    refused(&other, "not what was signed");
    let twice = PLAIN.replace("<saml:Subject>", &format!("{subject}<saml:Subject>"));
    refused(&RSA.sign(&twice), "one `Subject`");
    // within the signature, which is no part of what is signed, nothing is read
    refused(&signed.replace("<ds:SignedInfo>", &format!("{subject}<ds:SignedInfo>")), "not of the form");
    let key = format!("<ds:KeyInfo>{subject}</ds:KeyInfo></ds:Signature>");
    assert_eq!(judge(&signed.replace("</ds:Signature>", &key)).as_deref(), Ok("alice@example.com"));
}
