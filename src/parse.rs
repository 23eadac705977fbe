//! Parsers for values of options, environment variables and requests. Surrounding blanks are ignored.

use std::str::FromStr;
use std::time::Duration;

/// A text that is not a valid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct ParseError {
    /// The text as given.
    pub text: String,
    /// The expected kind of value, with an example or a range.
    pub expected: &'static str,
}

impl ParseError {
    /// An error about `text`, which should be `expected`.
    pub fn new(text: &str, expected: &'static str) -> ParseError {
        ParseError { text: text.into(), expected }
    }
}

/// True for the texts that stand for "not set": blank, "None" and "null".
pub fn is_unset(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "" | "none" | "null")
}

/// A value of any type that implements [`FromStr`].
pub fn value<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.trim().parse()
}

/// The boolean words of pydantic, the original's settings library; `None` for other words.
pub fn boolean_word(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A boolean, in the words of [`boolean_word`].
pub fn boolean(text: &str) -> Result<bool, ParseError> {
    boolean_word(text.trim()).ok_or_else(|| ParseError::new(text, "a boolean: write true or false"))
}

/// A TCP port; 0 is allowed.
pub fn port(text: &str) -> Result<u16, ParseError> {
    value(text).map_err(|_| ParseError::new(text, "a port: write a number from 0 to 65535"))
}

/// A whole number, 0 or larger.
pub fn whole_number(text: &str) -> Result<usize, ParseError> {
    value(text).map_err(|_| ParseError::new(text, "a whole number from 0 up"))
}

/// A whole number, 1 or larger.
pub fn at_least_one<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, ParseError> {
    let number = value(text).ok().filter(|n| *n >= T::from(1));
    number.ok_or_else(|| ParseError::new(text, "a whole number from 1 up"))
}

/// A number from 0 to 1.
pub fn fraction(text: &str) -> Result<f32, ParseError> {
    let number = value(text).ok().filter(|f| (0.0..=1.0).contains(f));
    number.ok_or_else(|| ParseError::new(text, "a number from 0 to 1"))
}

/// A number of megapixels, over 0 and up to a million.
pub fn megapixels(text: &str) -> Result<f64, ParseError> {
    let number = value(text).ok().filter(|n| *n > 0.0 && *n <= 1e6);
    number.ok_or_else(|| ParseError::new(text, "millions of pixels, over 0 and up to 1000000, such as 50"))
}

/// Width and height from 32 to 8192, as `640,640`, `640x640` or `[640, 640]`.
pub fn size(text: &str) -> Result<(usize, usize), ParseError> {
    let sides = text.trim().trim_start_matches('[').trim_end_matches(']').split([',', 'x']);
    let sides: Option<Vec<usize>> = sides.map(|side| value(side).ok().filter(|s| (32..=8192).contains(s))).collect();
    match sides.as_deref() {
        Some(&[width, height]) => Ok((width, height)),
        _ => Err(ParseError::new(text, "a size: write width,height from 32 to 8192, such as 640,640")),
    }
}

/// A number of bytes, 1 or larger, with the binary suffixes K, M and G: `10M` and `10MiB` are both 10 * 2^20.
pub fn bytes(text: &str) -> Result<u64, ParseError> {
    let upper = text.trim().to_ascii_uppercase();
    let number = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match number.as_bytes().last() {
        Some(b'K') => (&number[..number.len() - 1], 10),
        Some(b'M') => (&number[..number.len() - 1], 20),
        Some(b'G') => (&number[..number.len() - 1], 30),
        _ => (number, 0),
    };
    let bytes = value::<u64>(digits).ok().filter(|n| *n > 0).and_then(|n| n.checked_mul(1 << shift));
    bytes.ok_or_else(|| ParseError::new(text, "a number of bytes: write 1000000, 64M or 1G"))
}

/// A time over 0 and up to a day: seconds, or a number with the unit `ms`, `s` or `m`.
pub fn duration(text: &str) -> Result<Duration, ParseError> {
    let seconds = seconds_in(text, 1.0).filter(|s| *s > 0.0 && *s <= 86_400.0);
    let duration = seconds.map(Duration::from_secs_f64);
    duration
        .ok_or_else(|| ParseError::new(text, "a time over 0 and up to a day: write 20s, 500ms, 2m or plain seconds"))
}

/// A time from 0 to an hour: seconds, or a number with a unit as for [`duration`].
pub fn seconds(text: &str) -> Result<f64, ParseError> {
    let seconds = seconds_in(text, 1.0).filter(|s| (0.0..=3600.0).contains(s));
    seconds.ok_or_else(|| ParseError::new(text, "a number of seconds from 0 to 3600"))
}

/// A time from 0 to one second: milliseconds, or a number with a unit as for [`duration`].
pub fn short_delay(text: &str) -> Result<Duration, ParseError> {
    let seconds = seconds_in(text, 1e-3).filter(|s| (0.0..=1.0).contains(s));
    let delay = seconds.map(Duration::from_secs_f64);
    delay.ok_or_else(|| ParseError::new(text, "a number of milliseconds from 0 to 1000"))
}

/// A time in seconds; `unit` is the number of seconds in a unit of numbers without a suffix.
fn seconds_in(text: &str, unit: f64) -> Option<f64> {
    let text = text.trim();
    let (number, unit) = text
        .strip_suffix("ms")
        .map(|number| (number, 1e-3))
        .or_else(|| text.strip_suffix('s').map(|number| (number, 1.0)))
        .or_else(|| text.strip_suffix('m').map(|number| (number, 60.0)))
        .unwrap_or((text, unit));
    value::<f64>(number).ok().map(|number| number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_take_suffixes_and_refuse_nonsense() {
        for (text, expected) in [("64M", 64 << 20), ("1GiB", 1 << 30), ("10kb", 10 << 10), ("123", 123)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["0", "-1", "M", "1T", "99999999999G", "é"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(fraction("1.5").is_err() && fraction("nan").is_err());
        assert_eq!(fraction(" 0.5 "), Ok(0.5));
        for bad in ["1.5", "-0.1", "NaN", "x"] {
            assert!(fraction(bad).is_err(), "{bad}");
        }
        assert_eq!(megapixels("0.01"), Ok(0.01));
        for bad in ["0", "NaN", "inf", "-1", "1e9", "", "x"] {
            assert!(megapixels(bad).is_err(), "{bad}");
        }
        assert_eq!((at_least_one::<usize>("1"), at_least_one::<u64>("50")), (Ok(1), Ok(50)));
        assert!(at_least_one::<usize>("0").is_err() && at_least_one::<u64>("-1").is_err());
    }

    #[test]
    fn times_take_units() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!([ms("20s"), ms("1.5"), ms("250ms"), ms("2m")], [Ok(20_000), Ok(1_500), Ok(250), Ok(120_000)]);
        assert_eq!((ms("0.5"), ms("10 s"), ms("86400")), (Ok(500), Ok(10_000), Ok(86_400_000)));
        for bad in ["", "s", "-1", "0", "2h", "1e99", "nan", "86401"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!((seconds("0"), seconds("0.5"), seconds("3600")), (Ok(0.0), Ok(0.5), Ok(3600.0)));
        for bad in ["NaN", "inf", "-1", "1e9", "", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        for (text, micros) in [("0", 0), ("2.5", 2_500), ("20ms", 20_000), ("1s", 1_000_000)] {
            assert_eq!(short_delay(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        assert!(short_delay("-1").is_err() && short_delay("1001").is_err());
    }

    #[test]
    fn sizes_have_two_sides_within_the_limits() {
        for (text, expected) in [
            ("640,640", (640, 640)),
            ("640, 480", (640, 480)),
            ("320x640", (320, 640)),
            ("[640, 480]", (640, 480)),
            ("1000x700", (1000, 700)),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for bad in ["", "640", "a,b", "0,0", "640,480,3", "0,640", "640,-1", "-1,640", "99999,640"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
