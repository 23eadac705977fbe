//! `ifr serve`: the REST service.

use clap::Args;

use super::{CliResult, OK};
use crate::config::Settings;
use crate::server;

/// Start the REST service. Every flag is also an environment variable.
#[derive(Args)]
pub(super) struct ServeArgs {
    /// Everything that can be set
    #[command(flatten)]
    settings: Settings,
}

/// Serves until SIGTERM or SIGINT, then lets requests in flight finish. Errs when the service cannot start: a model is
/// missing, the port is taken, a directory does not exist.
pub(super) fn run(args: ServeArgs) -> CliResult {
    server::logging::init(&args.settings);
    server::serve(args.settings)?;
    Ok(OK)
}
