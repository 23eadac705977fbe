//! Access control.

use super::values::{List, Secret, Setting, secret};
use crate::parse;

/// Access control.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// Key that clients must send as "Authorization: Bearer KEY" or "x-api-key: KEY" [default: no key is required]
    #[arg(long, env = "API_KEY", default_value = "", hide_default_value = true, hide_env_values = true,
          value_parser = secret)]
    pub api_key: Setting<Secret>,
    /// Allowed origins of browser requests (CORS), separated by commas; * allows all origins, None allows no other
    /// origin
    #[arg(long, env = "CORS_ORIGINS", default_value = "*", value_parser = parse::value::<List<String>>)]
    pub cors_origins: List<String>,
}
