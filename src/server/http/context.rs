//! Data of one request that handlers get in addition to its head and body. The pipeline stores it in the request's
//! extensions.

use crate::server::inference::Deadline;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Latest time of the answer.
    pub deadline: Deadline,
}

/// Values of the parameters in a route's path, such as `id` in `/people/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathParams(Arc<[(String, String)]>);

impl PathParams {
    /// Parameters with their percent-encoded values. Bytes that are not UTF-8 become U+FFFD.
    pub fn new<'a>(params: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let decode = |value| percent_decode_str(value).decode_utf8_lossy().into_owned();
        PathParams(params.map(|(name, value)| (name.to_string(), decode(value))).collect())
    }

    /// The decoded value of a parameter; empty if the path has no such parameter.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let params = PathParams::new([("id", "J%C3%B6rg%2F1"), ("broken", "a%ff")].into_iter());
        assert_eq!((params.get("id"), params.get("broken"), params.get("none")), ("Jörg/1", "a\u{fffd}", ""));
    }
}
