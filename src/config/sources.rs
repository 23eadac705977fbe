//! Sources of images other than request bodies: URLs and paths.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{CidrList, Setting, optional};
use crate::parse;

/// How images are read from URLs and paths.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Image sources")]
pub struct SourceSettings {
    /// Directory whose files requests may name by path [default: paths are refused]
    #[arg(long, env = "ROOT_IMAGES_DIR", default_value = "", hide_default_value = true,
          value_parser = optional::<PathBuf>)]
    pub root_images_dir: Setting<PathBuf>,
    /// Networks without public addresses to which image URLs may lead, separated by commas, such as
    /// 10.0.0.0/8,192.168.1.5 [default: only public addresses are allowed]
    #[arg(long, env = "ALLOW_NETS", default_value = "", hide_default_value = true,
          value_parser = parse::value::<CidrList>)]
    pub allow_nets: CidrList,
    /// Maximum bytes of an image from a URL or path, with the suffix K, M or G
    #[arg(long, env = "MAX_IMAGE_SIZE", default_value = "10M", value_parser = parse::bytes)]
    pub max_image_size: u64,
    /// Maximum seconds to connect to the host of an image
    #[arg(long, env = "FETCH_CONNECT_TIMEOUT", default_value = "5", value_parser = parse::duration)]
    pub fetch_connect_timeout: Duration,
    /// Maximum seconds to fetch an image, including redirects and retries
    #[arg(long, env = "FETCH_TIMEOUT", default_value = "10", value_parser = parse::duration)]
    pub fetch_timeout: Duration,
    /// Maximum number of attempts per image URL; timeouts and 5xx are retried, 4xx are not
    #[arg(long, env = "FETCH_ATTEMPTS", default_value = "5", value_parser = parse::at_least_one::<usize>)]
    pub fetch_attempts: usize,
    /// Maximum number of image URLs fetched at once over all requests
    #[arg(long, env = "FETCH_CONCURRENCY", default_value = "64", value_parser = parse::at_least_one::<usize>)]
    pub fetch_concurrency: usize,
    /// PEM file with certificate authorities for image hosts, in addition to those of Mozilla
    #[arg(long, env = "IMAGE_CA_FILE", default_value = "", hide_default_value = true,
          value_parser = optional::<PathBuf>)]
    pub image_ca_file: Setting<PathBuf>,
}
