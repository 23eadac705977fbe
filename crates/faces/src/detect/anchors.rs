//! Cells of a detector's output maps.

/// Number of columns and rows of the output map at `stride`, for a canvas of (width, height) pixels.
pub(super) fn cells(canvas: (usize, usize), stride: usize) -> (usize, usize) {
    (canvas.0.div_ceil(stride), canvas.1.div_ceil(stride))
}

/// Indices of the values greater than `threshold`.
pub(super) fn over(values: &[f32], threshold: f32) -> impl Iterator<Item = usize> + '_ {
    passing(values, move |v| v > threshold)
}

/// Indices of the values greater than or equal to `threshold`.
pub(super) fn at_least(values: &[f32], threshold: f32) -> impl Iterator<Item = usize> + '_ {
    passing(values, move |v| v >= threshold)
}

/// Indices of the values that pass. Blocks without such a value are skipped at once.
fn passing(values: &[f32], passes: impl Fn(f32) -> bool + Copy) -> impl Iterator<Item = usize> {
    const BLOCK: usize = 64;
    values.chunks(BLOCK).enumerate().flat_map(move |(b, block)| {
        // A sum of flags, not `any`: without an early exit the compiler vectorizes the comparison.
        let hits: u32 = block.iter().map(|&v| u32::from(passes(v))).sum();
        let block = if hits > 0 { block } else { &[] };
        block.iter().enumerate().filter(move |&(_, &v)| passes(v)).map(move |(i, _)| b * BLOCK + i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_indices_as_a_plain_filter() {
        for len in [0usize, 1, 63, 64, 65, 1000] {
            let values: Vec<f32> =
                (0..len).map(|i| if i % 41 == 0 { f32::NAN } else { (i * 31 % 97) as f32 / 97.0 }).collect();
            let expected: Vec<usize> = (0..len).filter(|&i| values[i] > 0.9).collect();
            assert_eq!(over(&values, 0.9).collect::<Vec<_>>(), expected);
            let limit = 31.0 / 97.0;
            let expected: Vec<usize> = (0..len).filter(|&i| values[i] >= limit).collect();
            assert_eq!(at_least(&values, limit).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn partial_cells_count() {
        assert_eq!(cells((640, 480), 32), (20, 15));
        assert_eq!(cells((65, 1), 32), (3, 1));
    }
}
