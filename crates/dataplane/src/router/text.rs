//! Short texts that lie in the record they belong to, and long ones in a common arena. Knows nothing of their meaning.

/// A text of up to `N` bytes in place, or a range of the arena; 65,535 bytes at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<const N: usize> {
    start: u32,
    len: u16,
    inline: [u8; N],
}

impl<const N: usize> Text<N> {
    /// No text.
    pub(super) const EMPTY: Self = Self { start: 0, len: 0, inline: [0; N] };

    /// Stores a text, at the end of `arena` if it is long.
    pub(super) fn new(text: &[u8], arena: &mut Vec<u8>) -> Self {
        let mut inline = [0; N];
        let start = u32::try_from(arena.len()).unwrap_or(u32::MAX);
        match inline.get_mut(..text.len()) {
            Some(inline) => inline.copy_from_slice(text),
            None => arena.extend_from_slice(text),
        }
        Self { start, len: u16::try_from(text.len()).unwrap_or(u16::MAX), inline }
    }

    /// The text; `arena` is the one it was stored with.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        let len = usize::from(self.len);
        match self.inline.get(..len) {
            Some(text) => text,
            None => {
                let start = self.start as usize;
                arena.get(start..start.saturating_add(len)).unwrap_or_default()
            }
        }
    }
}
