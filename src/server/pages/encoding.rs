//! Files of pages: compressed in the program, and sent in a coding that the client accepts.

use crate::server::http::error::ApiError;
use crate::server::http::negotiate::alternatives;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::sync::OnceLock;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::reply::Response;

/// The compression of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Brotli,
    Gzip,
    Plain,
}

impl Coding {
    /// The first of `offers` that an `Accept-Encoding` header allows, or `Plain`, which every client accepts.
    fn accepted(headers: &HeaderMap, offers: &[Coding]) -> Coding {
        let accepted = alternatives(headers, header::ACCEPT_ENCODING);
        let accepts = |coding: &str| accepted.iter().any(|(name, quality)| name == coding && *quality > 0.0);
        let best = offers.iter().find(|coding| coding.name().is_some_and(accepts));
        best.copied().unwrap_or(Coding::Plain)
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Coding::Brotli => Some("br"),
            Coding::Gzip => Some("gzip"),
            Coding::Plain => None,
        }
    }
}

/// The bytes of a file, in the coding of the stored bytes and in the codings that clients have asked for.
pub struct Packed {
    coding: Coding,
    stored: &'static [u8],
    /// Made for the first client that needs it and shared by all, because an answer lives until a slow client has read
    /// it.
    plain: OnceLock<Result<Bytes, String>>,
    gzip: OnceLock<Result<Bytes, String>>,
}

impl Packed {
    /// `stored` is the file, compressed with `coding`.
    pub const fn new(coding: Coding, stored: &'static [u8]) -> Packed {
        Packed { coding, stored, plain: OnceLock::new(), gzip: OnceLock::new() }
    }

    /// The stored bytes.
    pub fn stored(&self) -> &'static [u8] {
        self.stored
    }

    /// An answer in the best coding that the client accepts, without a Content-Type. Errs with 500.
    pub async fn respond(&'static self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let coding = Coding::accepted(headers, self.offers());
        let body = tokio::task::spawn_blocking(move || self.body(coding)).await;
        let body = body.map_err(|error| ApiError::Internal(error.to_string()))?;
        let mut response = Response::new(body.map_err(ApiError::Internal)?.into());
        let headers = response.headers_mut();
        if let Some(name) = coding.name() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        Ok(response)
    }

    fn offers(&self) -> &'static [Coding] {
        match self.coding {
            Coding::Brotli => &[Coding::Brotli, Coding::Gzip],
            Coding::Gzip => &[Coding::Gzip],
            Coding::Plain => &[],
        }
    }

    /// The bytes in the stored coding, with gzip, or plain. The first call for another coding than the stored one takes
    /// up to half a second for large files.
    pub fn body(&self, coding: Coding) -> Result<Bytes, String> {
        match coding {
            coding if coding == self.coding => Ok(Bytes::from_static(self.stored)),
            Coding::Gzip => self.gzip.get_or_init(|| gzip(&self.body(Coding::Plain)?)).clone(),
            _ => self.plain.get_or_init(|| self.unpack().map_err(|error| error.to_string())).clone(),
        }
    }

    fn unpack(&self) -> std::io::Result<Bytes> {
        let mut bytes = Vec::new();
        match self.coding {
            Coding::Brotli => {
                brotli_decompressor::Decompressor::new(self.stored, 1 << 16).read_to_end(&mut bytes)?;
            }
            Coding::Gzip => {
                GzDecoder::new(self.stored).read_to_end(&mut bytes)?;
            }
            Coding::Plain => return Ok(Bytes::from_static(self.stored)),
        }
        bytes.shrink_to_fit();
        Ok(bytes.into())
    }
}

fn gzip(plain: &[u8]) -> Result<Bytes, String> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(plain).and_then(|()| packer.finish()).map(Bytes::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &'static str) -> Coding {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        Coding::accepted(&headers, &[Coding::Brotli, Coding::Gzip])
    }

    #[test]
    fn the_best_coding_the_client_takes_is_chosen() {
        assert_eq!(accepted("gzip, deflate, br, zstd"), Coding::Brotli);
        assert_eq!(accepted("GZIP;q=0.5, br;q=0"), Coding::Gzip);
        assert_eq!(accepted("deflate"), Coding::Plain);
        assert_eq!(accepted("br;q=x"), Coding::Plain);
        assert_eq!(Coding::accepted(&HeaderMap::new(), &[Coding::Gzip]), Coding::Plain);
    }

    #[tokio::test]
    async fn a_file_is_offered_in_what_it_can_be_had_in_only() {
        let gzip: &'static [u8] = gzip(b"face").unwrap().to_vec().leak();
        let packed: &'static Packed = Box::leak(Box::new(Packed::new(Coding::Gzip, gzip)));
        let plain: &'static Packed = Box::leak(Box::new(Packed::new(Coding::Plain, b"face")));
        for (file, wished, sent) in
            [(packed, "br, gzip", Some("gzip")), (packed, "br", None), (plain, "br, gzip", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(wished));
            let response = file.respond(&headers).await.unwrap();
            let said = response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!(said, sent, "{wished}");
            assert_eq!(&file.body(Coding::Plain).unwrap()[..], b"face");
        }
    }

    #[test]
    fn what_does_not_unpack_is_an_error() {
        assert!(Packed::new(Coding::Gzip, b"face").body(Coding::Plain).is_err());
    }
}
