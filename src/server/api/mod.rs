//! Endpoints: what requests ask and what answers look like.

pub mod answer;
pub mod handlers;
pub mod openapi;
pub mod schema;
