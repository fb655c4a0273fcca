//! Text to a tree: what is too long, too deep or malformed is refused here, before anything recurses. Knows no variable and no function.

use cel::Env;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, SourceInfo};

use super::ExpressionError;

/// Bytes of a text.
pub(super) const MOST_TEXT: usize = 4_096;
/// Tokens of a text: bounds how long a chain of operators can become, and with it how deep the parser goes.
const MOST_TOKENS: usize = 400;
/// Brackets within each other, and `?` of conditionals.
const MOST_NESTED: usize = 24;
/// Nodes of a tree, macros expanded.
const MOST_NODES: usize = 600;
/// Nodes within each other.
const MOST_DEPTH: usize = 64;

/// The stack of the parser: a level takes up to 100 KiB of it, which the usual stack has not for all that may be nested.
const STACK: usize = 16 << 20;

/// A tree and where its nodes stood.
pub(super) struct Parsed {
    pub(super) tree: IdedExpr,
    pub(super) places: SourceInfo,
}

/// Reads a text.
pub(super) fn parse(text: &str, env: &Env) -> Result<Parsed, ExpressionError> {
    scan(text)?;
    let parsed = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || parse_here(text, env));
        reader.ok().and_then(|reader| reader.join().ok())
    });
    let parsed = parsed.unwrap_or_else(|| Err(ExpressionError::new(text, 0, "it cannot be read")))?;
    let mut count = 0;
    measure(&parsed.tree, 1, &mut count).map_err(|message| ExpressionError::new(text, 0, message))?;
    Ok(parsed)
}

fn parse_here(text: &str, env: &Env) -> Result<Parsed, ExpressionError> {
    let (tree, places) = env.parser().parse_with_source_info(text).map_err(|errors| {
        let first = errors.errors.first();
        let (line, column) = first.map_or((1, 1), |error| error.pos);
        let message = first.map_or("it cannot be read", |error| error.msg.as_str());
        let at = offset_of(text, usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1));
        let help = habit(text, at).map(str::to_owned);
        ExpressionError { help, ..ExpressionError::new(text, at, plain(message)) }
    })?;
    Ok(Parsed { tree, places })
}

/// The parser's message without its lists of tokens.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting {").next().unwrap_or(message);
    let named = |start: &str| message.strip_prefix(start).map(|name| name.trim().trim_matches('\'').trim());
    match named("token recognition error at: ").or_else(|| named("mismatched input ")) {
        Some("<EOF>") => return "it ends too early".to_owned(),
        Some(name) => return format!("`{name}` means nothing here"),
        None => {}
    }
    message.replace("'<EOF>'", "the end").replace("<EOF>", "the end").replace('\'', "`")
}

/// What is meant by signs and words of other languages, at or before the place where the parser gave up.
fn habit(text: &str, at: usize) -> Option<&'static str> {
    let (before, rest) = (text.get(..at)?, text.get(at..)?);
    let is_word = |name: &str| {
        let follows = rest.strip_prefix(name).is_some_and(|behind| !behind.starts_with(|c: char| c.is_alphanumeric()));
        let word = before.trim_end().rsplit(|c: char| !c.is_alphanumeric()).next();
        follows || word == Some(name)
    };
    Some(if rest.starts_with("=~") || rest.starts_with('~') {
        "write `request.path.matches(\"^/a\")`"
    } else if rest.starts_with('=') {
        "`==` compares"
    } else if rest.starts_with("${") {
        "the whole text is one expression here: leave `${` and `}` out"
    } else if rest.starts_with('$') {
        "variables have no `$`: write `request.host`, `request.path` or `request.header[\"name\"]`"
    } else if ["and", "or", "not", "AND", "OR", "NOT"].into_iter().any(is_word) {
        "write `&&` for and, `||` for or, `!` for not"
    } else {
        return None;
    })
}

/// The byte a line and a column stand for; both count from 1, columns in characters.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
}

/// Refuses what would be too much for a parser that recurses.
fn scan(text: &str) -> Result<(), ExpressionError> {
    if text.len() > MOST_TEXT {
        let message = format!("an expression has at most {MOST_TEXT} bytes, this one has {}", text.len());
        return Err(ExpressionError::new(text, 0, message));
    }
    if text.trim().is_empty() {
        return Err(ExpressionError::new(text, 0, "an expression is missing"));
    }
    let (mut tokens, mut depth, mut conditionals) = (0, 0_usize, 0);
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let at = text.len() - rest.len();
        let length = match first {
            byte if byte.is_ascii_whitespace() => {
                rest = behind;
                continue;
            }
            b'/' if behind.first() == Some(&b'/') => {
                rest =
                    rest.get(rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())..).unwrap_or_default();
                continue;
            }
            b'"' | b'\'' => string_length(rest, false),
            byte if is_word(byte) => {
                let word = rest.iter().take_while(|&&byte| is_word(byte)).count();
                let prefix = rest.get(..word).unwrap_or_default();
                match rest.get(word) {
                    // a string's prefix: behind `r`, a backslash is one
                    Some(b'"' | b'\'') if word <= 2 && prefix.iter().all(|byte| b"rRbB".contains(byte)) => {
                        let raw = prefix.iter().any(|byte| b"rR".contains(byte));
                        word + string_length(rest.get(word..).unwrap_or_default(), raw)
                    }
                    _ => word,
                }
            }
            _ => 1,
        };
        match first {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'?' => conditionals += 1,
            _ => {}
        }
        tokens += 1;
        if depth + conditionals > MOST_NESTED {
            let message = format!("brackets and conditionals are more than {MOST_NESTED} within each other");
            return Err(ExpressionError::new(text, at, message));
        }
        if tokens > MOST_TOKENS {
            let message = format!("an expression has at most {MOST_TOKENS} words, signs and texts");
            return Err(ExpressionError::new(text, at, message));
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Bytes of the string that a text begins with, quotes included; one that does not end reaches to the end.
fn string_length(text: &[u8], raw: bool) -> usize {
    let quote = text.first().copied().unwrap_or(b'"');
    let triple = [quote; 3];
    let ending: &[u8] = if text.starts_with(&triple) { &triple } else { triple.get(..1).unwrap_or_default() };
    let mut at = ending.len();
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' && !raw {
            at += 2;
        } else if text.get(at..).is_some_and(|rest| rest.starts_with(ending)) {
            return at + ending.len();
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Counts the nodes of a tree.
fn measure(node: &IdedExpr, depth: usize, count: &mut usize) -> Result<(), String> {
    *count += 1;
    if *count > MOST_NODES {
        return Err(format!("an expression has at most {MOST_NODES} parts, counted with its macros expanded"));
    }
    if depth > MOST_DEPTH {
        return Err(format!("an expression has at most {MOST_DEPTH} parts within each other"));
    }
    children(node).into_iter().try_for_each(|child| measure(child, depth + 1, count))
}

/// The nodes below a node.
pub(super) fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Comprehension(over) => {
            vec![&over.iter_range, &over.accu_init, &over.loop_cond, &over.loop_step, &over.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Select(select) => vec![select.operand.as_ref()],
        Expr::Struct(built) => built.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
