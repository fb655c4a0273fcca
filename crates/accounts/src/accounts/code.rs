//! One-time codes: what a login comes to before it has tokens, and is given the first ones for. Knows no client and no browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemun_pipeline::Identity;

use super::{AccessText, Accounts, MOST_TOKENS, Refusal, Room, Trouble, Unspent, answer};
use crate::change::Change;
use crate::grant::{Asked, Issued, Kind, Mint, Token};
use crate::text::{Digest, Prefix, digest};

/// How long a code is remembered, milliseconds: one that comes again meanwhile revokes what came out of it.
const REMEMBERED: u64 = 600_000;

/// What a code is good with alone. Nothing of it is kept: it is part of what the code is known by.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The client that it was given to.
    pub client: &'a str,
    /// Where the browser was sent with it.
    pub redirect: &'a str,
    /// What the client's verifier must come to (RFC 7636, section 4.2).
    pub challenge: &'a str,
}

/// A code as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// Its text.
    pub text: &'a str,
    /// What is shown with it.
    pub bound: Bound<'a>,
    /// The token service that is asked.
    pub service: &'a str,
    /// How long a code is good, milliseconds.
    pub lifetime: u64,
}

impl Bound<'_> {
    /// What a code of this text is known by. No part holds the separator that was there when it was given out, so that no two read alike.
    fn digest(&self, text: &str) -> Digest {
        digest(["code", text, self.client, self.redirect, self.challenge].join("\0").as_bytes())
    }
}

impl Accounts {
    /// Begins a login and gives out a code for it. Good from then on that this returns.
    ///
    /// # Errors
    /// When there are too many tokens, or the code cannot be made to last.
    pub async fn issue_code(&self, asked: Asked, bound: &Bound<'_>, now: u64) -> Result<String, Trouble> {
        let most = asked.most;
        let (grant, row) = self.begin(asked, now);
        if self.tokens() >= MOST_TOKENS || !grant.subject.take(1, most) {
            return Err(Trouble::TooMany);
        }
        let room = Room { subject: &grant.subject, count: 1 };
        let text = Prefix::Code.make()?;
        let digest = bound.digest(&text);
        let token = Token {
            id: self.next_id(now),
            grant: Arc::clone(&grant),
            kind: Kind::Code,
            issued: now,
            expires: now.saturating_add(REMEMBERED).min(grant.expires),
            spent: AtomicBool::new(false),
            narrow: None,
        };
        self.write_of(&grant, vec![Change::Grant(row), Change::Token(token.row(digest))]).await?;
        room.keep();
        self.put(digest, token);
        Ok(text)
    }

    /// Gives out the first tokens of a login for its code, which is used up by that, whatever comes of it; one that was used before, here or
    /// in another process with the same store, revokes its login (RFC 6749, section 4.1.2). `may` says whether its holder is still let in. What
    /// other processes took away before this was called is taken away here.
    ///
    /// # Errors
    /// When the code is no good, or the tokens cannot be made to last.
    pub async fn redeem_by(
        &self,
        mint: Option<&dyn Mint>,
        code: &Code<'_>,
        may: impl FnOnce(&Identity) -> bool,
        lifetimes: (u64, Option<u64>),
        most: u32,
        now: u64,
    ) -> Result<(Issued, Arc<Identity>), Trouble> {
        let token = self.code(code).await?.ok_or(Refusal::Unknown)?;
        self.judge(&token, Kind::Code, code.service, now)?;
        if !self.has_credential(&token.grant, now) {
            return Err(Refusal::Revoked.into());
        }
        if !token.is_spent() && now >= token.issued.saturating_add(code.lifetime) {
            return Err(Refusal::Expired.into());
        }
        if !self.take(&token).await? {
            self.revoke_grant(&token.grant).await?;
            return Err(Refusal::Reused.into());
        }
        let (grant, identity) = (Arc::clone(&token.grant), token.grant.identity());
        if !may(&identity) {
            return Err(Refusal::Revoked.into());
        }
        let access = AccessText { mint, scopes: None };
        let issued = self.give(grant, Vec::new(), lifetimes, access, most, now).await?;
        Ok((issued, identity))
    }

    /// The code that is shown, as of what every process did until now: another may have given it out a moment ago, or taken its client away.
    /// Logins are few, so that each may ask for that.
    async fn code(&self, code: &Code<'_>) -> Result<Option<Arc<Token>>, Trouble> {
        if Prefix::Code.is_whole(code.text) != Some(true) {
            return Ok(None);
        }
        if let Some(journal) = self.journal.get() {
            answer(journal.look()).await?;
        }
        Ok(self.token(&code.bound.digest(code.text)))
    }

    /// Uses a code up; whether it was not before, in any process.
    async fn take(&self, token: &Token) -> Result<bool, Trouble> {
        if token.spent.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        let unspent = Unspent(Some(token));
        let taken = self.write(vec![Change::Spend(token.id)]).await?;
        unspent.keep();
        Ok(taken)
    }
}
