//! Content negotiation: the encodings of bodies, answers and files.

use crate::server::api::schema::value::Encoding;
use crate::server::http::error::ApiError;
use warp::http::{HeaderMap, HeaderName, header};

/// The values of a header that lists alternatives (`Accept`, `Accept-Encoding`), in lower case and without parameters,
/// each with its quality from 0 to 1. A quality that is not a number is 0: the alternative is not acceptable.
pub fn alternatives(headers: &HeaderMap, name: HeaderName) -> Vec<(String, f32)> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    let alternative = |item: &str| {
        let mut parts = item.split(';').map(str::trim);
        let value = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1.0, |(_, quality)| quality.trim().parse().unwrap_or(0.0));
        (value, quality)
    };
    lines.flat_map(|line| line.split(',')).map(alternative).collect()
}

/// The encoding of a request body, JSON or MessagePack, by its Content-Type. Without a Content-Type it is JSON, as in
/// the original. Errs with 415.
pub fn body_encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Encoding::Json);
    };
    let text = value.to_str().unwrap_or_default();
    // Proxies join repeated headers with commas; the first one counts.
    let essence = text.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Ok(Encoding::MessagePack),
        "" | "application/json" | "text/json" => Ok(Encoding::Json),
        json if json.starts_with("application/") && json.ends_with("+json") => Ok(Encoding::Json),
        other => Err(ApiError::UnsupportedMediaType(format!(
            "the Content-Type '{}' is not supported: send application/json or application/msgpack",
            crate::text::for_message(other)
        ))),
    }
}

/// The encoding of an answer: MessagePack if the field `msgpack` is true, or if the Accept header prefers it to JSON.
pub fn answer_encoding(msgpack: Option<bool>, headers: &HeaderMap) -> Encoding {
    if msgpack == Some(true) {
        return Encoding::MessagePack;
    }
    // The quality of MessagePack, and whether no JSON of the same quality stood before it.
    let mut best = (0.0, false);
    let mut json = 0.0f32;
    for (essence, quality) in alternatives(headers, header::ACCEPT) {
        match essence.as_str() {
            // The first of equal alternatives counts. Wildcards never count against a name.
            "application/x-msgpack" | "application/msgpack" | "application/vnd.msgpack" if quality > best.0 => {
                best = (quality, quality > json);
            }
            "application/json" => json = json.max(quality),
            _ => {}
        }
    }
    if best.1 && best.0 >= json { Encoding::MessagePack } else { Encoding::Json }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn alternatives_have_qualities() {
        let accept = headers("accept-encoding", &["GZIP;q=0.5, br; Q = 0 ,deflate;level=1", "x;q=much"]);
        let expected = [("gzip", 0.5), ("br", 0.0), ("deflate", 1.0), ("x", 0.0)];
        let found = alternatives(&accept, header::ACCEPT_ENCODING);
        assert_eq!(found, expected.map(|(name, quality)| (name.to_string(), quality)));
    }

    #[test]
    fn content_types_with_parameters_and_several_values() {
        for (value, expected) in [
            ("application/json", Encoding::Json),
            ("application/json; charset=utf-8", Encoding::Json),
            ("Application/JSON", Encoding::Json),
            ("application/problem+json", Encoding::Json),
            ("application/msgpack", Encoding::MessagePack),
            ("application/x-msgpack;charset=binary", Encoding::MessagePack),
            ("application/msgpack, application/json", Encoding::MessagePack),
        ] {
            assert_eq!(body_encoding(&headers("content-type", &[value])), Ok(expected), "{value}");
        }
        assert_eq!(body_encoding(&HeaderMap::new()), Ok(Encoding::Json));
        for value in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/jpeg"]
        {
            assert!(body_encoding(&headers("content-type", &[value])).is_err(), "{value}");
        }
    }

    #[test]
    fn msgpack_answers_are_for_clients_that_prefer_them() {
        for (accept, expected) in [
            (&["application/x-msgpack"][..], true),
            (&["application/msgpack"], true),
            (&["application/x-msgpack; q=0.9, */*;q=0.1"], true),
            (&["application/x-msgpack, application/json"], true),
            (&["application/json, application/x-msgpack"], false),
            (&["application/json;q=0.5, application/x-msgpack"], true),
            (&["application/json, application/x-msgpack;q=0.5"], false),
            (&["application/json", "application/x-msgpack;q=1"], false),
            (&["*/*", "application/x-msgpack"], true),
            (&["*/*"], false),
            (&["application/x-msgpack;q=0"], false),
            (&["application/json"], false),
            (&[], false),
        ] {
            let encoding = answer_encoding(None, &headers("accept", accept));
            assert_eq!(encoding == Encoding::MessagePack, expected, "{accept:?}");
        }
        let json = headers("accept", &["application/json"]);
        assert_eq!(answer_encoding(Some(true), &json), Encoding::MessagePack);
        assert_eq!(answer_encoding(Some(false), &HeaderMap::new()), Encoding::Json);
    }
}
