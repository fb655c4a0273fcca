//! How much an evaluation can cost, known before it begins: steps of the interpreter and bytes of what it makes, from the tree and the sizes
//! of what it is given. Never less than what it then costs; evaluates nothing.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::check::{Tables, literal_int, slot_index};
use super::functions::{IN_NETWORK, MATCHES, VALUE};

/// Steps of one evaluation: some milliseconds.
pub(super) const MOST_STEPS: u64 = 100_000;
/// Bytes of any value on the way.
pub(super) const MOST_BYTES: u64 = 1 << 20;

/// The size of a value: bytes of all texts in it, and elements of all lists and mappings in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: u64,
    pub(super) items: u64,
    /// Elements of its longest list or mapping.
    pub(super) widest: u64,
}

impl Size {
    pub(super) fn text(bytes: usize) -> Size {
        Size { bytes: bytes as u64, ..Size::default() }
    }

    /// A list or mapping of texts.
    pub(super) fn flat(bytes: usize, items: usize) -> Size {
        Size { bytes: bytes as u64, items: items as u64, widest: items as u64 }
    }

    /// Bytes that it takes.
    pub(super) fn weight(self) -> u64 {
        self.bytes.saturating_add(self.items.saturating_mul(16))
    }

    /// Both, one behind the other.
    fn and(self, other: Size) -> Size {
        Size {
            bytes: self.bytes.saturating_add(other.bytes),
            items: self.items.saturating_add(other.items),
            widest: self.widest.saturating_add(other.widest),
        }
    }

    fn times(self, count: u64) -> Size {
        Size {
            bytes: self.bytes.saturating_mul(count),
            items: self.items.saturating_mul(count),
            widest: self.widest.saturating_mul(count),
        }
    }

    fn or(self, other: Size) -> Size {
        Size {
            bytes: self.bytes.max(other.bytes),
            items: self.items.max(other.items),
            widest: self.widest.max(other.widest),
        }
    }

    /// As an element of a list or mapping with so many.
    fn among(self, elements: usize) -> Size {
        let elements = elements as u64;
        Size { items: self.items.saturating_add(elements), widest: self.widest.max(elements), ..self }
    }

    /// Steps to copy or compare it.
    fn steps(self) -> u64 {
        (self.bytes / 16).saturating_add(self.items)
    }
}

/// The steps of an evaluation that stays within the bounds; `sizes` are those of the slots.
pub(super) fn steps(tree: &IdedExpr, sizes: &dyn Fn(usize) -> Size, tables: &Tables) -> Option<u64> {
    let mut meter = Meter { sizes, tables, locals: Vec::new(), steps: 0, largest: 0 };
    meter.size(tree);
    (meter.steps <= MOST_STEPS && meter.largest <= MOST_BYTES).then_some(meter.steps)
}

struct Meter<'a> {
    sizes: &'a dyn Fn(usize) -> Size,
    tables: &'a Tables,
    /// Variables of macros, innermost last, and whether they are lists for certain.
    locals: Vec<(&'a str, Size, bool)>,
    steps: u64,
    largest: u64,
}

