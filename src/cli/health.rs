//! `ifr health`: checks if a running service is ready.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, StatusCode, Url};

use super::client::{client, parse_url};
use super::{CliResult, OK, SOME_FAILED};
use crate::error_chain::root_cause;
use crate::parse;

/// Paths to try in turn if the URL has no path: readiness, then the self check, because InsightFace-REST has only that.
const PATHS: [&str; 2] = ["/health/ready", "/health"];

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr health                                      the service on this machine, at port 18080 or PORT
  ifr health --url http://faces.example:18080
  ifr health --url http://localhost:18080/health  the self check, which runs the networks";

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Address of the service [default: port PORT of this machine, or 18080]. A path in the address, such as /health,
    /// replaces the paths that are tried by default
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,

    /// Port of a service on this machine
    #[arg(long, env = "PORT", default_value = "18080", hide = true, value_parser = parse::port)]
    port: u16,

    /// Maximum time to wait for the answer, such as 500ms or 5s
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse::duration)]
    timeout: Duration,
}

/// Exits with 0 if the service is ready, and with 1 if it is not or cannot be reached, as container runtimes expect.
pub(super) fn run(args: &HealthArgs) -> CliResult {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => parse_url(&format!("http://127.0.0.1:{}", args.port))?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(check(&client(args.timeout)?, &url)) {
        Ok(asked) => {
            print_line!("{asked} is ready");
            Ok(OK)
        }
        Err(error) => {
            eprintln!("ifr: {error}");
            Ok(SOME_FAILED)
        }
    }
}

/// The service is not ready.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    /// There is no answer.
    #[error("{url}: {}", root_cause(.source))]
    Unreachable { url: Url, source: reqwest::Error },
    /// The status of the answer is not a success.
    #[error("{}", format!("{url}: {status} {body}").trim_end())]
    Refused { url: Url, status: StatusCode, body: String },
}

fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url.set_query(None);
    url
}

/// Sends requests to the service. Returns the address that answered with success.
async fn check(client: &Client, url: &Url) -> Result<Url, CheckError> {
    let mut paths: Vec<Url> = match url.path() {
        "/" => PATHS.iter().map(|path| with_path(url, path)).collect(),
        _ => vec![url.clone()],
    };
    loop {
        let url = paths.remove(0);
        let answer = client.get(url.clone()).send().await;
        let answer = answer.map_err(|source| CheckError::Unreachable { url: url.clone(), source })?;
        match answer.status() {
            status if status.is_success() => return Ok(url),
            StatusCode::NOT_FOUND if !paths.is_empty() => {}
            status => {
                let body = answer.text().await.unwrap_or_default().chars().take(200).collect();
                return Err(CheckError::Refused { url, status, body });
            }
        }
    }
}
