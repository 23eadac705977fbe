//! What clients send and what they get: the types, their OpenAPI description, and how bodies become them.

pub mod reader;
pub mod request;
pub mod response;
pub mod value;
