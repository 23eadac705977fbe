//! Support code of the tests: the program, a service in the test's process, HTTP hosts, pictures and reference data.

mod http_host;
mod json;
mod metrics;
mod pictures;
mod program;
mod service;

pub use ifr_testing::onnx::relu_network;
pub use ifr_testing::{reference_data, reference_file, skipped};

pub use http_host::{HttpHost, Request, read_head, respond};
pub use json::{keys, keys_in_order};
pub use metrics::{Measured, metric, until};
pub use pictures::{PICTURE, base64, data, empty_scene, encode, portrait, portrait64, portraits, three_faces};
pub use program::{Program, command, ifr, stderr};
pub use service::{FakeNames, Service, client, service, with_internet};
