//! A request body as a tree of values: one type for JSON and MessagePack, so that both are validated by the same code.

use crate::server::http::error::{ApiError, FieldError, Loc};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::json;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// A value of a body. Texts and bytes borrow from the body if possible, so that images are not copied.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`, or MessagePack's nil.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer in the range of `i64`.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Binary of MessagePack, or a string of MessagePack that is not UTF-8.
    Bytes(Cow<'a, [u8]>),
    /// A list.
    List(Vec<Value<'a>>),
    /// A map; keys that are not text are dropped. The last of equal keys counts.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Maximum number of values in a body: small values take a hundred times the memory of their text.
const MAX_VALUES: usize = 200_000;
/// Maximum depth of lists and maps inside each other.
const MAX_DEPTH: usize = 64;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/msgpack`
    MessagePack,
}

impl<'a> Value<'a> {
    /// Reads a whole body. Data after the first value is an error.
    pub fn parse(body: &'a [u8], encoding: Encoding) -> Result<Value<'a>, ApiError> {
        let budget = Cell::new(MAX_VALUES);
        let node = Node { budget: &budget, depth: MAX_DEPTH };
        match encoding {
            Encoding::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(body);
                let value = node.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
                value.map_err(|error| invalid_json(body, &error))
            }
            Encoding::MessagePack => {
                let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
                let value = node.deserialize(&mut deserializer).map_err(|error| invalid_msgpack(&error.to_string()))?;
                deserializer.set_max_depth(MAX_DEPTH);
                match de::IgnoredAny::deserialize(&mut deserializer) {
                    Ok(_) => Err(invalid_msgpack("bytes follow the first value")),
                    Err(_) => Ok(value),
                }
            }
        }
    }

    /// The value for the `input` of an error: shortened, and without image bytes.
    pub fn excerpt(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => json!(value),
            Value::Int(value) => json!(value),
            Value::Float(value) => json!(value),
            Value::Text(text) if text.chars().nth(100).is_some() => {
                json!(format!("{}… ({} bytes)", text.chars().take(60).collect::<String>(), text.len()))
            }
            Value::Text(text) => json!(text),
            Value::Bytes(bytes) => json!(format!("({} bytes)", bytes.len())),
            Value::List(items) if items.len() > 4 => json!(format!("(a list of {})", items.len())),
            Value::List(items) => items.iter().map(Value::excerpt).collect(),
            Value::Map(entries) => entries
                .iter()
                .take(8)
                .map(|(name, value)| {
                    let inner = match value {
                        Value::List(_) => json!("(a list)"),
                        Value::Map(_) => json!("(a map)"),
                        plain => plain.excerpt(),
                    };
                    (name.chars().take(60).collect::<String>(), inner)
                })
                .collect(),
        }
    }
}

fn invalid_json(body: &[u8], error: &serde_json::Error) -> ApiError {
    // serde_json reports line and column; the original reports the position in the text.
    let lines = body.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    let position = lines.map(|line| line.len() + 1).sum::<usize>() + error.column().saturating_sub(1);
    ApiError::Invalid(vec![FieldError {
        kind: "json_invalid",
        loc: vec!["body".into(), Loc::Index(position as u64)],
        msg: "JSON decode error".into(),
        input: json!({}),
        ctx: Some(json!({ "error": error.to_string() })),
    }])
}

fn invalid_msgpack(reason: &str) -> ApiError {
    ApiError::Invalid(vec![FieldError {
        kind: "msgpack_invalid",
        loc: vec!["body".into()],
        msg: "MessagePack decode error".into(),
        input: json!({}),
        ctx: Some(json!({ "error": reason })),
    }])
}

/// Builds one value within a budget that the whole tree shares.
#[derive(Clone, Copy)]
struct Node<'c> {
    budget: &'c Cell<usize>,
    depth: usize,
}

impl Node<'_> {
    fn spend<E: de::Error>(&self) -> Result<(), E> {
        let left = self.budget.get().checked_sub(1);
        self.budget.set(left.ok_or_else(|| E::custom(format!("more than {MAX_VALUES} values in one body")))?);
        Ok(())
    }

    fn deeper<E: de::Error>(&self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Node { budget: self.budget, depth })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        self.spend()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text)))
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Value<'de>, E> {
        Ok(Value::Bytes(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Bytes(Cow::Owned(bytes.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let node = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(node)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let node = self.deeper()?;
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(node)? {
            let value = entries.next_value_seed(node)?;
            if let Value::Text(name) = key {
                map.push((name, value));
            }
        }
        Ok(Value::Map(map))
    }

    /// Extension types of MessagePack, such as timestamps, are refused.
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, _: D) -> Result<Value<'de>, D::Error> {
        Err(de::Error::custom("extension types are not used here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn json_and_messagepack_give_the_same_tree() {
        let tree = json!({"images": {"data": ["YQ==", null]}, "threshold": 0.5, "limit_faces": -3, "msgpack": true});
        let expected = Value::Map(vec![
            ("images".into(), Value::Map(vec![("data".into(), Value::List(vec![text("YQ=="), Value::Null]))])),
            ("limit_faces".into(), Value::Int(-3)),
            ("msgpack".into(), Value::Bool(true)),
            ("threshold".into(), Value::Float(0.5)),
        ]);
        let written = tree.to_string();
        let packed = rmp_serde::to_vec_named(&tree).unwrap();
        assert_eq!(Value::parse(written.as_bytes(), Encoding::Json).unwrap(), expected);
        assert_eq!(Value::parse(&packed, Encoding::MessagePack).unwrap(), expected);
    }

    #[test]
    fn messagepack_binary_and_raw_strings_borrow_from_the_body() {
        // {"a": bin [255, 216], "b": str with bytes that are no UTF-8}
        let body = [0x82, 0xa1, b'a', 0xc4, 2, 0xff, 0xd8, 0xa1, b'b', 0xa2, 0xff, 0xd8];
        let Value::Map(entries) = Value::parse(&body, Encoding::MessagePack).unwrap() else { panic!() };
        for (_, value) in entries {
            assert!(matches!(value, Value::Bytes(Cow::Borrowed(&[0xff, 0xd8]))), "{value:?}");
        }
    }

    #[test]
    fn what_is_not_json_says_where() {
        let ApiError::Invalid(errors) = Value::parse(b"{\n \"a\": }", Encoding::Json).unwrap_err() else { panic!() };
        assert_eq!(errors[0].kind, "json_invalid");
        assert_eq!(errors[0].loc, [Loc::from("body"), Loc::Index(8)]);
        for bad in [&b""[..], b"{}{}", b"[1,", b"\xff", b"{\"a\":NaN}"] {
            assert!(Value::parse(bad, Encoding::Json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bad_messagepack_is_refused_without_allocating_what_it_claims() {
        for bad in [
            &b""[..],
            b"\xc1",
            b"\xdd\xff\xff\xff\xff",     // a list of four billion
            b"\xc6\xff\xff\xff\xff\x00", // four gigabytes of binary
            b"\xdf\xff\xff\xff\xff\x00",
            b"\x90\x90",                 // something follows
            b"\xd4\x01\x00",             // extension
            b"\xd6\xff\x00\x00\x00\x00", // timestamp
        ] {
            let error = Value::parse(bad, Encoding::MessagePack).unwrap_err();
            assert!(matches!(&error, ApiError::Invalid(e) if e[0].kind == "msgpack_invalid"), "{bad:?}: {error:?}");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let deep_json = "[".repeat(100_000);
        let deep_pack = vec![0x91; 100_000];
        assert!(Value::parse(deep_json.as_bytes(), Encoding::Json).is_err());
        assert!(Value::parse(&deep_pack, Encoding::MessagePack).is_err());
        let wide = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(Value::parse(wide.as_bytes(), Encoding::Json).is_err());
    }

    #[test]
    fn excerpts_never_carry_an_image() {
        let long = "A".repeat(100_000);
        let value = Value::Map(vec![("data".into(), Value::List(vec![text(&long)])), ("raw".into(), text(&long))]);
        assert!(value.excerpt().to_string().len() < 300);
        assert!(Value::List(vec![text(&long); 3]).excerpt().to_string().len() < 500);
    }
}
