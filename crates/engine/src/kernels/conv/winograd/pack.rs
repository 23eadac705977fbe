//! Transform of weights in advance, for layers whose weights stay in the caches.

use crate::kernels::table::Kernels;
use crate::layout::aligned::Aligned;
use crate::layout::pack::{ChannelGroup, GroupWidth, channel_groups, group_start, pair_up};
use crate::simd::vectorized;

/// Transformed weights, `[position][group][in channel][lanes of the group]`.
pub(crate) fn pack(weights: &[f32], inputs: usize, outputs: usize, m: usize, kernels: &Kernels) -> Aligned {
    let lanes = kernels.lanes;
    let position_len = outputs.div_ceil(lanes) * lanes * inputs;
    let mut packed = Aligned::zeros((m + 2) * (m + 2) * position_len);
    let groups = channel_groups(outputs, lanes, inputs.is_multiple_of(2));
    pack_into(weights, [inputs, outputs], m, lanes, &groups, &mut packed);
    packed
}

/// Number of input channels that are transformed together: the results fit in the first-level cache.
const SPAN: usize = 8;
/// Number of output channels that are transformed together: one vector in double precision.
const QUAD: usize = 4;

vectorized! {
    /// Fills `packed`. Equal indices of different positions map to the same cache lines, so a run of each position is
    /// collected first and then copied.
    fn pack_into(
        weights: &[f32],
        size: [usize; 2],
        m: usize,
        lanes: usize,
        groups: &[ChannelGroup],
        packed: &mut [f32],
    ) {
        let [inputs, outputs] = size;
        let positions = (m + 2) * (m + 2);
        let position_len = packed.len() / positions;
        let mut stage = vec![0f32; positions * SPAN * 2 * lanes];
        for &group in groups {
            let (width, first) = (group.width.weights(lanes), group.first * lanes);
            for span in (0..inputs).step_by(SPAN) {
                let len = SPAN.min(inputs - span);
                for (k, quad) in (0..len).flat_map(|k| (0..width).step_by(QUAD).map(move |quad| (k, quad))) {
                    let mut kernels = [[0f64; QUAD]; 9];
                    for channel in (first + quad..(first + quad + QUAD).min(outputs)).enumerate() {
                        let at = (channel.1 * inputs + span + k) * 9;
                        for (tap, value) in kernels.iter_mut().zip(&weights[at..at + 9]) {
                            tap[channel.0] = f64::from(*value);
                        }
                    }
                    let to = &mut stage[k * width + quad..];
                    match m {
                        2 => transform_kernels(&F2, &kernels, to, SPAN * width),
                        3 => transform_kernels(&F3, &kernels, to, SPAN * width),
                        _ => transform_kernels(&F4, &kernels, to, SPAN * width),
                    }
                }
                let start = group_start(group, inputs, lanes) + span * width;
                for (run, to) in stage.chunks_exact(SPAN * width).zip(packed.chunks_exact_mut(position_len)) {
                    let to = &mut to[start..start + len * width];
                    to.copy_from_slice(&run[..len * width]);
                    if group.width == GroupWidth::Half {
                        pair_up(to, lanes);
                    }
                }
            }
        }
    }
}

/// The matrices `G` of the transforms, one row for each position.
const F2: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
const F3: [[f64; 3]; 5] = [
    [0.5, 0.0, 0.0],
    [-0.5, -0.5, -0.5],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 6.0, 1.0 / 3.0, 2.0 / 3.0],
    [0.0, 0.0, 1.0],
];
const F4: [[f64; 3]; 6] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `G g G^T` of [`QUAD`] output channels. The distance of positions is `step` floats.
#[inline(always)]
fn transform_kernels<const T: usize>(g: &[[f64; 3]; T], kernels: &[[f64; QUAD]; 9], to: &mut [f32], step: usize) {
    let weighted = |row: &[f64; 3], taps: [&[f64; QUAD]; 3]| -> [f64; QUAD] {
        std::array::from_fn(|i| row[0] * taps[0][i] + row[1] * taps[1][i] + row[2] * taps[2][i])
    };
    for (y, down) in g.iter().enumerate() {
        let half: [[f64; QUAD]; 3] =
            std::array::from_fn(|x| weighted(down, [&kernels[x], &kernels[3 + x], &kernels[6 + x]]));
        for (x, across) in g.iter().enumerate() {
            let sums = weighted(across, [&half[0], &half[1], &half[2]]).map(|v| v as f32);
            to[(y * T + x) * step..][..QUAD].copy_from_slice(&sums);
        }
    }
}
