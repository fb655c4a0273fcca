//! What the fuzz targets share: readers that are written from the rules alone, and ways to cut an input into pieces.

pub mod heads;
pub mod table;

/// Ends of the pieces in which an input of `len` bytes arrives: cut at the places that two bytes choose, and whole at last.
pub fn cuts(len: usize, one: u8, other: u8) -> [usize; 3] {
    let place = |byte: u8| usize::from(byte) * (len + 1) / 256;
    [place(one.min(other)), place(one.max(other)), len]
}
