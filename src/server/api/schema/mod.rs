//! The types of bodies and answers, with their OpenAPI descriptions, and the reader of bodies.
//!
//! Bodies are read by `value` and `reader` and not by serde, because errors have the format of Pydantic: all wrong
//! fields at once, each with its place, kind and value.

pub mod reader;
pub mod request;
pub mod response;
pub mod value;
