//! Some rows of a map, computed from some rows of another map.

use std::ops::Range;

use crate::run::parallel::SharedPtr;

/// Rows to compute, their input and their place in the output. Source and output have the layouts the layer was made
/// for. A layout may hold some rows of a map only; `source_first` and `out_first` are the rows of the map that are row
/// 0 of the layouts.
pub(crate) struct Strip<'a> {
    pub source: &'a [f32],
    pub source_image: usize,
    pub source_first: isize,
    pub out: SharedPtr,
    pub out_image: usize,
    pub out_first: isize,
    /// Rows of the output map.
    pub rows: Range<usize>,
}

impl Strip<'_> {
    /// The row of the output layout for row `y` of the map.
    pub fn out_row(&self, y: usize) -> usize {
        (y as isize - self.out_first) as usize
    }
}
