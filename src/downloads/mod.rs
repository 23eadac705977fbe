//! Downloads of missing models: over HTTP, from Google Drive, from zip archives.
//!
//! ```text
//! links in order ─ download (resumed, retried) ─ member of an archive ─ check hashes ─ load network ─ rename into place
//! ```
//!
//! Files are written next to the model, under a lock between processes. Only a file that has passed all checks is
//! renamed into place, so that a model file is always complete.

mod archive;
mod client;
mod download;
mod error;
mod google;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use error::{ArchiveError, FetchError, TransferError};
pub use google::PageError;

use self::archive::Archives;
use self::client::HttpClient;
use self::download::Download;
use crate::engine::Network;
use crate::files::install_file;
use crate::models::hash::Hashes;
use crate::models::integrity::{difference, expected, pin, watch};
use crate::models::{Location, MAX_MODEL_BYTES, Manifest, ModelEntry, ModelError, ModelStore, is_name};
use crate::parse::boolean_word;

/// Events of downloads. `name` is that of the model.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants describe their fields")]
pub enum Event {
    /// The license of a model that will be fetched.
    License { name: String, license: String },
    /// A download starts; `have` of `total` bytes are present from an earlier attempt.
    Started { name: String, url: String, have: u64, total: Option<u64> },
    /// `have` bytes are present.
    Progress { name: String, have: u64 },
    /// An attempt failed; another one follows.
    Retry { name: String, reason: String },
    /// The model is installed.
    Installed { name: String, path: PathBuf },
    /// The model is already installed, as the manifest describes it.
    Present { name: String },
}

/// Options of downloads.
#[derive(Clone)]
pub struct FetchOptions {
    /// Do not use the network.
    pub offline: bool,
    /// Licenses that forbid commercial use are accepted.
    pub accept_license: bool,
    /// Maximum time without bytes on a connection.
    pub silence: Duration,
    /// Maximum number of consecutive attempts without progress per link.
    pub attempts: u32,
    /// Pause before the second attempt; doubled for each further one.
    pub pause: Duration,
    /// Address of Google Drive's download page.
    pub google: String,
    /// Receives the events.
    pub on_event: Arc<dyn Fn(&Event) + Send + Sync>,
    /// Receives warnings about installed models, also later and on another thread.
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
    /// The options of the variables IFR_OFFLINE and IFR_ACCEPT_LICENSE. Proxies are read from the environment when a
    /// connection is made.
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

/// Logs events, for programs without a terminal.
fn log(event: &Event) {
    match event {
        Event::License { name, license } => {
            tracing::warn!(model = name, license, "the license of this model has limits")
        }
        Event::Started { name, url, have, total } => tracing::info!(model = name, url, have, total, "fetching a model"),
        Event::Retry { name, reason } => tracing::warn!(model = name, reason, "fetching a model: another attempt"),
        Event::Installed { name, path } => tracing::info!(model = name, path = %path.display(), "a model is installed"),
        Event::Progress { .. } | Event::Present { .. } => {}
    }
}

/// Fetches the models that are neither installed nor embedded. Warns of installed files that differ from the manifest.
///
/// For programs that are configured to use a model: as in the original, licenses are shown and need no acceptance. Errs
/// with [`ModelError::Unknown`] for models without a known source.
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

/// Fetches models and packs. Installed models with the hashes of the manifest are not fetched again. Errs with
/// [`FetchError::License`] before any download if a license must be accepted.
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
        // Embedded models are the published ones, unless the user's manifest names another source.
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
            ModelDownload { name, entry, target, options, client: &client }.run(&mut archives)
        })
    };
    // On a new thread: the caller's may belong to an async runtime, inside which another one cannot block.
    let result = std::thread::scope(|scope| scope.spawn(work).join());
    result.unwrap_or(Err(FetchError::Defect))
}

/// True if the file exists and matches the manifest; a file without a known hash matches.
fn is_complete(file: &Path, entry: &ModelEntry) -> Result<bool, FetchError> {
    match File::open(file) {
        Err(_) => Ok(false),
        Ok(open) => {
            let hashes = Hashes::of(open).map_err(FetchError::file(file))?;
            Ok(difference(&hashes, entry).is_none())
        }
    }
}

/// The download of a model.
struct ModelDownload<'a> {
    name: &'a str,
    entry: &'a ModelEntry,
    target: &'a Path,
    options: &'a FetchOptions,
    client: &'a HttpClient,
}

impl ModelDownload<'_> {
    fn run(&self, archives: &mut Archives) -> Result<(), FetchError> {
        let folder = self.target.parent().unwrap_or(Path::new("."));
        let downloads = folder.parent().unwrap_or(folder).join(".downloads");
        for needed in [folder, &downloads] {
            fs::create_dir_all(needed).map_err(FetchError::file(needed))?;
        }
        // Not in the folder of the model, which is removed with the model.
        let _lock = lock(&downloads.join(format!("{}.lock", self.name)))?;
        // Another process may have fetched it while this one waited for the lock.
        if is_complete(self.target, self.entry)? {
            self.options.tell(Event::Present { name: self.name.into() });
            return Ok(());
        }
        let mut errors = vec![];
        for link in self.entry.all_links() {
            match self.fetch_link(&link, folder, &downloads, archives) {
                Ok(()) => {
                    self.options.tell(Event::Installed { name: self.name.into(), path: self.target.into() });
                    return Ok(());
                }
                Err(error) => errors.push(error),
            }
        }
        match errors.pop() {
            Some(only) if errors.is_empty() => Err(only),
            last => {
                errors.extend(last);
                Err(FetchError::AllFailed { name: self.name.into(), errors })
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
            // The bytes of the earlier attempt may be of another file: start over once.
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

    /// Checks the part file and renames it into place; removes it if it is not the expected file.
    fn install(&self, link: &str, part: &Path) -> Result<(), FetchError> {
        let hashes = self.check(link, part).inspect_err(|_| drop(fs::remove_file(part)))?;
        install_file(part, self.target).map_err(FetchError::file(self.target))?;
        if self.entry.sha256.is_none() && self.entry.md5.is_none() {
            // Without a hash from the publisher, later files must equal the first download.
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
        // Without a hash, this is the only check that the file is not an error page.
        Network::from_file(part, self.name).map_err(|source| FetchError::NotAModel { url: link.into(), source })?;
        Ok(hashes)
    }
}

/// Waits for the lock, which is held until the file is dropped.
fn lock(path: &Path) -> Result<File, FetchError> {
    let file = File::options().create(true).write(true).truncate(false).open(path).map_err(FetchError::file(path))?;
    file.lock().map_err(FetchError::file(path))?;
    Ok(file)
}
