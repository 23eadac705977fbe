//! The HTTP pipeline: request ids, keys, limits, routing and error answers.

pub mod auth;
pub mod body;
pub mod body_budget;
pub mod context;
pub mod cors;
pub mod error;
pub mod handler;
pub mod negotiate;
pub mod pipeline;
pub mod responses;
pub mod router;
pub mod routes;
