//! What an assertion says (SAML core, section 2), read out of the text that was signed. Whatever it says that could narrow whom it is for and
//! is not understood is refused. Judges nothing by time or name.

use serde_json::{Map, Value};

use super::xml::{Node, parse};
use super::{ASSERTION, Refused, times};

/// The method of who holds an assertion is its subject (SAML profiles, section 3.3).
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";

/// What an assertion says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) id: String,
    pub(super) issuer: String,
    pub(super) issued: u64,
    /// From when it holds, where it says so.
    pub(super) from: Option<u64>,
    /// From when on it does not hold, where it says so of all of it.
    pub(super) until: Option<u64>,
    /// Whom it is for: one of each of these.
    pub(super) audiences: Vec<Vec<String>>,
    /// In what ways it may be used by who holds it.
    pub(super) bearers: Vec<Bearer>,
    /// Whether it may be used once only.
    pub(super) once: bool,
    /// When the login at the issuer ends, where it says so.
    pub(super) session_ends: Option<u64>,
    /// Who its subject is, and what is said of it: `sub`, `name_id_format`, and each attribute by its name.
    pub(super) claims: Map<String, Value>,
}

/// A way in which who holds an assertion may use it.
#[derive(Debug)]
pub(super) struct Bearer {
    pub(super) recipient: Option<String>,
    pub(super) from: Option<u64>,
    pub(super) until: Option<u64>,
}

/// Claims with a meaning of their own, which no attribute takes the place of.
const OWN: [&str; 9] = ["sub", "iss", "aud", "exp", "nbf", "iat", "jti", "sid", "name_id_format"];

/// Reads the text of an assertion, whose signature is taken out of it.
///
/// # Errors
/// When it is not as it must be.
pub(super) fn read(text: &str) -> Result<Said, Refused> {
    let doc = parse(text)?;
    let root = Node::root(&doc).filter(|root| root.is(ASSERTION, "Assertion"));
    let root = root.ok_or(Refused("it is no `Assertion` of SAML 2.0"))?;
    if root.attribute("Version") != Some("2.0") {
        return Err(Refused("its `Version` is not 2.0"));
    }
    let mut said = Said {
        id: root.attribute("ID").unwrap_or_default().to_owned(),
        issuer: String::new(),
        issued: moment(root, "IssueInstant")?.ok_or(Refused("it has no `IssueInstant`"))?,
        from: None,
        until: None,
        audiences: Vec::new(),
        bearers: Vec::new(),
        once: false,
        session_ends: None,
        claims: Map::new(),
    };
    let (mut issuers, mut subjects, mut conditions) = (0, 0, 0);
    for child in root.only_children()? {
        match child.name_in(ASSERTION) {
            Some("Issuer") => {
                issuers += 1;
                said.issuer = child.text().unwrap_or_default();
            }
            Some("Subject") => {
                subjects += 1;
                said.read_subject(child)?;
            }
            Some("Conditions") => {
                conditions += 1;
                said.read_conditions(child)?;
            }
            Some("AuthnStatement") => said.read_login(child)?,
            Some("AttributeStatement") => said.read_attributes(child)?,
            // of what the issuer took in account, and of decisions, nothing is taken
            Some("Advice" | "AuthzDecisionStatement") => {}
            _ => return Err(Refused("it has a part that is not known")),
        }
    }
    if (issuers, subjects, conditions) != (1, 1, 1) {
        return Err(Refused("it has not one `Issuer`, one `Subject` and one `Conditions`"));
    }
    said.claims.insert("iss".to_owned(), said.issuer.as_str().into());
    said.claims.insert("jti".to_owned(), said.id.as_str().into());
    Ok(said)
}

/// The moment of an attribute.
fn moment(node: Node<'_>, name: &str) -> Result<Option<u64>, Refused> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    times::parse(text).map(Some).ok_or(Refused("a time of it is not written in UTC, like 2027-01-15T08:00:00Z"))
}

