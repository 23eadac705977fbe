//! Scan headers (T.81, B.2.3) and the arrangement of blocks in a scan.

use crate::error::JpegError;
use crate::header::Header;

/// Maximum number of blocks in an MCU (T.81, B.2.3).
const MAX_BLOCKS_IN_MCU: usize = 10;

/// One component of a scan.
#[derive(Clone, Debug)]
pub(crate) struct ScanComponent {
    /// Index in the frame.
    pub(crate) index: usize,
    pub(crate) dc_slot: u8,
    pub(crate) ac_slot: u8,
}

/// The header of a scan.
#[derive(Clone, Debug)]
pub(crate) struct ScanHeader {
    pub(crate) components: Vec<ScanComponent>,
    /// First and last coefficient in zigzag order.
    pub(crate) first: u8,
    pub(crate) last: u8,
    /// Bit position of the previous scan of these coefficients (0 for the first one), and of this one.
    pub(crate) high: u8,
    pub(crate) low: u8,
}

impl ScanHeader {
    pub(crate) fn read(data: &[u8], header: &Header) -> Result<ScanHeader, JpegError> {
        const BAD: JpegError = JpegError::Damaged { problem: "bad scan header" };
        let (&count, rest) = data.split_first().ok_or(BAD)?;
        let (selectors, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(BAD)?;
        let &[first, last, approximation] = rest else { return Err(BAD) };
        if !(1..=4).contains(&count) {
            return Err(BAD);
        }
        let mut components: Vec<ScanComponent> = vec![];
        for &[id, slots] in selectors.as_chunks::<2>().0 {
            // libjpeg's rule, which also finds several components with the same identifier: a component is not selected
            // before its own place in the scan.
            let index = (0..header.components.len())
                .position(|i| header.components[i].id == id && i >= components.len())
                .ok_or(BAD)?;
            if components.iter().any(|c| c.index == index) {
                return Err(BAD);
            }
            components.push(ScanComponent { index, dc_slot: slots >> 4, ac_slot: slots & 15 });
        }
        let scan = ScanHeader { components, first, last, high: approximation >> 4, low: approximation & 15 };
        if scan.is_interleaved() && scan.blocks_in_mcu(header) > MAX_BLOCKS_IN_MCU {
            return Err(JpegError::damaged("too many blocks in an MCU"));
        }
        Ok(scan)
    }

    /// More than one component: MCUs hold blocks of all of them.
    pub(crate) fn is_interleaved(&self) -> bool {
        self.components.len() > 1
    }

    fn blocks_in_mcu(&self, header: &Header) -> usize {
        let blocks = |c: &ScanComponent| {
            let c = &header.components[c.index];
            usize::from(c.horizontal) * usize::from(c.vertical)
        };
        self.components.iter().map(blocks).sum()
    }

    /// Checks the parameters of a progressive scan (T.81, table B.3).
    pub(crate) fn check_progression(&self) -> Result<(), JpegError> {
        let band = match self.first {
            0 => self.last == 0,
            _ => self.first <= self.last && self.last < 64 && !self.is_interleaved(),
        };
        if !band || self.high != 0 && self.low != self.high - 1 || self.low > 13 {
            return Err(JpegError::damaged("bad progression parameters"));
        }
        Ok(())
    }
}

/// The size of the picture in MCUs and the arrangement of each component's blocks.
#[derive(Clone, Debug)]
pub(crate) struct ScanLayout {
    pub(crate) mcus_across: usize,
    pub(crate) mcus_down: usize,
    pub(crate) components: Vec<ComponentLayout>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ComponentLayout {
    /// Sampling factors.
    pub(crate) h: usize,
    pub(crate) v: usize,
    /// Rows of blocks that libjpeg takes together, which its smoothing depends on: `v`, but the factor in the file
    /// for an only component.
    pub(crate) rows_together: usize,
    /// Size in blocks without the padding to whole MCUs: the size of a scan of this component alone.
    pub(crate) blocks_across: usize,
    pub(crate) blocks_down: usize,
}

impl ScanLayout {
    pub(crate) fn new(header: &Header) -> ScanLayout {
        let (max_h, max_v) = header.max_sampling();
        let (width, height) = (header.width as usize, header.height as usize);
        let component = |c: &crate::header::Component| {
            let (h, v) = (usize::from(c.horizontal), usize::from(c.vertical));
            ComponentLayout {
                h,
                v,
                rows_together: c.vertical_in_file.into(),
                blocks_across: (width * h).div_ceil(8 * max_h),
                blocks_down: (height * v).div_ceil(8 * max_v),
            }
        };
        ScanLayout {
            mcus_across: width.div_ceil(8 * max_h),
            mcus_down: height.div_ceil(8 * max_v),
            components: header.components.iter().map(component).collect(),
        }
    }
}
