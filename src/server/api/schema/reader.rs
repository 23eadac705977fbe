//! Reads typed fields from a [`Value`], collecting every error instead of stopping at the first.
//!
//! Conversions, kinds of errors and messages are those of Pydantic's lax mode, as in the original: `"5"` is an integer,
//! `1` and `"yes"` are true, 2.5 is not an integer.

use super::value::Value;
use crate::server::http::error::{ApiError, FieldError, Loc};
use serde_json::json;
use std::borrow::Cow;

/// Errors found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds an error for the value at `loc`.
    pub fn add(&mut self, kind: &'static str, loc: &[Loc], msg: impl Into<String>, value: &Value<'_>) {
        self.add_with(kind, loc, msg, value, None);
    }

    fn add_with(
        &mut self,
        kind: &'static str,
        loc: &[Loc],
        msg: impl Into<String>,
        value: &Value<'_>,
        ctx: Option<serde_json::Value>,
    ) {
        // Further errors of a long list add nothing.
        if self.0.len() < 20 {
            self.0.push(FieldError { kind, loc: loc.to_vec(), msg: msg.into(), input: value.excerpt(), ctx });
        }
    }

    /// `value` if there were no errors.
    pub fn finish<T>(self, value: T) -> Result<T, ApiError> {
        if self.0.is_empty() { Ok(value) } else { Err(ApiError::Invalid(self.0)) }
    }
}

