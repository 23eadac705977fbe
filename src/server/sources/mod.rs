//! Where pictures come from: requests, URLs and files, and which of them are allowed.

pub mod address_policy;
pub mod error;
pub mod file_root;
pub mod http;
pub mod images;
