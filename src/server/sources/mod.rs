//! Sources of pictures: request bodies, URLs and files, and the rules for allowed addresses and paths.

pub mod address_policy;
pub mod error;
pub mod file_root;
pub mod http;
pub mod images;
