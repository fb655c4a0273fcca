//! Bodies that callers sign by their digests: reads the fields that state one, and holds the body against it once the signature is known to
//! be right, so that nobody unknown has a body held. Knows no signature.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use daemun_pipeline::{
    Bodies, BodyNeed, Exchange, Explanation, Fault, Flow, Policy, Reason, SignedBody, Stop, Verdict,
};

use crate::base64_text::decode_array;

/// Which of the fields that state a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DigestField {
    /// `Digest` (RFC 3230): `SHA-256=…`.
    Digest,
    /// `Content-Digest` (RFC 9530): `sha-256=:…:`.
    ContentDigest,
}

impl DigestField {
    /// By its name in lower case.
    pub(crate) fn of(name: &str) -> Option<DigestField> {
        match name {
            "digest" => Some(DigestField::Digest),
            "content-digest" => Some(DigestField::ContentDigest),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            DigestField::Digest => "digest",
            DigestField::ContentDigest => "content-digest",
        }
    }

    /// What the field of a request says the body is; `None` where it says nothing that can be held against it. Digests of algorithms that
    /// are not known are passed over (RFC 9530, section 5), those of the two that are must be well-formed.
    pub(crate) fn read(self, exchange: &Exchange) -> Option<SignedBody> {
        let mut signed = SignedBody::default();
        let members = exchange.request.head.values(self.name()).flat_map(|value| value.split(|&byte| byte == b','));
        for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            let equals = member.iter().position(|&byte| byte == b'=')?;
            let (algorithm, value) = member.split_at_checked(equals)?;
            let value = value.get(1..)?;
            let value = match self {
                DigestField::Digest => value,
                DigestField::ContentDigest => value.strip_prefix(b":")?.strip_suffix(b":")?,
            };
            if algorithm.eq_ignore_ascii_case(b"sha-256") {
                put(&mut signed.sha256, decode_array(value)?)?;
            } else if algorithm.eq_ignore_ascii_case(b"sha-512") {
                put(&mut signed.sha512, decode_array(value)?)?;
            }
        }
        (signed.sha256.is_some() || signed.sha512.is_some()).then_some(signed)
    }
}

/// Puts a digest where none is, or the same.
fn put<const N: usize>(to: &mut Option<[u8; N]>, digest: [u8; N]) -> Option<()> {
    (*to.get_or_insert(digest) == digest).then_some(())
}

/// Notes what the body must be, beside what is noted already. False when both cannot be.
pub(crate) fn note(exchange: &mut Exchange, signed: SignedBody) -> bool {
    let noted = exchange.signed_body.get_or_insert_default();
    noted.empty |= signed.empty;
    let first = signed.sha256.is_none_or(|digest| put(&mut noted.sha256, digest).is_some());
    let second = signed.sha512.is_none_or(|digest| put(&mut noted.sha512, digest).is_some());
    first && second
}

/// Whether a body is what was signed.
fn is_signed(body: &[u8], signed: &SignedBody) -> bool {
    let same = |wanted: &[u8], algorithm| verify_slices_are_equal(wanted, digest(algorithm, body).as_ref()).is_ok();
    (!signed.empty || body.is_empty())
        && signed.sha256.as_ref().is_none_or(|wanted| same(wanted, &SHA256))
        && signed.sha512.as_ref().is_none_or(|wanted| same(wanted, &SHA512))
}

/// Holds the body against what was signed; runs behind all authenticators.
pub(crate) struct SignedBodyCheck {
    /// Bytes of a body at most.
    pub(crate) max: u64,
    /// Value of `WWW-Authenticate`.
    pub(crate) challenge: Box<str>,
}

impl SignedBodyCheck {
    fn judge(&self, exchange: &Exchange) -> Verdict {
        let Some(signed) = &exchange.signed_body else { return Ok(()) };
        let body = exchange.request.body.as_deref();
        if body.is_some_and(|body| is_signed(body, signed)) { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    fn refusal(&self) -> Stop {
        let fault = Fault::new(Reason::Unauthenticated, "the request has no signature that is known here")
            .cause("the body is not the one that was signed")
            .field("WWW-Authenticate", &*self.challenge);
        Stop::Fault(fault)
    }
}

impl Policy for SignedBodyCheck {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.judge(exchange))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn bodies(&self) -> Bodies {
        Bodies { request: true, ..Bodies::default() }
    }

    fn request_body(&self, exchange: &Exchange) -> BodyNeed {
        if exchange.signed_body.is_some() { BodyNeed::Whole { max: self.max } } else { BodyNeed::Untouched }
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match (exchange.signed_body.as_deref(), &exchange.request.body) {
            (None, _) => Explanation::pass("no body was signed"),
            (Some(SignedBody { empty: true, .. }), None) => {
                Explanation::pass("the body must be empty, as it is not signed")
            }
            (Some(_), None) => Explanation::pass("the body must be the one that was signed"),
            (Some(_), Some(_)) => match self.judge(exchange) {
                Ok(()) => Explanation::pass("the body is the one that was signed"),
                Err(stop) => Explanation::stop(&stop, "the body is not the one that was signed"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::exchange;

    const ABC: &str = "SHA-256=ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    #[test]
    fn digests_of_both_fields_are_read_and_held_against_the_body() {
        let content = "unknown=:YQ==:, sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
        for (name, text, field) in [
            ("Digest", ABC, DigestField::Digest),
            ("Digest", &format!("md5=x, {ABC}, {ABC}"), DigestField::Digest),
            ("Content-Digest", content, DigestField::ContentDigest),
        ] {
            let signed = field.read(&exchange(&format!("POST / HTTP/1.1\n{name}: {text}"))).unwrap();
            assert!(is_signed(b"abc", &signed) && !is_signed(b"abd", &signed) && !is_signed(b"", &signed), "{text}");
        }
    }

    #[test]
    fn what_states_no_digest_or_two_is_none() {
        let other = ABC.replace("ung", "vng");
        for text in ["", "md5=x", "SHA-256=ungW", "SHA-256", &format!("{ABC}, {other}"), &ABC.replace("0=", "0")] {
            let read = DigestField::Digest.read(&exchange(&format!("POST / HTTP/1.1\nDigest: {text}")));
            assert_eq!(read, None, "{text}");
        }
        assert_eq!(
            DigestField::ContentDigest.read(&exchange(&format!("POST / HTTP/1.1\nContent-Digest: {ABC}"))),
            None
        );
    }

    #[test]
    fn what_two_signatures_say_must_both_hold() {
        let mut asked = exchange("POST / HTTP/1.1");
        assert!(note(&mut asked, SignedBody { sha256: Some([1; 32]), ..SignedBody::default() }));
        assert!(note(&mut asked, SignedBody { empty: true, ..SignedBody::default() }));
        assert!(!note(&mut asked, SignedBody { sha256: Some([2; 32]), ..SignedBody::default() }));
        let check = SignedBodyCheck { max: 10, challenge: "a".into() };
        assert!(check.judge(&asked).is_err(), "a body that was not given is not the one that was signed");
        asked.request.body = Some(Vec::new());
        assert!(check.judge(&asked).is_err());
        asked.signed_body = Some(Box::new(SignedBody { empty: true, ..SignedBody::default() }));
        assert!(check.judge(&asked).is_ok());
    }
}
