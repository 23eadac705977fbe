//! The components after the inverse DCT, at their own sizes, and the conversion of their rows to RGB.

use std::ops::Range;

use crate::color;
use crate::header::{ColorSpace, Header};
use crate::simd::vectorized;
use crate::upsample::{self, Upsampling};

/// Value of samples without data: libjpeg leaves such blocks at zero coefficients.
pub(crate) const GRAY: u8 = 128;

/// One component.
#[derive(Clone, Debug)]
pub struct Plane {
    samples: Vec<u8>,
    /// Bytes from row to row.
    stride: usize,
    /// Number of the row that `samples` starts with.
    first_row: usize,
    /// Size without the padding to whole MCUs.
    width: usize,
    height: usize,
    upsampling: Upsampling,
}

impl Plane {
    /// Samples in each row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Row `y`.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.padded_row(y)[..self.width]
    }

    fn padded_row(&self, y: usize) -> &[u8] {
        &self.samples[(y - self.first_row) * self.stride..][..self.stride]
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The samples from row `y` on, with `rows` rows.
    pub(crate) fn rows_mut(&mut self, y: usize, rows: usize) -> &mut [u8] {
        &mut self.samples[(y - self.first_row) * self.stride..][..rows * self.stride]
    }

    /// Columns `x` of the picture's row `y`. `wide` and `sums` are work space.
    #[inline(always)]
    fn upsampled<'a>(&'a self, y: usize, x: &Range<usize>, work: &'a mut Work) -> &'a [u8] {
        let (nearest, neighbor) = self.upsampling.rows(y);
        let near = self.padded_row(nearest);
        let columns = self.upsampling.columns(x);
        let far = || self.padded_row(nearest.saturating_add_signed(neighbor).min(self.height - 1));
        let count = columns.len();
        // Where the first of the columns wanted is in what the samples `columns` give.
        let skip;
        match self.upsampling {
            Upsampling::None => return &near[x.clone()],
            Upsampling::Vertical => {
                let bias = if neighbor < 0 { 1 } else { 2 };
                upsample::vertical(&near[columns.clone()], &far()[columns], bias, &mut work.wide[..count]);
                skip = 0;
            }
            Upsampling::Horizontal => {
                let framed = &mut work.framed[..count + 2];
                framed[1..=count].copy_from_slice(&near[columns.clone()]);
                framed[0] = near[columns.start.saturating_sub(1)];
                framed[count + 1] = near[columns.end.min(self.width - 1)];
                upsample::horizontal(framed, &mut work.wide[..2 * count]);
                skip = x.start - 2 * columns.start;
            }
            Upsampling::Both => {
                let sums = &mut work.sums[..count + 2];
                let far = far();
                upsample::vertical_sums(&near[columns.clone()], &far[columns.clone()], &mut sums[1..=count]);
                let sum = |x: usize| u16::from(near[x]) * 3 + u16::from(far[x]);
                sums[0] = sum(columns.start.saturating_sub(1));
                sums[count + 1] = sum(columns.end.min(self.width - 1));
                upsample::horizontal_of_sums(sums, &mut work.wide[..2 * count]);
                skip = x.start - 2 * columns.start;
            }
            Upsampling::Repeat { across, .. } => {
                upsample::repeat(&near[columns.clone()], across, &mut work.wide[..across * count]);
                skip = x.start - across * columns.start;
            }
        }
        &work.wide[skip..][..x.len()]
    }
}

/// Work space for one component's row.
#[derive(Clone, Debug)]
struct Work {
    wide: Vec<u8>,
    framed: Vec<u8>,
    sums: Vec<u16>,
}

/// Work space for the conversion of rows; see [`Planes::rgb_rows`].
#[derive(Clone, Debug)]
pub struct RowWork {
    components: [Work; 4],
}

impl RowWork {
    fn new(width: usize) -> RowWork {
        let work = || Work { wide: vec![0; width + 8], framed: vec![0; width + 8], sums: vec![0; width + 8] };
        RowWork { components: std::array::from_fn(|_| work()) }
    }
}

/// The components of a decoded picture.
///
/// A picture of 4:2:0 takes 1.5 bytes per pixel, half of what RGB takes.
#[derive(Clone, Debug)]
pub struct Planes {
    width: usize,
    height: usize,
    color: ColorSpace,
    planes: Vec<Plane>,
}

impl Planes {
    /// Planes of `mcu_rows` rows of MCUs and `more` rows: all of the picture's, or fewer that [`slide`](Self::slide)
    /// moves over it.
    pub(crate) fn new(header: &Header, mcus_across: usize, mcu_rows: usize, more: usize) -> Planes {
        let (width, height) = (header.width as usize, header.height as usize);
        let (max_h, max_v) = header.max_sampling();
        let planes = header.components.iter().map(|c| {
            let (h, v) = (usize::from(c.horizontal), usize::from(c.vertical));
            let stride = mcus_across * h * 8;
            let own_width = (width * h).div_ceil(max_h);
            Plane {
                samples: vec![0; stride * (mcu_rows * v * 8 + more)],
                stride,
                first_row: 0,
                width: own_width,
                height: (height * v).div_ceil(max_v),
                upsampling: Upsampling::choose(max_h / h, max_v / v, own_width),
            }
        });
        Planes { width, height, color: header.color, planes: planes.collect() }
    }