impl Said {
    fn read_subject(&mut self, node: Node<'_>) -> Result<(), Refused> {
        let mut names = 0;
        for child in node.only_children()? {
            match child.name_in(ASSERTION) {
                Some("NameID") => {
                    names += 1;
                    // all of it: what stands behind a comment is of the name as well
                    let name = child.text().filter(|name| !name.is_empty() && !name.contains(char::is_control));
                    let name = name.ok_or(Refused("its `NameID` is empty, or no text that can name a caller"))?;
                    self.claims.insert("sub".to_owned(), name.into());
                    if let Some(format) = child.attribute("Format") {
                        self.claims.insert("name_id_format".to_owned(), format.into());
                    }
                }
                Some("SubjectConfirmation") => {
                    if child.attribute("Method") == Some(BEARER) {
                        self.bearers.extend(bearer(child)?);
                    }
                }
                _ => return Err(Refused("its subject is named in a way that is not taken, such as encrypted")),
            }
        }
        if names == 1 { Ok(()) } else { Err(Refused("its subject has not one `NameID`")) }
    }

    fn read_conditions(&mut self, node: Node<'_>) -> Result<(), Refused> {
        (self.from, self.until) = (moment(node, "NotBefore")?, moment(node, "NotOnOrAfter")?);
        for child in node.only_children()? {
            match child.name_in(ASSERTION) {
                Some("AudienceRestriction") => {
                    let audiences = child.only_children()?;
                    let named = audiences.iter().map(|audience| {
                        let text = audience.is(ASSERTION, "Audience").then(|| audience.text()).flatten();
                        text.ok_or(Refused("an audience of it is no text"))
                    });
                    self.audiences.push(named.collect::<Result<_, _>>()?);
                }
                Some("OneTimeUse") => self.once = true,
                // whoever issues others because of it; nobody does here
                Some("ProxyRestriction") => {}
                // what cannot be judged does not hold (SAML core, section 2.5.1)
                _ => return Err(Refused("it holds under a condition that is not known")),
            }
        }
        Ok(())
    }

    fn read_login(&mut self, node: Node<'_>) -> Result<(), Refused> {
        if let Some(ends) = moment(node, "SessionNotOnOrAfter")? {
            self.session_ends = Some(self.session_ends.map_or(ends, |known| known.min(ends)));
        }
        if let Some(session) = node.attribute("SessionIndex") {
            self.claims.insert("sid".to_owned(), session.into());
        }
        Ok(())
    }

    fn read_attributes(&mut self, node: Node<'_>) -> Result<(), Refused> {
        for child in node.only_children()? {
            // what is encrypted is for others
            if child.is(ASSERTION, "EncryptedAttribute") {
                continue;
            }
            let name = child.attribute("Name").filter(|name| child.is(ASSERTION, "Attribute") && !name.is_empty());
            let name = name.ok_or(Refused("it has an attribute without a name"))?;
            if OWN.contains(&name) {
                continue;
            }
            let values = child.only_children()?;
            let values = values.into_iter().filter(|value| value.is(ASSERTION, "AttributeValue"));
            // a value that is more than a text says nothing here
            for value in values.filter_map(Node::text) {
                self.add(name, value);
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: String) {
        match self.claims.get_mut(name) {
            None => {
                self.claims.insert(name.to_owned(), value.into());
            }
            Some(Value::Array(list)) => list.push(value.into()),
            Some(one) => *one = Value::Array(vec![one.take(), value.into()]),
        }
    }
}

/// In what way who holds the assertion may use it; `None` where it does not say.
fn bearer(node: Node<'_>) -> Result<Option<Bearer>, Refused> {
    let children = node.children();
    let mut data = children.into_iter().filter(|child| child.is(ASSERTION, "SubjectConfirmationData"));
    match (data.next(), data.next()) {
        (Some(data), None) => Ok(Some(Bearer {
            recipient: data.attribute("Recipient").map(str::to_owned),
            from: moment(data, "NotBefore")?,
            until: moment(data, "NotOnOrAfter")?,
        })),
        _ => Ok(None),
    }
}
