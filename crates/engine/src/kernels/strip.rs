//! Some rows of a map, computed from some rows of another.

use std::ops::Range;

use crate::run::parallel::Shared;

/// Rows to compute, and where their input is and they belong. The layouts are those the layer was made for; they may hold a part of a map's
/// rows, so what a layout calls row 0 is given in rows of the map.
pub(crate) struct Strip<'a> {
    pub source: &'a [f32],
    pub source_image: usize,
    pub source_first: isize,
    pub out: Shared,
    pub out_image: usize,
    pub out_first: isize,
    /// Rows of the output map.
    pub rows: Range<usize>,
}

impl Strip<'_> {
    /// The row of the output's layout that row `y` of the map is.
    pub fn out_row(&self, y: usize) -> usize {
        (y as isize - self.out_first) as usize
    }
}
