//! Getting models that are not there: over HTTP, from Google Drive, out of zip archives.
//!
//! ```text
//! links in order ─ download (resumed, retried) ─ member of an archive ─ hashes ─ is it a network? ─ rename into place
//! ```
//!
//! Everything happens beside the model's place, under a lock that other processes respect; only a file that has passed all checks is
//! renamed into it. So a model is the old one or the new one, never half of one.

mod archive;
mod client;
mod download;
mod error;
mod google;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use error::FetchError;

use self::archive::Archives;
use self::client::HttpClient;
use self::download::Download;
use crate::engine::Network;
use crate::files::install_file;
use crate::models::hash::Hashes;
use crate::models::integrity::{difference, expected, pin, watch};
use crate::models::{Location, MOST_BYTES, Manifest, ModelEntry, ModelError, ModelStore, is_name};
use crate::parse::boolean_word;

/// What happens while models are fetched.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The licence of a model about to be fetched.
    License { name: String, license: String },
    /// Bytes begin to come: `have` of `total` are there from an earlier attempt.
    Started { name: String, url: String, have: u64, total: Option<u64> },
    /// So many bytes are there.
    Progress { name: String, have: u64 },
    /// An attempt failed, and another follows.
    Retry { name: String, reason: String },
    /// The model is in its place.
    Installed { name: String, path: PathBuf },
    /// It was there already, as the manifest describes it.
    Present { name: String },
}

/// How to fetch.
#[derive(Clone)]
pub struct FetchOptions {
    /// Never touch the network.
    pub offline: bool,
    /// Licences that forbid commercial use have been read and accepted.
    pub accept_license: bool,
    /// How long a connection may be silent.
    pub silence: Duration,
    /// Attempts in a row that brought nothing before a link is given up.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each further one.
    pub pause: Duration,
    /// Where files of Google Drive are asked for.
    pub google: String,
    /// Called as things happen.
    pub on_event: Arc<dyn Fn(&Event) + Send + Sync>,
    /// Called with what is odd about models that are there; perhaps later, on another thread.
    pub on_warning: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        FetchOptions {
            offline: false,
            accept_license: false,
            silence: Duration::from_secs(30),
            attempts: 4,
            pause: Duration::from_millis(500),
            google: "https://docs.google.com/uc".into(),
            on_event: Arc::new(log),
            on_warning: Arc::new(|warning| tracing::warn!("{warning}")),
        }
    }
}

impl FetchOptions {
    /// The options of the variables IFR_OFFLINE and IFR_ACCEPT_LICENSE. Proxies are read from the environment when a connection is made.
    pub fn from_environment() -> FetchOptions {
        let is_set = |name: &str| std::env::var(name).is_ok_and(|text| boolean_word(text.trim()) == Some(true));
        FetchOptions {
            offline: is_set("IFR_OFFLINE"),
            accept_license: is_set("IFR_ACCEPT_LICENSE"),
            ..FetchOptions::default()
        }
    }

    fn tell(&self, event: Event) {
        (self.on_event)(&event);
    }
}

/// Events as log lines, for programs without a terminal.
fn log(event: &Event) {
    match event {
        Event::License { name, license } => tracing::warn!(model = name, license, "this model's licence has limits"),
        Event::Started { name, url, have, total } => tracing::info!(model = name, url, have, total, "fetching a model"),
        Event::Retry { name, reason } => tracing::warn!(model = name, reason, "fetching a model: another attempt"),
        Event::Installed { name, path } => tracing::info!(model = name, path = %path.display(), "a model is installed"),
        Event::Progress { .. } | Event::Present { .. } => {}
    }
}

