//! An issuer of assertions. What it signs is written in canonical form by hand, so that its signatures do not depend on what is tested.

use aws_lc_rs::digest::{Algorithm as Hash, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use data_encoding::BASE64;

use crate::jwt::Algorithm;
use crate::jwt::tests::signer::Signer;

/// Where a signature is put.
pub(crate) const PLACE: &str = "{signature}";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

/// An assertion that holds when the pages of policies begin, in canonical form, with a place for its signature.
pub(crate) const PLAIN: &str = concat!(
    r#"<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_one" IssueInstant="2027-01-15T07:59:00Z" Version="2.0">"#,
    "<saml:Issuer>https://idp.example.com</saml:Issuer>{signature}",
    r#"<saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">alice@example.com</saml:NameID>"#,
    r#"<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData "#,
    r#"NotOnOrAfter="2027-01-15T08:05:00Z" Recipient="https://api.example.com/auth"></saml:SubjectConfirmationData>"#,
    "</saml:SubjectConfirmation></saml:Subject>",
    r#"<saml:Conditions NotBefore="2027-01-15T07:59:00Z" NotOnOrAfter="2027-01-15T08:10:00Z"><saml:AudienceRestriction>"#,
    "<saml:Audience>shop-api</saml:Audience></saml:AudienceRestriction></saml:Conditions>",
    r#"<saml:AuthnStatement AuthnInstant="2027-01-15T07:58:00Z" SessionIndex="s-1"></saml:AuthnStatement>"#,
    r#"<saml:AttributeStatement><saml:Attribute Name="role"><saml:AttributeValue>buyer</saml:AttributeValue>"#,
    "<saml:AttributeValue>reader</saml:AttributeValue></saml:Attribute>",
    r#"<saml:Attribute Name="scope"><saml:AttributeValue>read write</saml:AttributeValue></saml:Attribute>"#,
    "</saml:AttributeStatement></saml:Assertion>"
);

/// How something is signed.
#[derive(Clone)]
pub(crate) struct How {
    /// The id that is referred to, with its `#`.
    pub(crate) uri: &'static str,
    pub(crate) form: String,
    pub(crate) method: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) transforms: String,
    /// The digest, by its URI.
    pub(crate) hash: &'static str,
    /// What stands behind the value of the signature.
    pub(crate) behind: String,
}

/// An element without anything in it but what is given.
pub(crate) fn of_algorithm(name: &str, algorithm: &str, inner: &str) -> String {
    format!(r#"<ds:{name} Algorithm="{algorithm}">{inner}</ds:{name}>"#)
}

/// The enveloped signature.
pub(crate) fn enveloped() -> String {
    of_algorithm("Transform", "http://www.w3.org/2000/09/xmldsig#enveloped-signature", "")
}

impl Default for How {
    fn default() -> How {
        How {
            uri: "#_one",
            form: of_algorithm("CanonicalizationMethod", EXCLUSIVE, ""),
            method: of_algorithm("SignatureMethod", RSA_SHA256, ""),
            algorithm: Algorithm::Rs256,
            transforms: enveloped() + &of_algorithm("Transform", EXCLUSIVE, ""),
            hash: "http://www.w3.org/2001/04/xmlenc#sha256",
            behind: String::new(),
        }
    }
}

/// An issuer.
pub(crate) struct Issuer(pub(crate) Signer);

impl Issuer {
    pub(crate) fn new(algorithm: Algorithm) -> Issuer {
        Issuer(Signer::new(algorithm))
    }

    /// Signs an assertion in canonical form.
    pub(crate) fn sign(&self, text: &str) -> String {
        self.sign_as(text, &How::default())
    }

    pub(crate) fn sign_as(&self, text: &str, how: &How) -> String {
        text.replace(PLACE, &self.signature(&text.replace(PLACE, ""), how))
    }

    /// The signature of a text.
    pub(crate) fn signature(&self, signed: &str, how: &How) -> String {
        let hashes: [(&str, &'static Hash); 4] = [
            ("http://www.w3.org/2000/09/xmldsig#sha1", &SHA1_FOR_LEGACY_USE_ONLY),
            ("http://www.w3.org/2001/04/xmlenc#sha256", &SHA256),
            ("http://www.w3.org/2001/04/xmldsig-more#sha384", &SHA384),
            ("http://www.w3.org/2001/04/xmlenc#sha512", &SHA512),
        ];
        let hash = hashes.iter().find(|(uri, _)| *uri == how.hash).unwrap().1;
        let value = BASE64.encode(digest(hash, signed.as_bytes()).as_ref());
        let How { uri, form, method, transforms, hash, behind, .. } = how;
        let rest = format!(
            r#"{form}{method}<ds:Reference URI="{uri}"><ds:Transforms>{transforms}</ds:Transforms>{}<ds:DigestValue>{value}</ds:DigestValue></ds:Reference></ds:SignedInfo>"#,
            of_algorithm("DigestMethod", hash, "")
        );
        let canonical = format!(r#"<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{rest}"#);
        let value = BASE64.encode(&self.0.signature(how.algorithm, canonical.as_bytes()));
        format!(
            r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>{rest}<ds:SignatureValue>{value}</ds:SignatureValue>{behind}</ds:Signature>"#
        )
    }
}