    /// Pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Color space of the components.
    pub fn color(&self) -> ColorSpace {
        self.color
    }

    /// The components in the order of the file.
    pub fn components(&self) -> &[Plane] {
        &self.planes
    }

    pub(crate) fn components_mut(&mut self) -> &mut [Plane] {
        &mut self.planes
    }

    /// Whether rows need the row of samples below them.
    pub(crate) fn needs_neighbors(&self) -> bool {
        self.planes.iter().any(|p| p.upsampling.needs_neighbors())
    }

    /// Moves planes that hold a part of the picture so that row `first_rows[c]` of component c is the first one that
    /// they hold.
    pub(crate) fn slide(&mut self, first_rows: impl Fn(usize) -> usize) {
        for (c, plane) in self.planes.iter_mut().enumerate() {
            let from = (first_rows(c) - plane.first_row) * plane.stride;
            plane.samples.copy_within(from.., 0);
            plane.first_row = first_rows(c);
        }
    }

    /// Work space for [`rgb_rows`](Self::rgb_rows) and [`cmyk_rows`](Self::cmyk_rows) of this picture.
    pub fn row_work(&self) -> RowWork {
        RowWork::new(self.width)
    }

    /// Pixels `x` of rows `y` as RGB, row after row without gaps: the pixels of the full decoding.
    ///
    /// CMYK is taken for inverted (255 is no ink), as Adobe programs write it.
    ///
    /// # Panics
    ///
    /// When a range is not inside the picture, or `out` does not have `x.len() * y.len() * 3` bytes.
    pub fn rgb_rows(&self, y: Range<usize>, x: Range<usize>, work: &mut RowWork, out: &mut [u8]) {
        self.check(&y, &x, 3, out);
        rgb_rows(self, y, x, work, out);
    }

    /// Pixels `x` of rows `y` as CMYK as stored in the file (YCCK is converted); `None` when the picture has no four
    /// components.
    ///
    /// # Panics
    ///
    /// When a range is not inside the picture, or `out` does not have `x.len() * y.len() * 4` bytes.
    pub fn cmyk_rows(&self, y: Range<usize>, x: Range<usize>, work: &mut RowWork, out: &mut [u8]) -> Option<()> {
        if self.planes.len() != 4 {
            return None;
        }
        self.check(&y, &x, 4, out);
        for (y, out) in y.zip(out.chunks_exact_mut(4 * x.len().max(1))) {
            for (out, inks) in out.as_chunks_mut::<4>().0.iter_mut().zip(cmyk_row(self, y, &x, work)) {
                *out = inks;
            }
        }
        Some(())
    }

    fn check(&self, y: &Range<usize>, x: &Range<usize>, channels: usize, out: &[u8]) {
        assert!(x.start <= x.end && x.end <= self.width && y.start <= y.end && y.end <= self.height, "{x:?} {y:?}");
        assert_eq!(out.len(), x.len() * y.len() * channels, "size of the output");
    }
}

fn cmyk_row<'a>(
    planes: &'a Planes,
    y: usize,
    x: &Range<usize>,
    work: &'a mut RowWork,
) -> impl Iterator<Item = [u8; 4]> + use<'a> {
    let [w0, w1, w2, w3] = &mut work.components;
    let p = &planes.planes;
    let (a, b) = (p[0].upsampled(y, x, w0), p[1].upsampled(y, x, w1));
    let (c, d) = (p[2].upsampled(y, x, w2), p[3].upsampled(y, x, w3));
    let ycck = planes.color == ColorSpace::Ycck;
    a.iter().zip(b).zip(c).zip(d).map(move |(((&a, &b), &c), &d)| match ycck {
        true => color::ycck_to_cmyk(a, b, c, d),
        false => [a, b, c, d],
    })
}

vectorized! {
    fn rgb_rows(planes: &Planes, y: Range<usize>, x: Range<usize>, work: &mut RowWork, out: &mut [u8]) {
        for (y, out) in y.zip(out.chunks_exact_mut(3 * x.len().max(1))) {
            rgb_row(planes, y, &x, work, out);
        }
    }
}

#[inline(always)]
fn rgb_row(planes: &Planes, y: usize, x: &Range<usize>, work: &mut RowWork, out: &mut [u8]) {
    let p = &planes.planes;
    match planes.color {
        ColorSpace::Gray => color::gray_row(&p[0].padded_row(y)[x.clone()], out),
        ColorSpace::Rgb | ColorSpace::YCbCr => {
            let [w0, w1, w2, _] = &mut work.components;
            let (a, b, c) = (p[0].upsampled(y, x, w0), p[1].upsampled(y, x, w1), p[2].upsampled(y, x, w2));
            match planes.color {
                ColorSpace::Rgb => color::interleave_row(a, b, c, out),
                _ => color::ycc_row(a, b, c, out),
            }
        }
        ColorSpace::Cmyk | ColorSpace::Ycck => {
            for (rgb, inks) in out.as_chunks_mut::<3>().0.iter_mut().zip(cmyk_row(planes, y, x, work)) {
                *rgb = color::cmyk_to_rgb(inks);
            }
        }
    }
}
