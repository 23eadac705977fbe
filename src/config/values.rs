//! Types of settings other than numbers and names.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;

use crate::parse::{self, ParseError, is_unset};

/// A setting that may be absent: blank, "None" and "null" stand for an absent value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T>(pub Option<T>);

impl Setting<String> {
    /// The value, if there is one.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Setting<PathBuf> {
    /// The value, if there is one.
    pub fn as_deref(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

/// Values separated by commas; blank and "None" give an empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if is_unset(text) {
            return Ok(List(Vec::new()));
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::parse).collect::<Result<_, _>>().map(List)
    }
}

/// Networks in CIDR notation, such as `10.0.0.0/8`, separated by commas; a plain address is a network of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrList(pub Vec<IpNet>);

impl FromStr for CidrList {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let List(items) = text.parse::<List<String>>().unwrap_or_default();
        let network = |item: &String| {
            let network = item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| ParseError::new(item, "a network: write it like 10.0.0.0/8 or fd00::/8"))
        };
        items.iter().map(network).collect::<Result<_, _>>().map(CidrList)
    }
}

/// A value that is never written to logs and messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text of the secret: for comparison only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Width and height, in pixels, to which pictures are scaled before detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxSize {
    /// Width and height as configured; `/info` shows them.
    pub given: [usize; 2],
}

impl MaxSize {
    /// Width and height of the detector's input: rounded down to multiples of 32.
    pub fn floored(self) -> (usize, usize) {
        (self.given[0] / 32 * 32, self.given[1] / 32 * 32)
    }
}

impl FromStr for MaxSize {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse::size(text).map(|(width, height)| MaxSize { given: [width, height] })
    }
}

/// Minimum level of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub tracing::Level);

impl FromStr for LogLevel {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(LogLevel(match text.to_ascii_uppercase().as_str() {
            "TRACE" | "NOTSET" => tracing::Level::TRACE,
            "DEBUG" => tracing::Level::DEBUG,
            "INFO" => tracing::Level::INFO,
            "WARN" | "WARNING" => tracing::Level::WARN,
            "ERROR" | "CRITICAL" | "FATAL" => tracing::Level::ERROR,
            _ => return Err(ParseError::new(text, "a log level: write DEBUG, INFO, WARNING or ERROR")),
        }))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == tracing::Level::WARN { "WARNING" } else { self.0.as_str() })
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for terminals.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(ParseError::new(text, "a log format: write text or json")),
        }
    }
}

/// Headers for image requests: names and values, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders(pub Vec<(String, String)>);

/// A value that is not a JSON object of headers.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The text is not a JSON object.
    #[error("not a JSON object of headers, as in {{\"User-Agent\": \"x\"}}: {0}")]
    NotAnObject(#[from] serde_json::Error),
    /// The value of a header is neither a string nor a number.
    #[error("the header '{0}' must be a string")]
    NotAString(String),
}

impl FromStr for RequestHeaders {
    type Err = HeadersError;

    fn from_str(text: &str) -> Result<Self, HeadersError> {
        // `docker run --env-file` keeps the quotes that the original's .env puts around the object.
        let trimmed = text.trim();
        let unquoted = trimmed.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(trimmed);
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(unquoted)?;
        let entry = |(name, value): (String, serde_json::Value)| match value {
            serde_json::Value::String(value) => Ok((name, value)),
            serde_json::Value::Number(value) => Ok((name, value.to_string())),
            _ => Err(HeadersError::NotAString(name)),
        };
        object.into_iter().map(entry).collect::<Result<_, _>>().map(RequestHeaders)
    }
}

/// A setting that may be absent.
pub(super) fn optional<T: FromStr>(text: &str) -> Result<Setting<T>, T::Err> {
    if is_unset(text) { Ok(Setting(None)) } else { parse::value(text).map(|value| Setting(Some(value))) }
}

/// A secret that may be absent. Blanks around it are part of it.
pub(super) fn secret(text: &str) -> Result<Setting<Secret>, Infallible> {
    Ok(Setting((!is_unset(text)).then(|| Secret::new(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse_or_say_how_to_write_them() {
        let networks = |text: &str| text.parse::<CidrList>().map(|networks| networks.0);
        let shown = |text: &str| networks(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown("10.0.0.0/8, ::1"), ["10.0.0.0/8", "::1/128"]);
        assert_eq!((shown("").len(), shown("None").len()), (0, 0));
        let all = networks("0.0.0.0/0").unwrap()[0];
        assert!(all.contains(&IpAddr::from([203, 0, 113, 1])) && !all.contains(&IpAddr::from([0u16; 8])));
        for bad in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/x", "example.com"] {
            assert!(networks(bad).unwrap_err().to_string().contains("write it like"), "{bad}");
        }
    }
}
