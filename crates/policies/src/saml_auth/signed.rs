//! What of an assertion is signed (XML Signature, as far as SAML core, section 5.4, allows it): one signature, of the whole assertion, with a
//! key that was known before. What comes out are the very bytes whose digest was signed, and nothing else is read later, so that nothing
//! that stands anywhere else can be taken for signed. Knows no claim.

use std::collections::HashSet;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_xml::NodeSet;
use data_encoding::BASE64;
use uppsala::{Document, NodeId};

use super::xml::{Node, parse};
use super::{ASSERTION, Refused};
use crate::jwt::Algorithm;
use crate::jwt::keys::KeySet;

/// The namespace of signatures.
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
/// Exclusive canonical form.
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// The same with comments: of an element that is named by its id, comments are no part (XML Signature, section 4.4.3.3), and there are
/// none in a signature that is taken.
const WITH_COMMENTS: &str = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// Prefixes of one list.
const MOST_PREFIXES: usize = 16;
/// Bytes of the name of an assertion.
const LONGEST_ID: usize = 256;

/// An assertion as it was signed.
#[derive(Debug)]
pub(super) struct Signed {
    /// The root in canonical form, without the signature.
    pub(super) text: String,
    /// The key that it was signed with.
    pub(super) key: u64,
}

/// Verifies the signature of an assertion.
///
/// # Errors
/// Why it is none that is taken.
pub(super) fn verify(text: &str, keys: &KeySet) -> Result<Signed, Refused> {
    let doc = parse(text)?;
    let root = Node::root(&doc).ok_or(Refused("it is not well-formed XML"))?;
    let id = assertion(&doc, root)?;
    let signature = Signature::of(&doc, root, id)?;
    // first what costs little, and nobody can make without the key
    let info = canonical(signature.info, None, &signature.prefixes)?;
    let key = keys.verify_bytes(signature.algorithm, info.as_bytes(), &signature.value);
    let key = key.ok_or(Refused("its signature is not that of a certificate that is configured"))?.serial();
    let text = canonical(root, Some(signature.node), &signature.reference.prefixes)?;
    let found = digest::digest(signature.reference.hash, text.as_bytes());
    if verify_slices_are_equal(found.as_ref(), &signature.reference.digest).is_err() {
        return Err(Refused("it is not what was signed"));
    }
    Ok(Signed { text, key })
}

/// The name of the assertion, where the document is one and nothing else (RFC 7522, section 2.1).
fn assertion<'d>(doc: &'d Document<'d>, root: Node<'d>) -> Result<&'d str, Refused> {
    if !root.is(ASSERTION, "Assertion") {
        return Err(Refused("it is no `Assertion` of SAML 2.0"));
    }
    let (mut ids, mut assertions, mut signatures) = (HashSet::new(), 0, 0);
    for node in Node::all(doc) {
        assertions += usize::from(node.is(ASSERTION, "Assertion"));
        signatures += usize::from(node.is(DSIG, "Signature"));
        if !node.ids().all(|id| ids.insert(id)) {
            return Err(Refused("two elements of it have one id"));
        }
    }
    if assertions != 1 {
        return Err(Refused("there is more than one assertion"));
    }
    match signatures {
        0 => return Err(Refused("it is not signed")),
        1 => {}
        _ => return Err(Refused("there is more than one signature")),
    }
    let id = root.attribute("ID").ok_or(Refused("it has no `ID`"))?;
    if !(1..=LONGEST_ID).contains(&id.len()) || id.contains(|char: char| char.is_whitespace() || char.is_control()) {
        return Err(Refused("its `ID` is empty, too long, or no name"));
    }
    Ok(id)
}

/// A signature, taken apart.
struct Signature<'d> {
    node: Node<'d>,
    /// What it is over.
    info: Node<'d>,
    /// Prefixes that stay where nothing uses them.
    prefixes: Vec<String>,
    algorithm: Algorithm,
    reference: Reference,
    value: Vec<u8>,
}

