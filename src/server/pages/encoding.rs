//! A file of a page: in the program it is packed, and every client gets it in a coding that it takes.

use crate::server::http::error::ApiError;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::sync::OnceLock;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::reply::Response;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Brotli,
    Gzip,
    Plain,
}

impl Coding {
    /// The first of `offers` that an `Accept-Encoding` header allows, or `Plain`, which every client takes.
    fn accepted(headers: &HeaderMap, offers: &[Coding]) -> Coding {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let wishes: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let takes = |coding: &str| {
            wishes.iter().any(|wish| {
                let mut parts = wish.split(';').map(str::trim);
                let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
                let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
                named && weight.is_ok_and(|q| q > 0.0)
            })
        };
        let best = offers.iter().find(|coding| coding.name().is_some_and(takes));
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

/// The bytes of a file, in the coding they are stored in and in those that clients asked for.
pub struct Packed {
    coding: Coding,
    stored: &'static [u8],
    /// Made when the first client asks for it and shared by all, for an answer lives until a slow client has read it.
    plain: OnceLock<Result<Bytes, String>>,
    gzip: OnceLock<Result<Bytes, String>>,
}

impl Packed {
    /// `stored` is what `coding` made of the file.
    pub const fn new(coding: Coding, stored: &'static [u8]) -> Packed {
        Packed { coding, stored, plain: OnceLock::new(), gzip: OnceLock::new() }
    }

    /// What is in the program.
    pub fn stored(&self) -> &'static [u8] {
        self.stored
    }

    /// An answer in the best coding that the client takes; what the file is has still to be said.
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

    /// The bytes in the stored coding, with gzip, or plain. Takes up to half a second the first time a large file is wanted in another
    /// coding than the stored one.
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