/// Makes sure that models are there, and fetches those that are neither installed nor embedded. Those that are there and are not the
/// files they should be are warned of.
///
/// For programs that were told to use a model, as the original does: licences are shown, not asked about. Errs with
/// [`ModelError::Unknown`] for models that nobody knows where to get.
pub fn ensure(store: &ModelStore, names: &[&str], options: &FetchOptions) -> Result<(), FetchError> {
    watch(store, names, &options.on_warning);
    let mut missing = vec![];
    for name in names {
        match store.locate(name)? {
            Location::Installed(_) | Location::Embedded => {}
            Location::Unavailable => return Err(store.unknown(name, false).into()),
            Location::Available if options.offline => {
                return Err(FetchError::Offline { name: (*name).into() });
            }
            Location::Available if store.dir().is_none() => return Err(store.unknown(name, true).into()),
            Location::Available => missing.push((*name).to_owned()),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    pull(store, &missing, &FetchOptions { accept_license: true, ..options.clone() })
}

/// Fetches models and packs. Models that are there with the hashes the manifest has stay.
pub fn pull(store: &ModelStore, names: &[String], options: &FetchOptions) -> Result<(), FetchError> {
    let (manifest, built_in) = (store.manifest()?, Manifest::load(None)?);
    let mut wanted: Vec<String> = vec![];
    for name in names.iter().flat_map(|name| manifest.expand(name)) {
        if !is_name(&name) {
            return Err(ModelError::Name(name).into());
        }
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    let mut jobs = vec![];
    for name in wanted {
        let entry = manifest.get(&name).cloned().unwrap_or_default();
        // What is in the program is as published, unless the user says where there is something else.
        let published = built_in.get(&name).is_some_and(|known| known.all_links() == entry.all_links());
        if published && store.locate(&name)? == Location::Embedded {
            options.tell(Event::Present { name });
            continue;
        }
        if entry.all_links().is_empty() {
            match store.locate(&name)? {
                Location::Installed(_) | Location::Embedded => options.tell(Event::Present { name }),
                _ => return Err(store.unknown(&name, false).into()),
            }
            continue;
        }
        let target = store.file(&name).ok_or(ModelError::NoDirectory)?;
        let entry = expected(&entry, &target);
        if is_complete(&target, &entry)? {
            options.tell(Event::Present { name });
            continue;
        }
        if options.offline {
            return Err(FetchError::Offline { name });
        }
        jobs.push((name, entry, target));
    }
    let mut shown = vec![];
    for (name, entry, _) in jobs.iter().filter(|(_, entry, _)| entry.needs_acceptance()) {
        let license = entry.license.clone().unwrap_or_default();
        if !options.accept_license {
            return Err(FetchError::License { name: name.clone(), license });
        }
        if !shown.contains(&license) {
            shown.push(license.clone());
            options.tell(Event::License { name: name.clone(), license });
        }
    }
    if jobs.is_empty() {
        return Ok(());
    }
    let work = || -> Result<(), FetchError> {
        let client = HttpClient::new(options)?;
        let mut archives = Archives::default();
        jobs.iter().try_for_each(|(name, entry, target)| {
            Job { name, entry, target, options, client: &client }.run(&mut archives)
        })
    };
    // A thread of its own, because the caller's may belong to a runtime that must not be blocked in another.
    let result = std::thread::scope(|scope| scope.spawn(work).join());
    result.unwrap_or_else(|_| Err(FetchError::Setup("an unexpected failure".into())))
}

/// Whether the file is there and as the manifest describes it. One whose hash nobody knows is.
fn is_complete(file: &Path, entry: &ModelEntry) -> Result<bool, FetchError> {
    match File::open(file) {
        Err(_) => Ok(false),
        Ok(open) => {
            let hashes = Hashes::of(open).map_err(FetchError::file(file))?;
            Ok(difference(&hashes, entry).is_none())
        }
    }
}

/// One model to fetch.
struct Job<'a> {
    name: &'a str,
    entry: &'a ModelEntry,
    target: &'a Path,
    options: &'a FetchOptions,
    client: &'a HttpClient,
}

impl Job<'_> {
    fn run(&self, archives: &mut Archives) -> Result<(), FetchError> {
        let folder = self.target.parent().unwrap_or(Path::new("."));
        let downloads = folder.parent().unwrap_or(folder).join(".downloads");
        for needed in [folder, &downloads] {
            fs::create_dir_all(needed).map_err(FetchError::file(needed))?;
        }
        // Not in the model's own folder, which goes when the model is removed.
        let _lock = lock(&downloads.join(format!("{}.lock", self.name)))?;
        // Another process may have fetched it while this one waited for the lock.
        if is_complete(self.target, self.entry)? {
            self.options.tell(Event::Present { name: self.name.into() });
            return Ok(());
        }
        let mut reasons = vec![];
        for link in self.entry.all_links() {
            match self.fetch_link(&link, folder, &downloads, archives) {
                Ok(()) => {
                    self.options.tell(Event::Installed { name: self.name.into(), path: self.target.into() });
                    return Ok(());
                }
                Err(error) => reasons.push(error),
            }
        }
        match reasons.pop() {
            Some(only) if reasons.is_empty() => Err(only),
            last => {
                let reasons: Vec<String> = reasons.iter().chain(&last).map(ToString::to_string).collect();
                Err(FetchError::AllFailed { name: self.name.into(), reasons: reasons.join("; ") })
            }
        }
    }

    fn fetch_link(
        &self,
        link: &str,
        folder: &Path,
        downloads: &Path,
        archives: &mut Archives,
    ) -> Result<(), FetchError> {
        let part = folder.join(format!(".{}.onnx.part", self.name));
        let Some((url, member)) = link.split_once('#') else {
            return self.download_checked(link, &part);
        };
        let fetch = |whole: &Path| self.fetch(url, whole, None, false).map(drop);
        archives.open(downloads, url, fetch, |archive| {
            archive::extract(archive, member, &part, url)?;
            self.install(link, &part)
        })
    }

    fn download_checked(&self, link: &str, part: &Path) -> Result<(), FetchError> {
        let known = self.entry.sha256.is_some() || self.entry.md5.is_some();
        let resumed = self.fetch(link, part, self.entry.size, known)?;
        let installed = self.install(link, part);
        if installed.is_err() && resumed {
            // What was there from an earlier attempt may have been the wrong part: once more from the start.
            self.fetch(link, part, self.entry.size, known)?;
            return self.install(link, part);
        }
        installed
    }

    /// Downloads to the part file; true if bytes of an earlier attempt are in it.
    fn fetch(&self, url: &str, part: &Path, size: Option<u64>, hash_is_known: bool) -> Result<bool, FetchError> {
        let download = Download { name: self.name, url, part, size, hash_is_known, options: self.options };
        self.client.block_on(download.run(&self.client.http))
    }

    /// Checks what has come and renames it into place; removes it when it is not what it should be.
    fn install(&self, link: &str, part: &Path) -> Result<(), FetchError> {
        let hashes = self.check(link, part).inspect_err(|_| drop(fs::remove_file(part)))?;
        install_file(part, self.target).map_err(FetchError::file(self.target))?;
        if self.entry.sha256.is_none() && self.entry.md5.is_none() {
            // The publisher gives no hash: from now on it has to be this file.
            pin(self.target, &hashes.sha256).map_err(FetchError::file(self.target))?;
        }
        Ok(())
    }

    fn check(&self, link: &str, part: &Path) -> Result<Hashes, FetchError> {
        let file = File::open(part).map_err(FetchError::file(part))?;
        let hashes = Hashes::of(&file).map_err(FetchError::file(part))?;
        if let Some((what, expected, found)) = difference(&hashes, self.entry) {
            return Err(FetchError::Mismatch { url: link.into(), what, expected, found });
        }
        // Without a hash this is all that tells a model from a page that says sorry.
        Network::from_file(part, self.name)
            .map_err(|e| FetchError::NotAModel { url: link.into(), reason: e.to_string() })?;
        Ok(hashes)
    }
}

/// Waits until no other process or thread holds the lock; it is held until the file is dropped.
fn lock(path: &Path) -> Result<File, FetchError> {
    let file = File::options().create(true).write(true).truncate(false).open(path).map_err(FetchError::file(path))?;
    file.lock().map_err(FetchError::file(path))?;
    Ok(file)
}
