//! `ifr load`: measures the throughput and latency of a service.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use clap::Args;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{client, parse_url};
use super::{CliResult, OK, SOME_FAILED};
use crate::error_chain::root_cause;
use crate::parse;

/// Pause of a client after a refusal or a failure, so that those do not become the load.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr load http://localhost:18080
  ifr load http://localhost:18080 --image typical.jpg --concurrency 4,16 --duration 60s
  ifr load http://old-host:18081 --image typical.jpg    the same load for InsightFace-REST

Exit codes: 0 success, 1 a request failed, 2 wrong usage. Refused requests (429 and 503) are not failures.";

#[derive(Args)]
pub(super) struct LoadArgs {
    /// Address of the service, ifr or InsightFace-REST, such as http://localhost:18080
    #[arg(value_name = "URL", value_parser = parse_url)]
    url: Url,

    /// Numbers of concurrent clients; each number gives one row. A client sends its next request after the answer to
    /// the previous one
    #[arg(short, long, default_value = "1,2,8,32", value_delimiter = ',', value_name = "N,...",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: Vec<u16>,

    /// Duration of each row
    #[arg(short, long, default_value = "20s", value_name = "TIME", value_parser = parse::duration)]
    duration: Duration,

    /// Picture to send [default: a built-in picture with one face]. With several --image, the pictures are sent in turn
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,

    /// Number of pictures in a request
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    images_per_request: u16,

    /// Do not request embeddings, only boxes
    #[arg(long)]
    no_embedding: bool,

    /// API key of the service
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,

    /// Maximum time to wait for an answer
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse::duration)]
    timeout: Duration,

    /// Print one JSON object per row instead of a table
    #[arg(long)]
    json: bool,
}

/// The result of a number of clients. Times are in milliseconds, of answered requests only.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    concurrency: u16,
    seconds: f64,
    requests_per_second: f64,
    images_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Requests answered with 200.
    answered: usize,
    /// Requests refused because of load: 429 and 503.
    refused: usize,
    /// Requests with another status, without an answer, or with an answer after the timeout.
    failed: usize,
}

/// The requests that clients send.
struct Target {
    client: Client,
    url: Url,
    bodies: Vec<Bytes>,
    api_key: Option<String>,
}

/// The outcome of a request.
enum Outcome {
    Answered(Bytes),
    Refused,
    Failed(RequestError),
}

/// A request without a useful answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("{status} {text}")]
    Status { status: StatusCode, text: String },
    #[error("{}", root_cause(.0))]
    Connection(#[from] reqwest::Error),
    #[error(transparent)]
    Client(#[from] tokio::task::JoinError),
}

/// The first answer shows that a measurement is useless.
#[derive(Debug, thiserror::Error)]
enum FirstAnswerError {
    #[error("refused: the service is already overloaded")]
    Overloaded,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the answer is not JSON")]
    NotJson(#[from] serde_json::Error),
    #[error("the answer has no pictures in it")]
    NoPictures,
    #[error("a picture failed: {0}")]
    Picture(String),
}

/// A picture to send cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}", path = .path.display())]
struct PictureFileError {
    path: PathBuf,
    source: std::io::Error,
}

pub(super) fn run(args: &LoadArgs) -> CliResult {
    let target = Arc::new(Target {
        client: client(args.timeout)?,
        url: extract_url(&args.url),
        bodies: bodies(args)?,
        api_key: args.api_key.clone().filter(|key| !key.is_empty()),
    });
    // One thread: it must leave the cores to a service on the same machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let first = match runtime.block_on(target.first()) {
        Ok(first) => first,
        Err(error) => {
            eprintln!("ifr: {}: {error}", target.url);
            return Ok(SOME_FAILED);
        }
    };
    if !args.json {
        let (ms, faces) = first;
        print_line!("{}: first answer after {ms:.1} ms, {faces} faces in it", target.url);
        print_line!(
            "{:>11} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7}",
            "concurrency",
            "requests/s",
            "images/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "max ms",
            "answered",
            "refused",
            "failed"
        );
    }
    let mut failed = 0;
    for &concurrency in &args.concurrency {
        let (row, error) = runtime.block_on(measure(&target, concurrency, args));
        failed += row.failed;
        if args.json {
            print_line!("{}", serde_json::to_string(&row)?);
        } else {
            print_line!(
                "{:>11} {:>10.1} {:>10.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9} {:>8} {:>7}",
                row.concurrency,
                row.requests_per_second,
                row.images_per_second,
                row.p50_ms,
                row.p95_ms,
                row.p99_ms,
                row.max_ms,
                row.answered,
                row.refused,
                row.failed
            );
        }
        if let Some(error) = error {
            eprintln!(
                "ifr: {} of {} requests failed; the last error: {error}",
                row.failed,
                row.answered + row.refused + row.failed
            );
        }
    }
    Ok(if failed > 0 { SOME_FAILED } else { OK })
}

/// Runs `concurrency` clients for the duration of a row. Also returns the error of the last failed request.
async fn measure(target: &Arc<Target>, concurrency: u16, args: &LoadArgs) -> (Row, Option<RequestError>) {
    let started = Instant::now();
    let stop = started + args.duration;
    let clients: Vec<_> =
        (0..concurrency).map(|i| tokio::spawn(run_client(target.clone(), usize::from(i), stop))).collect();
    let mut tally = Tally::default();
    for client in clients {
        match client.await {
            Ok(part) => tally.add(part),
            Err(error) => tally.fail(error.into()),
        }
    }
    let error = tally.last_error.take();
    (tally.row(concurrency, started.elapsed(), args.images_per_request), error)
}

/// One client: sends requests until `stop`, then waits for its last answer.
async fn run_client(target: Arc<Target>, mut turn: usize, stop: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < stop {
        let sent = Instant::now();
        let outcome = target.send(turn).await;
        turn += 1;
        match outcome {
            Outcome::Answered(_) => tally.times.push(sent.elapsed()),
            Outcome::Refused => {
                tally.refused += 1;
                tokio::time::sleep(REFUSAL_PAUSE).await;
            }
            Outcome::Failed(error) => {
                tally.fail(error);
                tokio::time::sleep(REFUSAL_PAUSE).await;
            }
        }
    }
    tally
}

impl Target {
    /// Sends one request; returns milliseconds and the number of faces. Errs unless the answer has results for its
    /// pictures.
    async fn first(&self) -> Result<(f64, usize), FirstAnswerError> {
        let sent = Instant::now();
        let answer = match self.send(0).await {
            Outcome::Answered(answer) => answer,
            Outcome::Refused => return Err(FirstAnswerError::Overloaded),
            Outcome::Failed(error) => return Err(error.into()),
        };
        let ms = sent.elapsed().as_secs_f64() * 1e3;
        let answer: Value = serde_json::from_slice(&answer)?;
        let pictures = answer["data"].as_array().filter(|d| !d.is_empty()).ok_or(FirstAnswerError::NoPictures)?;
        if let Some(bad) = pictures.iter().find(|p| p["status"] != "ok") {
            let reason = bad["traceback"].as_str().unwrap_or("no reason given");
            return Err(FirstAnswerError::Picture(reason.into()));
        }
        Ok((ms, pictures.iter().filter_map(|p| p["faces"].as_array()).map(Vec::len).sum()))
    }

    async fn send(&self, turn: usize) -> Outcome {
        let body = self.bodies[turn % self.bodies.len()].clone();
        let mut request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        };
        match answer.await {
            Ok((StatusCode::OK, body)) => Outcome::Answered(body),
            Ok((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _)) => Outcome::Refused,
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body).chars().take(200).collect();
                Outcome::Failed(RequestError::Status { status, text })
            }
            Err(error) => Outcome::Failed(error.into()),
        }
    }
}

