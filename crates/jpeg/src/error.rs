//! Errors of decoding.

/// Maximum width and height, as in libjpeg.
pub const MAX_SIDE: u32 = 65_500;

/// Failure to decode a JPEG file. Every message is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JpegError {
    /// The first two bytes are not FF D8.
    #[error("not a JPEG file")]
    NotJpeg,
    /// The data ends before the first scan starts.
    #[error("damaged JPEG picture: the file ends inside its header")]
    HeaderCutOff,
    /// The end of the file comes before a scan: a file of tables.
    #[error("damaged JPEG picture: the file has no scan")]
    NoPicture,
    /// A coding process that is not implemented.
    #[error("{process} JPEG is not supported; save the picture as baseline or progressive JPEG with Huffman coding")]
    Process {
        /// The name in ITU T.81.
        process: &'static str,
    },
    /// Samples of another depth than 8 bits.
    #[error("JPEG with {bits} bits per sample is not supported; save the picture with 8 bits per sample")]
    Precision {
        /// Bits per sample in the header.
        bits: u8,
    },
    /// A number of components other than 1, 3 and 4.
    #[error("JPEG with {components} components is not supported; save the picture as gray, RGB or CMYK")]
    Components {
        /// The number in the header.
        components: u8,
    },
    /// Sampling factors whose ratio to the largest factor is not a whole number.
    #[error(
        "JPEG with fractional subsampling ({factor} of {largest}) is not supported; save the picture with 4:2:0 or 4:4:4"
    )]
    FractionalSampling {
        /// The component's sampling factor.
        factor: u8,
        /// The largest factor in the same direction.
        largest: u8,
    },
    /// Width or height is zero. A height that a DNL marker gives later is not supported, as in libjpeg.
    #[error("JPEG picture without pixels ({width}x{height})")]
    Empty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A side is longer than [`MAX_SIDE`].
    #[error("JPEG picture of {width}x{height} pixels has a side longer than {MAX_SIDE}")]
    SideTooLong {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// More scans than [`crate::max_scans`].
    #[error("JPEG picture with more than {limit} scans")]
    TooManyScans {
        /// Maximum number of scans.
        limit: usize,
    },
    /// A marker segment or a scan breaks the rules of ITU T.81 in a way that leaves no picture.
    #[error("damaged JPEG picture: {problem}")]
    Damaged {
        /// The broken rule.
        problem: &'static str,
    },
}

impl JpegError {
    pub(crate) fn damaged(problem: &'static str) -> JpegError {
        JpegError::Damaged { problem }
    }
}
