//! One-time passwords (TOTP, RFC 6238) and recovery codes. Each is good once, also after a restart. Knows no password.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use daemun_accounts::{Accounts, Trouble, text};
use daemun_config::model::User;

/// Milliseconds that one password is for (RFC 6238, section 5.2).
const STEP: u64 = 30_000;
/// Digits of one.
const DIGITS: usize = 6;

/// Whether this is a one-time password of a user, of this step or one beside it, or a recovery code, that was not used before. It is
/// used up then, and those of earlier steps with it.
///
/// # Errors
/// When that cannot be made to last.
pub(super) async fn check(accounts: &Accounts, user: &User, shown: &str, wall: u64) -> Result<bool, Trouble> {
    let is_code = shown.len() == DIGITS && shown.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(secret) = user.totp.as_ref().filter(|_| is_code) {
        let Some(step) = step_of(&secret.0, shown, wall / STEP) else { return Ok(false) };
        // what was good until the end of its step
        return accounts.use_up("totp", &user.name.value, step.saturating_add(1).saturating_mul(STEP)).await;
    }
    let digest = text::digest(shown.as_bytes());
    let known = user.recovery.iter().filter(|known| verify_slices_are_equal(&**known, &digest).is_ok()).count() > 0;
    if !known {
        return Ok(false);
    }
    let code: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    accounts.use_up("recovery", &format!("{}:{code}", user.name.value), u64::MAX).await
}

/// The step whose password this is, of `now` and those beside it.
fn step_of(secret: &[u8], shown: &str, now: u64) -> Option<u64> {
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let steps = [now.saturating_sub(1), now, now.saturating_add(1)];
    // all of them are made, so that the time does not tell which it was
    steps.into_iter().fold(None, |found, step| {
        let same = verify_slices_are_equal(password(&key, step).as_bytes(), shown.as_bytes()).is_ok();
        if same { Some(step) } else { found }
    })
}

/// The password of a step (RFC 4226, section 5.3).
fn password(key: &Key, step: u64) -> String {
    let tag = sign(key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = tag.last().map_or(0, |last| usize::from(last & 15));
    let four = tag.get(offset..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
    let number = (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000;
    format!("{number:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_those_of_the_rfc() {
        // RFC 6238, appendix B, whose eight digits end in these six
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"12345678901234567890");
        for (seconds, shown) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(password(&key, seconds / 30), shown);
        }
    }

    #[test]
    fn a_password_of_a_step_beside_is_good_and_of_one_farther_is_not() {
        let secret = b"12345678901234567890";
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
        for (step, good) in [(998, false), (999, true), (1000, true), (1001, true), (1002, false)] {
            assert_eq!(step_of(secret, &password(&key, step), 1000), good.then_some(step));
        }
        assert_eq!(step_of(secret, "", 1000), None);
    }
}