impl<'a> Meter<'a> {
    fn size(&mut self, node: &'a IdedExpr) -> Size {
        let size = match &node.expr {
            Expr::Unspecified => Size::default(),
            Expr::Literal(LiteralValue::String(text)) => Size::text(text.inner().len()),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Size::text(bytes.inner().len()),
            Expr::Literal(_) => Size::default(),
            Expr::Ident(name) => match self.locals.iter().rev().find(|(known, ..)| known == name) {
                Some((_, size, _)) => *size,
                None => slot_index(name).map(self.sizes).unwrap_or_default(),
            },
            Expr::Select(select) => self.size(&select.operand),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let elements = list.elements.len();
                list.elements.iter().map(|node| self.size(node)).fold(Size::default(), Size::and).among(elements)
            }
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(built) => self.entries(built.entries.iter().map(|entry| &entry.expr)),
            Expr::Comprehension(over) => self.comprehension(over),
        };
        self.largest = self.largest.max(size.weight());
        self.spend(if is_shared(node) { 1 } else { size.bytes / 64 + 1 });
        size
    }

    fn spend(&mut self, steps: u64) {
        self.steps = self.steps.saturating_add(steps);
    }

    fn entries(&mut self, entries: impl Iterator<Item = &'a EntryExpr>) -> Size {
        let (mut all, mut count) = (Size::default(), 0);
        for entry in entries {
            let size = match entry {
                EntryExpr::StructField(field) => self.size(&field.value),
                EntryExpr::MapEntry(entry) => self.size(&entry.key).and(self.size(&entry.value)),
            };
            all = all.and(size);
            count += 1;
        }
        all.among(count)
    }

    fn call(&mut self, call: &'a CallExpr) -> Size {
        let sizes: Vec<Size> = call.target.iter().map(AsRef::as_ref).chain(&call.args).map(|n| self.size(n)).collect();
        let all = sizes.iter().copied().fold(Size::default(), Size::and);
        let of = |index: usize| sizes.get(index).copied().unwrap_or_default();
        let (first, second, third) = (of(0), of(1), of(2));
        match call.func_name.as_str() {
            operators::CONDITIONAL => second.or(third),
            operators::ADD => {
                // elements of lists are shared, not copied
                let is_list = call.args.iter().any(|node| self.is_list(node));
                self.spend(if is_list { all.widest } else { all.steps() });
                all
            }
            operators::INDEX => first,
            VALUE => {
                self.spend(first.steps().saturating_mul(4));
                first
            }
            "split" => {
                let items = first.bytes.saturating_add(1);
                self.spend(items);
                Size { bytes: first.bytes, items, widest: items }
            }
            "join" => {
                self.spend(first.steps());
                let bytes = first.bytes.saturating_add(first.items.saturating_mul(second.bytes));
                Size { bytes, ..Size::default() }
            }
            "replace" => {
                let put = first.bytes.saturating_add(1).saturating_mul(third.bytes);
                let bytes = first.bytes.saturating_add(put);
                self.spend(bytes / 8);
                Size { bytes, ..Size::default() }
            }
            "lowerAscii" | "upperAscii" | "trim" | "substring" => {
                self.spend(first.bytes / 8);
                first
            }
            "string" => first.or(Size::text(32)),
            "indexOf" => {
                // a search that compares anew at every place
                self.spend((first.bytes / 8).saturating_add(first.bytes.saturating_mul(second.bytes) / 64));
                Size::default()
            }
            MATCHES => {
                let index = call.args.get(1).and_then(literal_int).and_then(|index| usize::try_from(index).ok());
                let regex = index.and_then(|index| self.tables.regexes.get(index));
                // a text of the length it may have takes all the steps there are
                let most = regex.map_or(1, |regex| regex.most().max(1)) as u64;
                self.spend((first.bytes.saturating_mul(MOST_STEPS) / most).saturating_add(16));
                Size::default()
            }
            IN_NETWORK => {
                self.spend(first.bytes / 4 + 16);
                Size::default()
            }
            _ => {
                self.spend(all.steps());
                Size::default()
            }
        }
    }

    /// A body costs the most, all in all, when one element holds everything and the others nothing: what it costs grows with the size of
    /// the element at least in proportion.
    fn comprehension(&mut self, over: &'a ComprehensionExpr) -> Size {
        let range = self.size(&over.iter_range);
        let start = self.size(&over.accu_init);
        let others = range.widest.saturating_sub(1);
        let depth = self.locals.len();
        let is_list = self.is_list(&over.accu_init);
        self.locals.push((&over.iter_var, range, false));
        self.locals.push((&over.accu_var, Size::default(), is_list));
        // how large the result becomes
        let (steps, largest) = (self.steps, self.largest);
        let full = self.size(&over.loop_step);
        self.set(depth, Size::default());
        let empty = self.size(&over.loop_step);
        (self.steps, self.largest) = (steps, largest);
        let result = start.and(full).and(empty.times(others));
        self.set(depth + 1, result);
        // what it takes to get there
        let before = self.steps;
        self.body(over);
        let each = self.steps.saturating_sub(before);
        self.steps = before.saturating_add(each.saturating_mul(others));
        self.set(depth, range);
        self.body(over);
        let size = self.size(&over.result);
        self.locals.truncate(depth);
        size
    }

    fn body(&mut self, over: &'a ComprehensionExpr) {
        self.size(&over.loop_cond);
        self.size(&over.loop_step);
    }

    /// Whether a node is a list for certain.
    fn is_list(&self, node: &IdedExpr) -> bool {
        match &node.expr {
            Expr::List(_) => true,
            Expr::Ident(name) => {
                self.locals.iter().rev().find(|(known, ..)| known == name).is_some_and(|(.., is_list)| *is_list)
            }
            Expr::Unspecified
            | Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Select(_)
            | Expr::Struct(_) => false,
        }
    }

    fn set(&mut self, local: usize, size: Size) {
        if let Some((_, known, _)) = self.locals.get_mut(local) {
            *known = size;
        }
    }
}

/// Whether what a node gives is there already, and only handed on.
fn is_shared(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(_) | Expr::Select(_) => true,
        Expr::Call(call) => {
            matches!(call.func_name.as_str(), operators::INDEX | operators::CONDITIONAL | operators::ADD)
        }
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => false,
    }
}
