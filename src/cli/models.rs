//! `ifr models`: lists, downloads, verifies, adds, removes and describes models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::download_progress::{DownloadProgress, megabytes};
use super::{CliResult, OK, SOME_FAILED, bench};
use crate::downloads::{self, FetchOptions};
use crate::engine::ndarray::ArrayD;
use crate::engine::{EngineError, Network};
use crate::models::hash::Hashes;
use crate::models::integrity::{difference, expected};
use crate::models::{Location, Manifest, ModelEntry, ModelError, ModelStore, classify, embedded, functions, role_of};
use crate::parse;

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr models list                                              known models with size and license
  ifr models pull --models-dir /models --accept-license buffalo_l
  ifr models verify --models-dir /models                       check all installed models
  ifr models add --models-dir /models my.onnx --name mine      install your own model
  ifr models info centerface                                   input, outputs and layers of a model";

#[derive(Args)]
pub(super) struct ModelsArgs {
    /// Directory with models as onnx/NAME/NAME.onnx, and optionally with models.json and models.override.json
    #[arg(long, env = "MODELS_DIR", value_name = "DIR", global = true)]
    models_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List models: installed, built in, and available for download
    List {
        /// Print one JSON object per line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Download models or packs of models to the models directory
    Pull {
        /// Names of models or packs, such as scrfd_10g_gnkps or buffalo_l; `ifr models list` shows all
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Accept licenses that forbid commercial use
        #[arg(long, env = "IFR_ACCEPT_LICENSE", action = clap::ArgAction::SetTrue,
              value_parser = parse::boolean)]
        accept_license: bool,
    },
    /// Verify the hashes of installed models and load them; exit code 1 if a model fails
    Verify {
        /// Names of models or packs [default: all installed models]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Copy your own model to the models directory
    Add {
        /// ONNX file of the model
        #[arg(value_name = "FILE.onnx")]
        file: PathBuf,
        /// Name of the model [default: the name of the file without .onnx]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Function of the model, which selects its preprocessing and postprocessing [default: detected from the shapes
        /// of its inputs and outputs]
        #[arg(long, value_name = "FUNCTION", value_parser = clap::builder::PossibleValuesParser::new(functions()))]
        function: Option<String>,
    },
    /// Remove installed models from the models directory
    Rm {
        /// Names of models
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Describe a model: file, function, license, input, outputs, layers, multiply-adds and kernels
    Info {
        /// Name of the model
        #[arg(value_name = "NAME")]
        name: String,
        /// Width and height of the input, for networks that accept any size
        #[arg(long, default_value = "640,640", value_name = "W,H", value_parser = parse::size)]
        max_size: (usize, usize),
    },
}

pub(super) fn run(args: &ModelsArgs) -> CliResult {
    let store = ModelStore::new(args.models_dir.clone());
    match &args.command {
        ModelsCommand::List { json } => list(&store, *json),
        ModelsCommand::Pull { names, accept_license } => pull(&store, names, *accept_license),
        ModelsCommand::Verify { names } => verify(&store, names),
        ModelsCommand::Add { file, name, function } => add(&store, file, name.as_deref(), function.as_deref()),
        ModelsCommand::Rm { names } => remove(&store, names),
        ModelsCommand::Info { name, max_size } => info(&store, name, *max_size),
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    state: &'static str,
    function: Option<&'a str>,
    size: Option<u64>,
    license: Option<&'a str>,
    source: Option<&'a str>,
    members: &'a [String],
}

/// Prints notes on entries of the manifests that are skipped.
fn print_notes(store: &ModelStore) -> Result<(), ModelError> {
    store.notes()?.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(())
}

fn list(store: &ModelStore, json: bool) -> CliResult {
    print_notes(store)?;
    let manifest = store.manifest()?;
    let nothing = ModelEntry::default();
    let mut all: BTreeMap<&str, &ModelEntry> = manifest.iter().collect();
    let installed = store.names();
    for name in &installed {
        all.entry(name).or_insert(&nothing);
    }
    if !json {
        print_line!("{:<26} {:<10} {:<22} {:>9}  license", "name", "state", "function", "size");
    }
    for (name, entry) in all {
        let location = store.locate(name)?;
        let size = match &location {
            Location::Installed(file) => std::fs::metadata(file).ok().map(|m| m.len()),
            Location::Embedded => embedded(name).map(|bytes| bytes.len() as u64),
            _ => entry.size,
        };
        let pack = !entry.members.is_empty();
        let state = match location {
            Location::Installed(_) => "installed",
            Location::Embedded => "embedded",
            Location::Available => "available",
            Location::Unavailable if pack => "pack",
            Location::Unavailable => "to add",
        };
        let (function, license) = (entry.function.as_deref(), entry.license.as_deref());
        let source = entry.source.as_deref();
        if json {
            let listed = Listed { name, state, function, size, license, source, members: &entry.members };
            print_line!("{}", serde_json::to_string(&listed)?);
        } else {
            let what = if pack { entry.members.join(" ") } else { function.unwrap_or("-").into() };
            let size = size.map_or("-".into(), megabytes);
            print_line!("{name:<26} {state:<10} {what:<22} {size:>9}  {}", license.unwrap_or("unknown"));
        }
    }
    Ok(OK)
}

fn pull(store: &ModelStore, names: &[String], accept_license: bool) -> CliResult {
    let on_event = Arc::new(DownloadProgress::default().listener());
    let options = FetchOptions { accept_license, on_event, ..FetchOptions::from_environment() };
    downloads::pull(store, names, &options)?;
    Ok(OK)
}

fn verify(store: &ModelStore, names: &[String]) -> CliResult {
    print_notes(store)?;
    let manifest = store.manifest()?;
    let all = store.names();
    let mut failed = false;
    for name in if names.is_empty() { &all } else { names } {
        for name in manifest.expand(name) {
            match verify_one(store, &manifest, &name) {
                Ok(state) => print_line!("{name}: {state}"),
                Err(error) => {
                    failed = true;
                    print_line!("{name}: {error}");
                }
            }
        }
    }
    Ok(if failed { SOME_FAILED } else { OK })
}

/// A model that fails the verification.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("UNREADABLE: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("DIFFERS: {whose} {what} is {expected}, the file's {found}")]
    Differs { whose: &'static str, what: &'static str, expected: String, found: String },
    #[error("BROKEN: {0}")]
    Broken(#[source] ModelError),
    #[error("not installed")]
    NotInstalled,
}

/// Verifies one model; returns its state.
fn verify_one(store: &ModelStore, manifest: &Manifest, name: &str) -> Result<String, VerifyError> {
    let entry = manifest.get(name).cloned().unwrap_or_default();
    match store.locate(name)? {
        Location::Installed(path) => {
            let hashes = std::fs::File::open(&path).and_then(Hashes::of)?;
            let known = entry.sha256.is_some() || entry.md5.is_some();
            let entry = expected(&entry, &path);
            let whose = if known { "the manifest's" } else { "the first download's" };
            if let Some((what, expected, found)) = difference(&hashes, &entry) {
                let whose = if what == "size" { "the manifest's" } else { whose };
                return Err(VerifyError::Differs { whose, what, expected, found });
            }
            store.network(name).map_err(VerifyError::Broken)?;
            let size = megabytes(hashes.size);
            Ok(match entry.sha256.is_some() || entry.md5.is_some() {
                true if known => format!("ok, {size}"),
                true => format!("ok, {size}, identical to the first download; its publisher gives no hash"),
                false => format!("a network, no hash known to compare with SHA-256 {}", hashes.sha256),
            })
        }
        Location::Embedded => Ok(store.network(name).map(|_| "embedded".into())?),
        Location::Available | Location::Unavailable => Err(VerifyError::NotInstalled),
    }
}

fn add(store: &ModelStore, file: &Path, name: Option<&str>, function: Option<&str>) -> CliResult {
    let own = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let path = store.add(file, name.unwrap_or(&own), function)?;
    let name = name.unwrap_or(&own);
    // The user or the manifest declares the function, or the shapes tell it.
    let what = match store.entry(name)?.function.as_deref().and_then(role_of) {
        Some(role) => role.describe().to_owned(),
        None => classify(|| Network::from_file(&path, name), (640, 640))?.to_string(),
    };
    eprintln!("installed as {} ({what})", path.display());
    Ok(OK)
}

fn remove(store: &ModelStore, names: &[String]) -> CliResult {
    for name in names {
        eprintln!("removed {}", store.remove(name)?.display());
    }
    Ok(OK)
}

fn info(store: &ModelStore, name: &str, max_size: (usize, usize)) -> CliResult {
    let entry = store.entry(name)?;
    let (network, origin) = store.network(name)?;
    print_line!("name      {name}");
    print_line!("file      {origin}");
    print_line!("function  {}", entry.function.as_deref().unwrap_or("not in the manifest; its shapes decide"));
    let open = || match store.network(name) {
        Ok((network, _)) => Ok(network),
        Err(ModelError::Load { source, .. }) => Err(source),
        Err(other) => {
            let source = std::io::Error::other(other).into();
            Err(EngineError::NotOnnx { name: name.into(), bytes: 0, source })
        }
    };
    match classify(open, max_size) {
        Ok(class) => print_line!("shapes    of a {class}"),
        Err(error) => print_line!("shapes    of no known function: {error}"),
    }
    print_line!("license   {}", entry.license.as_deref().unwrap_or("unknown"));
    if let Some(source) = &entry.source {
        print_line!("source    {source}");
    }
    let declared = |shape: &[Option<usize>]| {
        let sides: Vec<String> = shape.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
        if sides.is_empty() { "shape not declared".to_owned() } else { sides.join("x") }
    };
    print_line!("input     {} {}", network.input().name, declared(&network.input().shape));
    for output in network.outputs() {
        print_line!("output    {} {}", output.name, declared(&output.shape));
    }
    let shape = bench::shape(&network, 1, max_size);
    let plan = network.plan(&shape)?;
    let report = plan.explain(ArrayD::zeros(shape.as_slice()).view(), 1)?;
    let mut groups: BTreeMap<(&str, &str), (usize, f64)> = BTreeMap::new();
    for layer in &report.layers {
        let group = groups.entry((&layer.op, &layer.runs_on)).or_default();
        group.0 += 1;
        // A multiply-add is two operations.
        group.1 += layer.gflops * layer.milliseconds / 1e3 / 2.0;
    }
    let total: f64 = groups.values().map(|g| g.1).sum();
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    print_line!("prepared  for {}: {} steps, {total:.3} G multiply-adds", sides.join("x"), report.layers.len());
    print_line!("{:>8} {:<18} {:<10} {:>14}", "steps", "operation", "runs on", "G multiply-adds");
    for ((op, runs_on), (count, work)) in groups {
        let work = if work > 0.0 { format!("{work:.3}") } else { String::new() };
        print_line!("{count:>8} {op:<18} {runs_on:<10} {work:>14}");
    }
    Ok(OK)
}
