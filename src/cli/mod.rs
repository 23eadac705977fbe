//! The command line: one module per subcommand.

/// Prints a line on standard output. On errors it returns from the calling function: [`run`] ignores closed pipes.
macro_rules! print_line {
    ($($text:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*)))?
    };
}

mod bench;
mod client;
mod download_progress;
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

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::unset::{with_defaults_for_blank_flags, without_blank_variables};

/// Exit code: success.
const OK: u8 = 0;
/// Exit code: some inputs failed, the others were processed.
const SOME_FAILED: u8 = 1;
/// Exit code: nothing was done, because of wrong arguments or a model that cannot be loaded.
const USAGE: u8 = 2;

/// Face detection, alignment and embeddings on CPUs, compatible with InsightFace-REST.
#[derive(Parser)]
#[command(name = "ifr", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ifr extract photo.jpg             print boxes and embeddings as JSON, one object per line
  ifr draw photo.jpg -o faces.png   draw boxes, landmarks and scores on the picture
  ifr serve                         serve the REST API on port 18080, with documentation at /docs
  ifr models list                   list models
  ifr bench                         measure the speed of the default models on this machine

`ifr COMMAND --help` describes the options of a command.

Exit codes: 0 success, 1 some inputs failed, 2 nothing was done.";

#[derive(Subcommand)]
enum Command {
    /// Find faces in pictures and print their boxes, landmarks and embeddings
    #[command(after_help = extract::EXAMPLES)]
    Extract(extract::ExtractArgs),
    /// Draw the detected faces on a picture
    #[command(after_help = draw::EXAMPLES)]
    Draw(draw::DrawArgs),
    /// Serve the REST API over HTTP; each option is also an environment variable
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<serve::ServeArgs>),
    /// List, download, verify, add, remove and describe models
    #[command(after_help = models::EXAMPLES)]
    Models(models::ModelsArgs),
    /// Measure the speed of networks on this machine
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Measure the throughput and latency of a service for several numbers of clients
    #[command(after_help = load::EXAMPLES)]
    Load(load::LoadArgs),
    /// Check a running service: exit code 0 if it is ready, else 1
    #[command(after_help = health::EXAMPLES)]
    Health(health::HealthArgs),
}

/// The definition of the command line, with all subcommands and options.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments of the process, runs the subcommand and prints its error.
pub fn run() -> ExitCode {
    crate::memory::configure_malloc();
    let (command, arguments) = command_line(std::env::args_os().collect());
    let cli = Cli::from_arg_matches(&command.get_matches_from(arguments)).unwrap_or_else(|error| error.exit());
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
        // The reader of the output, such as `head`, has closed it.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            OK.into()
        }
        Err(error) => {
            eprintln!("ifr: {error}");
            USAGE.into()
        }
    }
}

/// The definition of the command line and the arguments, without blank variables and without blank flags of `serve`.
fn command_line(mut arguments: Vec<OsString>) -> (clap::Command, Vec<OsString>) {
    let command = command();
    if let Some(serve) = command.find_subcommand("serve")
        && arguments.get(1).is_some_and(|name| name == "serve")
    {
        arguments = with_defaults_for_blank_flags(serve, arguments);
    }
    (without_blank_variables(command, &|name| std::env::var_os(name), &HashMap::new()), arguments)
}

/// The result of a subcommand: its exit code, or the error because of which nothing was done.
type CliResult = Result<u8, Box<dyn std::error::Error>>;
