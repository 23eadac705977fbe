//! Adaptation of graphs that were exported for one picture size to another size.
//!
//! Exporters store shapes as constants: the height and width of an enlarged map, the shape after a group norm or a
//! channel shuffle, the grid of cells that YOLO adds to its offsets. The layers run at any size, so these constants are
//! changed with the picture size. Unrecognized constants are kept; the preparation of a graph that needs others then
//! fails.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto};

/// Possible strides of maps: distance between their pixels, in pixels of the picture.
const STRIDES: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Stride of a coarse map. Numbers of cells are multiples of the number of cells of this map.
const COARSE_STRIDE: usize = 32;
/// Minimum number of cells of the coarse map; below it, a number of channels could be mistaken for a number of cells.
const MIN_COARSE_CELLS: usize = 49;
/// Operations that combine a grid with a map.
const GRID_USERS: [&str; 5] = ["Add", "Sub", "Mul", "Div", "Concat"];

/// Height and width of a picture.
type Size = [usize; 2];

/// Changes the constants of `graph` from pictures of size `old` to pictures of size `new`.
pub(crate) fn resize_constants(graph: &mut GraphProto, old: Size, new: Size) {
    let change = SizeChange { old, new };
    let stored: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let (mut shapes, mut grids) = (HashSet::new(), HashSet::new());
    for node in &graph.node {
        let shape = match node.op_type.as_str() {
            // Shapes of weights do not depend on the picture.
            "Reshape" | "Expand" if node.input.first().is_some_and(|x| !stored.contains(x.as_str())) => {
                node.input.get(1)
            }
            "Resize" => node.input.get(3),
            kind => {
                if GRID_USERS.contains(&kind) {
                    grids.extend(node.input.iter().cloned());
                }
                None
            }
        };
        shapes.extend(shape.cloned());
    }
    let constants = graph.node.iter_mut().filter(|n| n.op_type == "Constant").filter_map(|n| {
        let name = n.output.first()?;
        Some((name.as_str(), n.attribute.iter_mut().find(|a| a.name == "value")?.t.as_mut()?))
    });
    let mut initializers: Vec<(String, &mut TensorProto)> =
        graph.initializer.iter_mut().map(|t| (t.name.clone(), t)).collect();
    for (name, tensor) in initializers.iter_mut().map(|(n, t)| (n.as_str(), &mut **t)).chain(constants) {
        if shapes.contains(name) {
            change.shape(tensor);
        } else if grids.contains(name) {
            change.grid(tensor);
        }
    }
}

/// The change of the picture size.
struct SizeChange {
    old: Size,
    new: Size,
}

impl SizeChange {
    /// The new size of a map of `height` x `width`; `None` if no map has that size.
    fn map_size(&self, height: i64, width: i64) -> Option<[usize; 2]> {
        let at_stride = |size: Size, stride: usize| size.map(|side| side.div_ceil(stride));
        // A size of 1 is ambiguous: it could also be a mean over all pixels.
        let found = [usize::try_from(height).ok().filter(|&h| h > 1)?, usize::try_from(width).ok().filter(|&w| w > 1)?];
        STRIDES
            .into_iter()
            .find(|&stride| at_stride(self.old, stride) == found)
            .map(|stride| at_stride(self.new, stride))
    }

    /// Adapts a constant target shape.
    fn shape(&self, tensor: &mut TensorProto) {
        let Some(mut sides) = integers(tensor) else { return };
        // Height and width are adjacent axes, and the last axes in nearly all layouts.
        let pair =
            (0..sides.len().saturating_sub(1)).rev().find_map(|i| Some((i, self.map_size(sides[i], sides[i + 1])?)));
        if let Some((at, [height, width])) = pair.filter(|_| sides.len() > 2) {
            (sides[at], sides[at + 1]) = (height as i64, width as i64);
        } else if let Some((at, cells)) = self.cells(&sides) {
            sides[at] = cells;
        } else {
            return;
        }
        set_integers(tensor, &sides);
    }

    /// Index and new value of the side that is a number of cells. `None` if no single side is one, or if the shape
    /// contains inferred sides (0 or -1).
    fn cells(&self, sides: &[i64]) -> Option<(usize, i64)> {
        let count = |size: Size| size.iter().map(|side| side.div_ceil(COARSE_STRIDE)).product::<usize>();
        let (old, new) = (count(self.old), count(self.new));
        if old < MIN_COARSE_CELLS || sides.iter().any(|&side| side <= 0) {
            return None;
        }
        let mut multiples = (0..sides.len()).filter(|&i| sides[i] % old as i64 == 0);
        match (multiples.next(), multiples.next()) {
            (Some(at), None) => Some((at, sides[at] / old as i64 * new as i64)),
            _ => None,
        }
    }

