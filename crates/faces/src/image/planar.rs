//! Conversion of interleaved bytes to the planar floats of a network's input.

/// Order of the color planes of a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue: the order of pictures in this crate.
    Rgb,
    /// Blue, green, red: the order of OpenCV.
    Bgr,
}

/// `(value - mean) / std` for values 0 to 255, and the channel order. Means and deviations are in the order of the
/// planes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Mean of each plane, subtracted from its values.
    pub mean: [f32; 3],
    /// Standard deviation of each plane, the divisor of the differences.
    pub std: [f32; 3],
    /// Order of the planes.
    pub order: ChannelOrder,
}

impl Normalization {
    /// Unchanged RGB values, 0 to 255.
    pub const NONE: Normalization = Normalization::rgb(0.0, 1.0);

    /// The same mean and deviation for all planes, red first.
    pub const fn rgb(mean: f32, std: f32) -> Self {
        Normalization { mean: [mean; 3], std: [std; 3], order: ChannelOrder::Rgb }
    }

    /// The same mean and deviation for all planes, blue first.
    pub const fn bgr(mean: f32, std: f32) -> Self {
        Normalization { mean: [mean; 3], std: [std; 3], order: ChannelOrder::Bgr }
    }

    /// Writes the three planes of interleaved RGB `pixels` to `planes`, one after another. Both slices have the same
    /// length.
    pub fn planes(&self, pixels: &[u8], planes: &mut [f32]) {
        debug_assert_eq!(pixels.len(), planes.len());
        let plane = pixels.len() / 3;
        let (first, rest) = planes.split_at_mut(plane);
        let (second, third) = rest.split_at_mut(plane);
        let (red, blue, channels) = match self.order {
            ChannelOrder::Rgb => (first, third, [0, 1, 2]),
            ChannelOrder::Bgr => (third, first, [2, 1, 0]),
        };
        let (mean, std) = (channels.map(|c| self.mean[c]), channels.map(|c| self.std[c]));
        // A division, not a multiplication with the inverse: the result equals that of the original in every bit.
        let value = |byte: u8, color: usize| (f32::from(byte) - mean[color]) / std[color];
        // A block fits into registers, so that the compiler vectorizes the split of the colors and the conversion.
        const BLOCK: usize = 32;
        let blocks = pixels.chunks_exact(3 * BLOCK);
        let tail = blocks.remainder();
        let whole = plane - tail.len() / 3;
        for (((block, r), g), b) in blocks
            .zip(red.chunks_exact_mut(BLOCK))
            .zip(second.chunks_exact_mut(BLOCK))
            .zip(blue.chunks_exact_mut(BLOCK))
        {
            let mut split = [[0u8; BLOCK]; 3];
            for (i, pixel) in block.chunks_exact(3).enumerate() {
                split[0][i] = pixel[0];
                split[1][i] = pixel[1];
                split[2][i] = pixel[2];
            }
            for (color, out) in [r, g, b].into_iter().enumerate() {
                for (out, &byte) in out.iter_mut().zip(&split[color]) {
                    *out = value(byte, color);
                }
            }
        }
        for (((pixel, r), g), b) in
            tail.chunks_exact(3).zip(&mut red[whole..]).zip(&mut second[whole..]).zip(&mut blue[whole..])
        {
            (*r, *g, *b) = (value(pixel[0], 0), value(pixel[1], 1), value(pixel[2], 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_hold_the_normalized_colors_in_order() {
        for pixels in [1usize, 31, 32, 33, 100] {
            let bytes: Vec<u8> = (0..pixels * 3).map(|i| (i * 37 % 256) as u8).collect();
            let uneven = Normalization { mean: [1.0, 2.0, 3.0], std: [4.0, 5.0, 6.0], order: ChannelOrder::Bgr };
            for norm in
                [Normalization::rgb(127.5, 128.0), Normalization::bgr(127.5, 127.5), Normalization::NONE, uneven]
            {
                let mut planes = vec![f32::NAN; pixels * 3];
                norm.planes(&bytes, &mut planes);
                for p in 0..pixels {
                    for c in 0..3 {
                        let channel = if norm.order == ChannelOrder::Rgb { c } else { 2 - c };
                        let expected = (f32::from(bytes[p * 3 + c]) - norm.mean[channel]) / norm.std[channel];
                        assert_eq!(planes[channel * pixels + p], expected);
                    }
                }
            }
        }
    }
}