/// The one thing that is signed.
struct Reference {
    prefixes: Vec<String>,
    hash: &'static digest::Algorithm,
    digest: Vec<u8>,
}

impl<'d> Signature<'d> {
    fn of(doc: &'d Document<'d>, root: Node<'d>, id: &str) -> Result<Signature<'d>, Refused> {
        let children = root.children().into_iter();
        let node = children.filter(|child| child.is(DSIG, "Signature")).collect::<Vec<_>>();
        let &[node] = &node[..] else { return Err(Refused("its signature is not directly within it")) };
        let has_comment = |id: &NodeId| matches!(doc.node_kind(*id), Some(uppsala::NodeKind::Comment(_)));
        if doc.descendants(node.id).into_iter().any(|id| has_comment(&id)) {
            return Err(Refused("there is a comment in its signature"));
        }
        let parts = node.only_children()?;
        // what a signature says of its key is no reason to trust that
        let parts = match &parts[..] {
            [parts @ .., last] if last.is(DSIG, "KeyInfo") => parts.to_vec(),
            all => all.to_vec(),
        };
        let [info, value] = named(&parts, ["SignedInfo", "SignatureValue"])?;
        let [form, method, reference] =
            named(&info.only_children()?, ["CanonicalizationMethod", "SignatureMethod", "Reference"])?;
        Ok(Signature {
            node,
            info,
            prefixes: exclusive(form)?,
            algorithm: algorithm(method)?,
            reference: Reference::of(reference, id)?,
            value: bytes(value)?,
        })
    }
}

impl Reference {
    fn of(node: Node<'_>, id: &str) -> Result<Reference, Refused> {
        if node.attribute("URI").and_then(|uri| uri.strip_prefix('#')) != Some(id) {
            return Err(Refused("its signature is over something else"));
        }
        let [transforms, method, value] = named(&node.only_children()?, ["Transforms", "DigestMethod", "DigestValue"])?;
        let [enveloped, form] = named(&transforms.only_children()?, ["Transform", "Transform"])?;
        if enveloped.attribute("Algorithm") != Some(ENVELOPED) || !enveloped.only_children()?.is_empty() {
            return Err(Refused("its signature is made by a transform that is not taken"));
        }
        let hash = match method.attribute("Algorithm") {
            Some("http://www.w3.org/2001/04/xmlenc#sha256") => &SHA256,
            Some("http://www.w3.org/2001/04/xmldsig-more#sha384") => &SHA384,
            Some("http://www.w3.org/2001/04/xmlenc#sha512") => &SHA512,
            _ => return Err(Refused("its digest is made by an algorithm that is not taken")),
        };
        if !method.only_children()?.is_empty() {
            return Err(Refused("its digest is made by an algorithm that is not taken"));
        }
        Ok(Reference { prefixes: exclusive(form)?, hash, digest: bytes(value)? })
    }
}

/// Elements of a signature, when they are these, in this order, and no others.
fn named<'d, const N: usize>(nodes: &[Node<'d>], names: [&str; N]) -> Result<[Node<'d>; N], Refused> {
    let are_these = nodes.len() == N && nodes.iter().zip(names).all(|(node, name)| node.is(DSIG, name));
    let found = nodes.try_into().ok().filter(|_| are_these);
    found.ok_or(Refused("its signature is not of the form that is taken: one reference, two transforms, no objects"))
}

