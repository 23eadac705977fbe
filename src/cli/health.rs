//! `ifr health`: whether a service answers, as an exit code.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, StatusCode, Url};

use super::client::{cause, client, parse_url};
use super::{CliResult, OK, SOME_FAILED};
use crate::parse;

/// Asked when no path is named: whether the service takes requests; a service without that address is asked for its self check.
const PATHS: [&str; 2] = ["health/ready", "health"];

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Service to ask, with a path to ask just that; on this machine, with the port of `ifr serve`, when not given
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,

    /// Port of a service on this machine
    #[arg(long, env = "PORT", default_value = "18080", hide = true, value_parser = parse::port)]
    port: u16,

    /// Longest time to wait for the answer
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse::duration)]
    timeout: Duration,
}

/// Exits with 0 when the service is well and 1 when it is not or cannot be reached: what container runtimes want.
pub(super) fn run(args: &HealthArgs) -> CliResult {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => parse_url(&format!("http://127.0.0.1:{}", args.port))?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(check(&client(args.timeout)?, &url)) {
        Ok(asked) => {
            line!("{asked} is well");
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
    let mut refused = String::new();
    for (i, url) in asked.iter().enumerate() {
        let answer = client.get(url.clone()).send().await.map_err(|e| format!("{url}: {}", cause(&e)))?;
        match answer.status() {
            status if status.is_success() => return Ok(url.clone()),
            StatusCode::NOT_FOUND if i + 1 < asked.len() => {}
            status => {
                let said = answer.text().await.unwrap_or_default();
                refused = format!("{url}: {status} {}", said.chars().take(200).collect::<String>());
                break;
            }
        }
    }
    Err(refused.trim_end().to_owned())
}