/// The fields of one map. Each getter takes a field out, so that images are moved and not copied.
pub struct Fields<'a> {
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    loc: Vec<Loc>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, whose place is `loc`. A value that is not a map is an error, and reads as an empty map.
    pub fn new(value: Value<'a>, loc: Vec<Loc>, errors: &mut Errors) -> Self {
        match value {
            Value::Map(entries) => Fields { entries, loc },
            other => {
                let msg = "Input should be a valid dictionary or object to extract fields from";
                errors.add("model_attributes_type", &loc, msg, &other);
                Fields { entries: Vec::new(), loc }
            }
        }
    }

    /// The place of the field `name`.
    pub fn loc(&self, name: &str) -> Vec<Loc> {
        self.loc.iter().cloned().chain([name.into()]).collect()
    }

    /// Takes out a field; `None` if it is missing or null.
    pub fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let mut found = None;
        self.entries.retain_mut(|(key, value)| {
            if key != name {
                return true;
            }
            found = Some(std::mem::replace(value, Value::Null));
            false
        });
        found.filter(|value| *value != Value::Null)
    }

    /// Whether a field is present, even if it is null.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    /// All remaining fields, for the `input` of an error.
    pub fn rest(&self) -> Value<'a> {
        Value::Map(self.entries.clone())
    }

    /// A boolean.
    pub fn boolean(&mut self, name: &str, errors: &mut Errors) -> Option<bool> {
        let value = self.take(name)?;
        let known = match &value {
            Value::Bool(value) => Some(*value),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            Value::Float(number) if *number == 0.0 => Some(false),
            Value::Float(number) if *number == 1.0 => Some(true),
            Value::Text(text) => crate::parse::boolean_word(text),
            _ => None,
        };
        if known.is_none() {
            let (kind, msg) = match value {
                Value::Int(_) | Value::Float(_) | Value::Text(_) => {
                    ("bool_parsing", "Input should be a valid boolean, unable to interpret input")
                }
                _ => ("bool_type", "Input should be a valid boolean"),
            };
            errors.add(kind, &self.loc(name), msg, &value);
        }
        known
    }

    /// A number from 0 to 1.
    pub fn fraction(&mut self, name: &str, errors: &mut Errors) -> Option<f32> {
        let value = self.take(name)?;
        let number = match &value {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            Value::Bool(value) => Some(f64::from(u8::from(*value))),
            Value::Text(text) => text.trim().parse::<f64>().ok(),
            _ => None,
        };
        let loc = self.loc(name);
        match number {
            None => {
                let (kind, msg) = match value {
                    Value::Text(_) => {
                        ("float_parsing", "Input should be a valid number, unable to parse string as a number")
                    }
                    _ => ("float_type", "Input should be a valid number"),
                };
                errors.add(kind, &loc, msg, &value);
                None
            }
            Some(number) if number.is_nan() => {
                errors.add("finite_number", &loc, "Input should be a finite number", &value);
                None
            }
            Some(number) if number < 0.0 => {
                let msg = "Input should be greater than or equal to 0";
                errors.add_with("greater_than_equal", &loc, msg, &value, Some(json!({"ge": 0.0})));
                None
            }
            Some(number) if number > 1.0 => {
                let msg = "Input should be less than or equal to 1";
                errors.add_with("less_than_equal", &loc, msg, &value, Some(json!({"le": 1.0})));
                None
            }
            Some(number) => Some(number as f32),
        }
    }

    /// An integer of at least 0.
    pub fn count(&mut self, name: &str, errors: &mut Errors) -> Option<u32> {
        let value = self.take(name)?;
        let loc = self.loc(name);
        let number = match &value {
            Value::Int(number) => Some(*number),
            Value::Bool(value) => Some(i64::from(*value)),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            Value::Text(text) => text.trim().parse::<i64>().ok(),
            _ => None,
        };
        match number {
            None => {
                let (kind, msg) = match value {
                    Value::Text(_) => {
                        ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
                    }
                    Value::Float(_) => {
                        ("int_from_float", "Input should be a valid integer, got a number with a fractional part")
                    }
                    _ => ("int_type", "Input should be a valid integer"),
                };
                errors.add(kind, &loc, msg, &value);
                None
            }
            Some(number) if number < 0 => {
                let msg = "Input should be greater than or equal to 0";
                errors.add_with("greater_than_equal", &loc, msg, &value, Some(json!({"ge": 0})));
                None
            }
            // Larger numbers of faces or pixels than u32 has no limit in practice.
            Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        }
    }

    /// A name; empty text and "None" mean no name, as in the settings.
    pub fn name(&mut self, name: &str, errors: &mut Errors) -> Option<String> {
        match self.take(name)? {
            Value::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("none") => None,
            Value::Text(text) => Some(text.into_owned()),
            other => {
                errors.add("string_type", &self.loc(name), "Input should be a valid string", &other);
                None
            }
        }
    }

    /// A list of at most `max_len` values, with its place.
    pub fn list(&mut self, name: &str, max_len: usize, errors: &mut Errors) -> Option<(Vec<Value<'a>>, Vec<Loc>)> {
        let loc = self.loc(name);
        match self.take(name)? {
            Value::List(items) if items.len() > max_len => {
                let msg = format!(
                    "List should have at most {max_len} items after validation, not {}; send fewer images at once",
                    items.len()
                );
                let ctx = json!({"field_type": "List", "max_length": max_len, "actual_length": items.len()});
                errors.add_with("too_long", &loc, msg, &Value::List(items), Some(ctx));
                None
            }
            Value::List(items) => Some((items, loc)),
            other => {
                errors.add("list_type", &loc, "Input should be a valid list", &other);
                None
            }
        }
    }

    /// A map from names to texts; numbers and booleans are converted to text.
    pub fn texts(&mut self, name: &str, errors: &mut Errors) -> Option<Vec<(String, String)>> {
        let loc = self.loc(name);
        let entries = match self.take(name)? {
            Value::Map(entries) => entries,
            other => {
                errors.add("dict_type", &loc, "Input should be a valid dictionary", &other);
                return None;
            }
        };
        let mut texts = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let text = match &value {
                Value::Text(text) => text.to_string(),
                Value::Int(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                _ => {
                    let loc: Vec<Loc> = loc.iter().cloned().chain([key.as_ref().into()]).collect();
                    errors.add("string_type", &loc, "Input should be a valid string", &value);
                    continue;
                }
            };
            texts.push((key.into_owned(), text));
        }
        Some(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::api::schema::value::Encoding;

    fn fields<'a>(json: &'a str, errors: &mut Errors) -> Fields<'a> {
        let value = Value::parse(json.as_bytes(), Encoding::Json).unwrap();
        Fields::new(value, vec!["body".into()], errors)
    }

    fn kinds(errors: Errors) -> Vec<&'static str> {
        match errors.finish(()) {
            Err(ApiError::Invalid(errors)) => errors.into_iter().map(|error| error.kind).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn booleans_convert_as_in_pydantic() {
        for (json, expected, kind) in [
            ("true", Some(true), None),
            ("0", Some(false), None),
            ("1.0", Some(true), None),
            ("\"Yes\"", Some(true), None),
            ("\"off\"", Some(false), None),
            ("null", None, None),
            ("2", None, Some("bool_parsing")),
            ("\"maybe\"", None, Some("bool_parsing")),
            ("[]", None, Some("bool_type")),
        ] {
            let mut errors = Errors::default();
            let text = format!("{{\"x\": {json}}}");
            assert_eq!(fields(&text, &mut errors).boolean("x", &mut errors), expected, "{json}");
            assert_eq!(kinds(errors), Vec::from_iter(kind), "{json}");
        }
    }

    #[test]
    fn counts_convert_as_in_pydantic_and_are_not_negative() {
        for (json, expected, kind) in [
            ("5", Some(5), None),
            ("5.0", Some(5), None),
            ("\"5\"", Some(5), None),
            ("true", Some(1), None),
            ("99999999999", Some(u32::MAX), None),
            ("-1", None, Some("greater_than_equal")),
            ("2.5", None, Some("int_from_float")),
            ("1e300", None, Some("int_from_float")),
            ("\"x\"", None, Some("int_parsing")),
            ("{}", None, Some("int_type")),
        ] {
            let mut errors = Errors::default();
            let text = format!("{{\"x\": {json}}}");
            assert_eq!(fields(&text, &mut errors).count("x", &mut errors), expected, "{json}");
            assert_eq!(kinds(errors), Vec::from_iter(kind), "{json}");
        }
    }

    #[test]
    fn fractions_are_from_zero_to_one() {
        for (json, expected, kind) in [
            ("0.6", Some(0.6), None),
            ("0", Some(0.0), None),
            ("1", Some(1.0), None),
            ("\"0.25\"", Some(0.25), None),
            ("1.01", None, Some("less_than_equal")),
            ("-0.01", None, Some("greater_than_equal")),
            ("\"nan\"", None, Some("finite_number")),
            ("\"x\"", None, Some("float_parsing")),
            ("[]", None, Some("float_type")),
        ] {
            let mut errors = Errors::default();
            let text = format!("{{\"x\": {json}}}");
            assert_eq!(fields(&text, &mut errors).fraction("x", &mut errors), expected, "{json}");
            assert_eq!(kinds(errors), Vec::from_iter(kind), "{json}");
        }
    }

    #[test]
    fn all_errors_are_reported_with_their_places() {
        let mut errors = Errors::default();
        let mut body = fields(r#"{"a": "x", "b": -1, "c": {"k": []}}"#, &mut errors);
        body.count("a", &mut errors);
        body.count("b", &mut errors);
        body.texts("c", &mut errors);
        let Err(ApiError::Invalid(errors)) = errors.finish(()) else { panic!() };
        let places: Vec<_> = errors.iter().map(|error| serde_json::to_string(&error.loc).unwrap()).collect();
        assert_eq!(places, [r#"["body","a"]"#, r#"["body","b"]"#, r#"["body","c","k"]"#]);
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let mut errors = Errors::default();
        assert_eq!(fields(r#"{"x": 1, "x": 2}"#, &mut errors).count("x", &mut errors), Some(2));
    }
}