/// The prefixes that an exclusive canonical form keeps; no other form is taken.
fn exclusive(node: Node<'_>) -> Result<Vec<String>, Refused> {
    if !matches!(node.attribute("Algorithm"), Some(EXCLUSIVE | WITH_COMMENTS)) {
        return Err(Refused("its signature is made by a transform that is not taken"));
    }
    let children = node.only_children()?;
    let list = match &children[..] {
        [] => return Ok(Vec::new()),
        [list] if list.is(EXCLUSIVE, "InclusiveNamespaces") => *list,
        _ => return Err(Refused("its signature is made by a transform that is not taken")),
    };
    let prefixes = list.attribute("PrefixList").unwrap_or_default();
    let prefixes: Vec<String> = prefixes.split_ascii_whitespace().map(str::to_owned).collect();
    if prefixes.len() > MOST_PREFIXES || !list.only_children()?.is_empty() {
        return Err(Refused("its signature names too many prefixes"));
    }
    Ok(prefixes)
}

/// What signatures are made with (RFC 9231, sections 2.3.2 to 2.3.10). Those with SHA-1, with a shared secret and of other keys are not taken.
fn algorithm(node: Node<'_>) -> Result<Algorithm, Refused> {
    const WITH: &str = "http://www.w3.org/2001/04/xmldsig-more#";
    const PSS: &str = "http://www.w3.org/2007/05/xmldsig-more#";
    let named = node.attribute("Algorithm").unwrap_or_default();
    let found = match (named.strip_prefix(WITH), named.strip_prefix(PSS)) {
        (Some("rsa-sha256"), _) => Some(Algorithm::Rs256),
        (Some("rsa-sha384"), _) => Some(Algorithm::Rs384),
        (Some("rsa-sha512"), _) => Some(Algorithm::Rs512),
        (Some("ecdsa-sha256"), _) => Some(Algorithm::Es256),
        (Some("ecdsa-sha384"), _) => Some(Algorithm::Es384),
        (Some("ecdsa-sha512"), _) => Some(Algorithm::Es512),
        (_, Some("sha256-rsa-MGF1")) => Some(Algorithm::Ps256),
        (_, Some("sha384-rsa-MGF1")) => Some(Algorithm::Ps384),
        (_, Some("sha512-rsa-MGF1")) => Some(Algorithm::Ps512),
        _ => None,
    };
    // parameters would be children
    let plain = node.only_children()?.is_empty();
    found.filter(|_| plain).ok_or(Refused("it is signed by an algorithm that is not taken"))
}

/// The algorithms that keys are used with.
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

/// Base64 with white space between.
fn bytes(node: Node<'_>) -> Result<Vec<u8>, Refused> {
    const MALFORMED: Refused = Refused("its signature is not base64");
    let text = node.text().ok_or(MALFORMED)?;
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&text).map_err(|_| MALFORMED)
}

/// Whether a text that can be read has a canonical form that is read as the same: what is read later is what was signed.
pub(super) fn check_reader(text: &str) -> Result<(), &'static str> {
    let Ok(doc) = parse(text) else { return Ok(()) };
    let root = Node::root(&doc).ok_or("what was read has no root")?;
    let once = canonical(root, None, &[]).map_err(|Refused(why)| why)?;
    // it may have more prefixes in one element, and be too much then, but it is XML
    let again = uppsala::parse(&once).map_err(|_| "a canonical form is not well-formed")?;
    let root = Node::root(&again).ok_or("a canonical form has no root")?;
    let twice = canonical(root, None, &[]).map_err(|Refused(why)| why)?;
    if once == twice { Ok(()) } else { Err("a canonical form has another canonical form") }
}

/// An element in exclusive canonical form, without comments, and without an element in it (Exclusive XML Canonicalization, section 3).
fn canonical(node: Node<'_>, without: Option<Node<'_>>, prefixes: &[String]) -> Result<String, Refused> {
    let mut nodes = NodeSet::tree_without_comments(node.id, node.doc);
    if let Some(without) = without {
        nodes.remove_id(without.id);
        without.doc.descendants(without.id).into_iter().for_each(|id| nodes.remove_id(id));
    }
    let bytes = canonicalize_doc(node.doc, C14nMode::Exclusive, Some(&nodes), prefixes);
    bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Refused("it has no canonical form"))
}
