//! PNG chunks that the decoder does not expose.

/// Bytes of length, type and checksum of a chunk.
const CHUNK_OVERHEAD: usize = 12;

/// Width and height in the header, in pixels.
pub(super) fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = chunk(bytes, b"IHDR")?;
    let side = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?));
    Some((side(0)?, side(4)?))
}

/// Data of the first chunk of type `kind`. The decoder reports only chunks before the pixels.
pub(super) fn chunk<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    const SIGNATURE: usize = 8;
    let mut rest = bytes.get(SIGNATURE..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        if rest.get(4..8)? == kind {
            return rest.get(8..8 + length);
        }
        rest = rest.get(length.checked_add(CHUNK_OVERHEAD)?..)?;
    }
}