    /// Adapts a constant map whose values are linear in row and column.
    fn grid(&self, tensor: &mut TensorProto) {
        let dims = tensor.dims.clone();
        let pair =
            (0..dims.len().saturating_sub(1)).rev().find_map(|i| Some((i, self.map_size(dims[i], dims[i + 1])?)));
        let (Some((at, to)), Some(values)) = (pair, floats(tensor)) else { return };
        let count = |dims: &[i64]| dims.iter().product::<i64>() as usize;
        let (outer, inner) = (count(&dims[..at]), count(&dims[at + 2..]));
        let from = [dims[at] as usize, dims[at + 1] as usize];
        if values.len() != outer * from[0] * from[1] * inner {
            return;
        }
        let mut continued = vec![0f32; outer * to[0] * to[1] * inner];
        let index = |size: Size, o: usize, y: usize, x: usize, i: usize| ((o * size[0] + y) * size[1] + x) * inner + i;
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let first = values[index(from, o, 0, 0, i)];
            let down = values[index(from, o, 1, 0, i)] - first;
            let right = values[index(from, o, 0, 1, i)] - first;
            let at = |y: usize, x: usize| first + down * y as f32 + right * x as f32;
            for (y, x) in (0..from[0]).flat_map(|y| (0..from[1]).map(move |x| (y, x))) {
                let value = values[index(from, o, y, x, i)];
                if (value - at(y, x)).abs() > 1e-3 * value.abs().max(1.0) {
                    return;
                }
            }
            for (y, x) in (0..to[0]).flat_map(|y| (0..to[1]).map(move |x| (y, x))) {
                continued[index(to, o, y, x, i)] = at(y, x);
            }
        }
        (tensor.dims[at], tensor.dims[at + 1]) = (to[0] as i64, to[1] as i64);
        tensor.float_data.clear();
        tensor.raw_data = continued.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
}

/// Values of an int64 tensor; `None` for other types.
fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != tensor_proto::DataType::Int64 as i32 {
        return None;
    }
    Some(match tensor.raw_data.as_slice() {
        [] => tensor.int64_data.clone(),
        raw => raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
    })
}

fn set_integers(tensor: &mut TensorProto, values: &[i64]) {
    tensor.int64_data.clear();
    tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
}

/// Values of an f32 tensor; `None` for other types.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != tensor_proto::DataType::Float as i32 {
        return None;
    }
    Some(match tensor.raw_data.as_slice() {
        [] => tensor.float_data.clone(),
        raw => raw.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(shape: &[i64]) -> Vec<i64> {
        let mut tensor = TensorProto { data_type: tensor_proto::DataType::Int64 as i32, ..Default::default() };
        set_integers(&mut tensor, shape);
        SizeChange { old: [640, 640], new: [320, 960] }.shape(&mut tensor);
        integers(&tensor).unwrap()
    }

    #[test]
    fn resize_adapts_shapes_to_the_picture() {
        for (old, new) in [
            (&[1, 24, 40, 40][..], &[1, 24, 20, 60][..]),
            (&[0, 80, 80, 80], &[0, 80, 40, 120]),
            (&[1, 2, 32, 80, 80], &[1, 2, 32, 40, 120]),
            (&[1, -1, 10, 10], &[1, -1, 5, 15]),
            (&[1, 80, 80, 30], &[1, 40, 120, 30]),
            (&[1, 12800, 4], &[1, 9600, 4]),
            (&[25200, 16], &[18900, 16]),
            // Shapes without the size of a map are not changed.
            (&[1, -1, 4], &[1, -1, 4]),
            (&[0, 16, -1], &[0, 16, -1]),
            (&[1, 64, 1, 1], &[1, 64, 1, 1]),
            (&[1, 512], &[1, 512]),
            (&[-1, 40], &[-1, 40]),
        ] {
            assert_eq!(resized(old), new, "{old:?}");
        }
    }

    #[test]
    fn resize_ignores_ambiguous_numbers() {
        let change = SizeChange { old: [64, 64], new: [128, 128] };
        assert_eq!(change.cells(&[1, 512]), None);
        assert_eq!(change.map_size(1, 1), None);
        assert_eq!(change.map_size(2, 2), Some([4, 4]));
    }

    #[test]
    fn resize_extends_grids_and_keeps_other_constants() {
        let tensor = |values: Vec<f32>| TensorProto {
            data_type: tensor_proto::DataType::Float as i32,
            dims: vec![1, 1, 4, 2, 2],
            float_data: values,
            ..Default::default()
        };
        let grid = |h: usize, w: usize| -> Vec<f32> {
            let cells = (0..h).flat_map(|y| (0..w).map(move |x| (y, x)));
            cells.flat_map(|(y, x)| [x as f32 - 0.5, 8.0 * y as f32]).collect()
        };
        let change = SizeChange { old: [128, 64], new: [64, 160] };
        let mut real = tensor(grid(4, 2));
        change.grid(&mut real);
        assert_eq!((&real.dims[..], floats(&real).unwrap()), (&[1, 1, 2, 5, 2][..], grid(2, 5)));
        let mut learned = tensor((0..16).map(|v| (v * v) as f32).collect());
        let before = learned.clone();
        change.grid(&mut learned);
        assert_eq!(learned, before);
    }
}
