//! Changes of models without a restart: after changes of files in the models directory, and after SIGHUP. Files are
//! read on blocking threads only.

use crate::config::{ModelSettings, Settings};
use crate::models::{ModelStore, Stamp};
use crate::server::models::registry::ModelRegistry;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads the settings again. Blocks. Errs if they are invalid.
pub type ReadSettings = Arc<dyn Fn() -> Result<Settings, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// The cause of a change.
enum ChangeCause {
    Hangup,
    Files(BTreeMap<PathBuf, Stamp>),
}

/// Watches files and SIGHUP.
pub struct Reloader {
    models: Arc<ModelRegistry>,
    settings: ModelSettings,
    read_settings: Option<ReadSettings>,
    hangups: Hangups,
    /// Stamps of the files at the last attempt to load models from them.
    known: BTreeMap<PathBuf, Stamp>,
}

impl Reloader {
    /// Handles SIGHUP from now on. Errs if the handler cannot be installed.
    pub fn new(
        models: Arc<ModelRegistry>,
        settings: &ModelSettings,
        read_settings: Option<ReadSettings>,
    ) -> io::Result<Reloader> {
        let known = BTreeMap::new();
        Ok(Reloader { models, settings: settings.clone(), read_settings, hangups: Hangups::listen()?, known })
    }

    /// Records the stamps of the present files. Call it before models are loaded from them, so that later changes are
    /// noticed.
    pub async fn note_files(&mut self) {
        if let Some(stamps) = stamps(&self.settings).await {
            self.known = stamps;
        }
    }

    /// Changes the models after each cause; never ends. Errors are logged, and the models stay.
    pub async fn run(mut self) {
        loop {
            match self.cause().await {
                ChangeCause::Hangup => self.apply_settings().await,
                ChangeCause::Files(stamps) => {
                    tracing::info!("files of the models directory have changed");
                    self.known = stamps;
                }
            }
            let started = Instant::now();
            match self.models.change(&self.settings).await {
                Ok(change) if change.changed => {
                    let loaded = change.loaded.join(", ");
                    let ms = started.elapsed().as_millis() as u64;
                    let ModelSettings { det_name, rec_name, .. } = &self.settings;
                    let rec_name = rec_name.as_deref().unwrap_or("None");
                    tracing::info!(loaded, det_name, rec_name, ms, "the models have been changed");
                }
                Ok(_) => tracing::info!("the configured models are unchanged"),
                Err(error) => tracing::error!(%error, "the models cannot be changed; the previous ones stay in use"),
            }
        }
    }

    /// Reads the settings and applies those of models. All other settings apply from the next start.
    async fn apply_settings(&mut self) {
        let Some(read) = self.read_settings.clone() else { return };
        match tokio::task::spawn_blocking(move || read()).await {
            Ok(Ok(settings)) => {
                self.settings = settings.models;
                self.note_files().await;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "SIGHUP: the settings are invalid; the previous ones stay in use")
            }
            Err(error) => tracing::error!(%error, "SIGHUP: reading the settings failed; the previous ones stay in use"),
        }
    }

    /// Waits for the next cause of a change.
    async fn cause(&mut self) -> ChangeCause {
        let mut unsettled = None;
        loop {
            let every = Duration::from_secs_f64(self.settings.reload_interval);
            tokio::select! {
                () = self.hangups.next() => {
                    tracing::info!("SIGHUP: the settings are read again");
                    return ChangeCause::Hangup;
                }
                () = tokio::time::sleep(every), if self.settings.reload => {}
            }
            let Some(now) = stamps(&self.settings).await else { continue };
            if now == self.known {
                unsettled = None;
            } else if unsettled.as_ref() == Some(&now) {
                return ChangeCause::Files(now);
            } else {
                // A file that is being written has another stamp at the next check.
                unsettled = Some(now);
            }
        }
    }
}

/// Stamps of the present files; `None` if reading them panicked.
async fn stamps(settings: &ModelSettings) -> Option<BTreeMap<PathBuf, Stamp>> {
    let store = ModelStore::new(settings.models_dir.0.clone());
    tokio::task::spawn_blocking(move || store.stamps()).await.ok()
}

/// SIGHUP, on systems that have it. While this value exists, the signal does not end the process.
struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    #[cfg(unix)]
    fn listen() -> io::Result<Hangups> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Hangups { signal: signal(SignalKind::hangup())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    fn listen() -> io::Result<Hangups> {
        Ok(Hangups {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}
