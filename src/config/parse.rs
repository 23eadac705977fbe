//! From the text of a flag or variable to its value, or to a sentence on what was expected.

use super::{Secret, Setting};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Whether a text means that a setting is not set.
pub(super) fn is_none(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "" | "none" | "null")
}

/// A parser that reads an empty value, and "None", as `default`.
pub(super) fn or_default<T>(
    default: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| parse(if is_none(text) { default } else { text.trim() })
}

pub(super) fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub(super) fn optional<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<Setting<T>, String> {
    if is_none(text) { Ok(Setting(None)) } else { parse(text.trim()).map(|value| Setting(Some(value))) }
}

pub(super) fn secret(text: &str) -> Result<Setting<Secret>, String> {
    Ok(Setting((!is_none(text)).then(|| Secret::new(text))))
}

/// The words that the original's settings library reads as booleans.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

pub(super) fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is not an address of this machine: write 0.0.0.0, 127.0.0.1 or ::"))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("'{text}' is not a port: a number from 0 to 65535"))
}

pub(super) fn whole_number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("'{text}' is not a whole number from 0 up"))
}

pub(super) fn megapixels(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|n| *n >= 1)
        .ok_or_else(|| format!("'{text}' is not a number of millions of pixels from 1 up"))
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n >= 1).ok_or_else(|| format!("'{text}' is not a number from 1 up"))
}

pub(super) fn fraction(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|f| (0.0..=1.0).contains(f)).ok_or_else(|| format!("'{text}' is not a number from 0 to 1"))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s').parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 86400.0);
    number.map(Duration::from_secs_f64).ok_or_else(|| format!("'{text}' is not a number of seconds from 0 to 86400"))
}

pub(super) fn short_delay(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches("ms").parse::<f64>().ok().filter(|ms| (0.0..=1000.0).contains(ms));
    let delay = number.map(|ms| Duration::from_secs_f64(ms / 1e3));
    delay.ok_or_else(|| format!("'{text}' is not a number of milliseconds from 0 to 1000"))
}

pub(super) fn interval(text: &str) -> Result<f64, String> {
    seconds(text).map(|duration| duration.as_secs_f64())
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let plain = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match plain.chars().last() {
        Some('K') => (&plain[..plain.len() - 1], 10),
        Some('M') => (&plain[..plain.len() - 1], 20),
        Some('G') => (&plain[..plain.len() - 1], 30),
        _ => (plain, 0),
    };
    let number = digits.trim().parse::<u64>().ok().filter(|n| *n > 0).and_then(|n| n.checked_mul(1 << shift));
    number.ok_or_else(|| format!("'{text}' is not a number of bytes: write 1000000, 64M or 1G"))
}

pub(super) fn backend(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        "onnx" => Ok("onnx".to_string()),
        "trt" | "triton" => Err(format!(
            "'{text}' needs an NVIDIA GPU, and this program runs on CPUs: set INFERENCE_BACKEND=onnx, \
             or stay with InsightFace-REST on GPU hosts"
        )),
        _ => Err(format!("'{text}' is not a backend: set INFERENCE_BACKEND=onnx")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_take_suffixes_and_refuse_nonsense() {
        for (text, expected) in [("64M", 64 << 20), ("1GiB", 1 << 30), ("10kb", 10 << 10), ("123", 123)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["0", "-1", "M", "1T", "99999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("0").is_err() && seconds("nan").is_err() && seconds("-1").is_err());
        assert!(fraction("1.5").is_err() && fraction("nan").is_err());
    }
}
