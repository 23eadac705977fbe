//! Limits on requests and connections.

use std::time::Duration;

use crate::parse;

/// Limits on requests and connections.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Maximum number of queued images over all requests; requests beyond it are answered 429
    #[arg(long, env = "QUEUE_SIZE", default_value = "512", value_parser = parse::at_least_one::<usize>)]
    pub queue_size: usize,
    /// Maximum bytes of a request body, with the suffix K, M or G; larger bodies are answered 413
    #[arg(long, env = "MAX_BODY_SIZE", default_value = "64M", value_parser = parse::bytes)]
    pub max_body_size: u64,
    /// Maximum bytes of all request bodies in memory, with the suffix K, M or G; requests beyond it are answered 503
    #[arg(long, env = "MAX_BODIES_IN_MEMORY", default_value = "1G", value_parser = parse::bytes)]
    pub max_bodies_in_memory: u64,
    /// Maximum number of images in a request; requests with more are answered 422
    #[arg(long, env = "MAX_IMAGES", default_value = "256", value_parser = parse::at_least_one::<usize>)]
    pub max_images: usize,
    /// Maximum size of an image in millions of pixels; a larger image fails, the others of its request do not
    #[arg(long, env = "MAX_MEGAPIXELS", default_value = "50", value_parser = parse::at_least_one::<u64>)]
    pub max_megapixels: u64,
    /// Maximum seconds for a request; after it the answer is 504, or 503 if the request was still queued
    #[arg(long, env = "REQUEST_TIMEOUT", default_value = "60", value_parser = parse::duration)]
    pub request_timeout: Duration,
    /// Maximum seconds for the request line and headers
    #[arg(long, env = "HEADER_TIMEOUT", default_value = "10", value_parser = parse::duration)]
    pub header_timeout: Duration,
    /// Maximum seconds that an idle connection stays open
    #[arg(long, env = "KEEP_ALIVE_TIMEOUT", default_value = "60", value_parser = parse::duration)]
    pub keep_alive_timeout: Duration,
    /// Maximum number of connections; further ones are answered 503 and closed
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "2048", value_parser = parse::at_least_one::<usize>)]
    pub max_connections: usize,
    /// Maximum seconds for requests in flight to finish after SIGTERM
    #[arg(long, env = "SHUTDOWN_TIMEOUT", default_value = "20", value_parser = parse::duration)]
    pub shutdown_timeout: Duration,
}
