//! The command line: one module for each subcommand.

/// A line on standard output; where nobody reads it, an error for [`run`] to judge.
macro_rules! line {
    ($($text:tt)*) => { std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*)))? };
}

mod bench;
mod client;
mod draw;
mod env_file;
mod extract;
mod health;
mod inputs;
mod load;
mod models;
mod networks;
mod ordered;
mod serve;

use std::io;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Everything went well.
const OK: u8 = 0;
/// Some inputs failed; the others were processed.
const SOME_FAILED: u8 = 1;
/// Nothing could be done: wrong arguments, or a model that cannot be loaded.
const USAGE: u8 = 2;

/// Faces on CPUs: detection, alignment and embeddings, compatible with InsightFace-REST.
#[derive(Parser)]
#[command(name = "ifr", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ifr extract photo.jpg                 one JSON object a line, with boxes and embeddings
  ifr extract --jobs 4 ~/Pictures       a whole directory
  ifr extract ~/Pictures -o faces.parquet --resume
                                        a large archive into a table; goes on where it was interrupted
  ifr draw photo.jpg -o faces.png       boxes, points and scores drawn on the picture
  ifr serve                             the REST API on port 18080, documentation at /docs
  ifr models pull buffalo_l             fetch InsightFace's models
  ifr bench                             how fast the default models run here";

#[derive(Subcommand)]
enum Command {
    /// Find the faces of pictures and print their boxes, landmarks and embeddings
    Extract(extract::ExtractArgs),
    /// Draw the faces of a picture onto it
    Draw(draw::DrawArgs),
    /// Serve the REST API over HTTP
    Serve(Box<serve::ServeArgs>),
    /// List, fetch, check and describe models
    Models(models::ModelsArgs),
    /// Measure how long the networks take on this machine
    Bench(bench::BenchArgs),
    /// Measure how much a service takes: throughput and latencies for several numbers of clients
    Load(load::LoadArgs),
    /// Ask a service whether it is well; the exit code tells
    Health(health::HealthArgs),
}

/// Parses the process's arguments and runs the subcommand; prints what went wrong.
pub fn run() -> ExitCode {
    crate::allocator::keep_little();
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Extract(args) => extract::run(&args),
        Command::Draw(args) => draw::run(&args),
        Command::Serve(args) => serve::run(*args),
        Command::Models(args) => models::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Health(args) => health::run(&args),
    };
    match result {
        Ok(code) => code.into(),
        // The reader (head, say) has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            OK.into()
        }
        Err(error) => {
            eprintln!("ifr: {error}");
            USAGE.into()
        }
    }
}

/// The command line, to which an empty environment variable is one that is not set.
///
/// The settings of `serve` see to that themselves.
fn command() -> clap::Command {
    without_empty_variables(Cli::command())
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let inner = names.into_iter().filter(|name| name != "serve");
    let command = inner.fold(command, |command, name| command.mut_subcommand(name, without_empty_variables));
    command.mut_args(|argument| {
        // An empty REC_NAME asks for no recogniser, here as in the original's settings.
        let counts =
            |name: &std::ffi::OsStr| name == "REC_NAME" || std::env::var_os(name).is_none_or(|v| !v.is_empty());
        match argument.get_env().is_none_or(counts) {
            true => argument,
            false => argument.env(Resettable::Reset),
        }
    })
}

/// What a subcommand returns: its exit code, or why nothing could be done.
type CliResult = Result<u8, Box<dyn std::error::Error>>;
