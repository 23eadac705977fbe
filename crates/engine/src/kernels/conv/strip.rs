//! Computation of some rows of a map from some rows of another map.

use std::ops::Range;

use crate::run::parallel::SharedPtr;

/// Rows to compute, with their input and output. Source and output have the layouts that the layer was created for. A
/// layout may contain only some rows of a map: its row 0 is row `source_first` or `out_first` of the map.
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
