//! Other models without a restart: when files of the models directory change, and when SIGHUP says that the settings did.

use crate::config::{ModelSettings, Settings};
use crate::models::{ModelStore, Stamp};
use crate::server::models::configured::Models;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads the settings anew. Errs with one sentence when they are wrong.
pub type Reread = Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// Where a change comes from.
enum Cause {
    Hangup,
    Files(BTreeMap<PathBuf, Stamp>),
}

/// Follows files and settings.
pub struct Reloader {
    models: Arc<Models>,
    settings: ModelSettings,
    reread: Option<Reread>,
    hangups: Hangups,
    /// The files as they were when the models were last loaded from them, or could not be.
    known: BTreeMap<PathBuf, Stamp>,
}

impl Reloader {
    /// Notes the files as they are now, and takes SIGHUP from now on.
    pub fn new(models: Arc<Models>, settings: &ModelSettings, reread: Option<Reread>) -> io::Result<Reloader> {
        let known = stamps(settings);
        Ok(Reloader { models, settings: settings.clone(), reread, hangups: Hangups::listen()?, known })
    }

    /// Changes the models whenever there is cause; never ends. What does not work is logged, and the models stay as they are.
    pub async fn run(mut self) {
        loop {
            match self.cause().await {
                Cause::Hangup => self.reread(),
                Cause::Files(stamps) => {
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
                Ok(_) => tracing::info!("the configured models are as they were"),
                Err(error) => tracing::error!(%error, "the models cannot be changed; those before stay in use"),
            }
        }
    }

    /// Takes over what the settings say of models. All else counts from the next start.
    fn reread(&mut self) {
        let Some(reread) = &self.reread else { return };
        match reread() {
            Ok(settings) => {
                self.settings = settings.models;
                self.known = stamps(&self.settings);
            }
            Err(error) => tracing::error!(error, "SIGHUP: the settings are wrong; those before stay in use"),
        }
    }

    async fn cause(&mut self) -> Cause {
        let mut unsettled = None;
        loop {
            let every = Duration::from_secs_f64(self.settings.reload_interval);
            tokio::select! {
                () = self.hangups.next() => {
                    tracing::info!("SIGHUP: the settings are read again");
                    return Cause::Hangup;
                }
                () = tokio::time::sleep(every), if self.settings.reload => {}
            }
            let settings = self.settings.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || stamps(&settings)).await else { continue };
            if now == self.known {
                unsettled = None;
            } else if unsettled.as_ref() == Some(&now) {
                return Cause::Files(now);
            } else {
                // A file that is being written looks different the next time.
                unsettled = Some(now);
            }
        }
    }
}

fn stamps(settings: &ModelSettings) -> BTreeMap<PathBuf, Stamp> {
    ModelStore::new(settings.models_dir.0.clone()).stamps()
}

/// SIGHUP, where there is such a thing. As long as it lives, the signal does not end the process.
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
