//! SPDX licence expressions, as far as manifests use them: names, `OR`, `AND`, `WITH`, parentheses, and the old `/`.

use anyhow::{Result, bail};

/// Whether a choice that `expression` leaves is covered by the `allowed` names.
///
/// # Errors
/// When `expression` is not well-formed.
pub(super) fn allowed(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let result = any(&mut words, allowed)?;
    if let Some(word) = words.next() {
        bail!("licence `{expression}`: `{word}` is not expected");
    }
    Ok(result)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[String]) -> Result<bool> {
    let mut result = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= all(words, allowed)?;
    }
    Ok(result)
}

fn all(words: &mut Words<'_>, allowed: &[String]) -> Result<bool> {
    let mut result = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allowed)?;
    }
    Ok(result)
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> Result<bool> {
    let Some(word) = words.next() else { bail!("a licence expression ends too early") };
    if word == "(" {
        let result = any(words, allowed)?;
        if words.next() != Some(")") {
            bail!("a licence expression lacks `)`");
        }
        return Ok(result);
    }
    let name = match words.next_if_eq(&"WITH") {
        Some(_) => format!("{word} WITH {}", words.next().unwrap_or_default()),
        None => word.to_owned(),
    };
    Ok(allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_choice_needs_one_allowed_side_and_a_sum_needs_all() {
        let names = ["MIT".to_owned(), "Unicode-3.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        let allowed = |expression| super::allowed(expression, &names).unwrap();
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("Apache-2.0/MIT"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!allowed("MIT AND Apache-2.0"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(super::allowed("MIT OR", &names).is_err());
    }
}