/// The counts of clients.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    refused: usize,
    failed: usize,
    last_error: Option<RequestError>,
}

impl Tally {
    fn fail(&mut self, error: RequestError) {
        self.failed += 1;
        self.last_error = Some(error);
    }

    fn add(&mut self, other: Tally) {
        self.times.extend(other.times);
        self.refused += other.refused;
        self.failed += other.failed;
        self.last_error = other.last_error.or(self.last_error.take());
    }

    fn row(mut self, concurrency: u16, elapsed: Duration, images: u16) -> Row {
        self.times.sort_unstable();
        let seconds = elapsed.as_secs_f64();
        let rate = self.times.len() as f64 / seconds.max(1e-9);
        Row {
            concurrency,
            seconds,
            requests_per_second: rate,
            images_per_second: rate * f64::from(images),
            p50_ms: percentile(&self.times, 50.0),
            p95_ms: percentile(&self.times, 95.0),
            p99_ms: percentile(&self.times, 99.0),
            max_ms: percentile(&self.times, 100.0),
            answered: self.times.len(),
            refused: self.refused,
            failed: self.failed,
        }
    }
}

/// The percentile of sorted times by nearest rank, in milliseconds; 0 for an empty slice.
fn percentile(sorted: &[Duration], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// The address of `/extract` below `base`, unless `base` is that address.
fn extract_url(base: &Url) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    if !path.ends_with("/extract") {
        url.set_path(&format!("{path}/extract"));
    }
    url
}

/// The request bodies, which are sent in turn: in the form that clients of the original send.
fn bodies(args: &LoadArgs) -> Result<Vec<Bytes>, PictureFileError> {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut pictures = vec![];
    for file in &args.images {
        let bytes = std::fs::read(file).map_err(|source| PictureFileError { path: file.clone(), source })?;
        pictures.push(encode(&bytes));
    }
    if pictures.is_empty() {
        pictures.push(encode(crate::models::health_picture()));
    }
    let body = |first: usize| {
        let data: Vec<&String> = pictures.iter().cycle().skip(first).take(args.images_per_request.into()).collect();
        let body = json!({
            "images": {"data": data},
            "extract_embedding": !args.no_embedding,
            "return_face_data": false,
            "return_landmarks": false,
        });
        Bytes::from(body.to_string())
    };
    Ok((0..pictures.len()).map(body).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!([50.0, 95.0, 99.0, 100.0].map(|p| percentile(&times, p)), [100.0, 190.0, 198.0, 200.0]);
        assert_eq!(percentile(&times[..1], 99.0), 1.0);
        assert_eq!(percentile(&[], 99.0), 0.0);
    }

    #[test]
    fn the_service_may_have_a_path_prefix() {
        for (given, wanted) in [
            ("http://h:1", "http://h:1/extract"),
            ("http://h:1/", "http://h:1/extract"),
            ("http://h:1/faces/", "http://h:1/faces/extract"),
            ("http://h:1/extract", "http://h:1/extract"),
        ] {
            assert_eq!(extract_url(&parse_url(given).unwrap()).as_str(), wanted);
        }
    }

    #[test]
    fn rates_count_answered_requests_only() {
        let mut tally = Tally { times: vec![Duration::from_millis(30); 3], refused: 2, ..Tally::default() };
        tally.add(Tally { times: vec![Duration::from_millis(10)], failed: 1, ..Tally::default() });
        let row = tally.row(8, Duration::from_secs(2), 5);
        assert_eq!((row.requests_per_second, row.images_per_second), (2.0, 10.0));
        assert_eq!((row.answered, row.refused, row.failed, row.p50_ms, row.max_ms), (4, 2, 1, 30.0, 30.0));
    }
}
