//! `ifr health`: checks a running service.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, StatusCode, Url};

use super::client::{client, parse_url};
use super::{CliResult, OK, SOME_FAILED};
use crate::error_chain::root_cause;
use crate::parse;

/// Paths that are asked in turn if the URL has none: readiness, and the self check for services without the former.
const PATHS: [&str; 2] = ["health/ready", "health"];

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Address of the service, with a path to check only that; the default is the port of `ifr serve` on this machine
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,

    /// Port of a service on this machine
    #[arg(long, env = "PORT", default_value = "18080", hide = true, value_parser = parse::port)]
    port: u16,

    /// Maximum time to wait for the answer
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
            line!("{asked} is ready");
            Ok(OK)
        }
        Err(reason) => {
            eprintln!("ifr: {reason}");
            Ok(SOME_FAILED)
        }
    }
}

async fn check(client: &Client, url: &Url) -> Result<Url, String> {
    let asked: Vec<Url> = match url.path() {
        "/" => PATHS.iter().filter_map(|path| url.join(path).ok()).collect(),
        _ => vec![url.clone()],
    };
    let mut refusal = String::new();
    for (i, url) in asked.iter().enumerate() {
        let answer = client.get(url.clone()).send().await.map_err(|e| format!("{url}: {}", root_cause(&e)))?;
        match answer.status() {
            status if status.is_success() => return Ok(url.clone()),
            StatusCode::NOT_FOUND if i + 1 < asked.len() => {}
            status => {
                let body = answer.text().await.unwrap_or_default();
                refusal = format!("{url}: {status} {}", body.chars().take(200).collect::<String>());
                break;
            }
        }
    }
    Err(refusal.trim_end().to_owned())
}
