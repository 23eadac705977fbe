//! The life of the process: loads the models, answers requests, and stops on signals.

use crate::config::Settings;
use crate::downloads::FetchError;
use crate::memory;
use crate::server::models::reload::{ReadSettings, Reloader};
use crate::server::net::fd_limit;
use crate::server::sources::http::SystemLookup;
use crate::server::{Server, StartError, State, systemd};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Runs the service until SIGTERM or SIGINT. The port is open at once; the models are loaded meanwhile.
///
/// SIGHUP applies the model settings that `read_settings` returns, and `--reload` watches the model files. Errs if the
/// service cannot start, for example because a model is missing or broken.
pub fn serve(mut settings: Settings, read_settings: Option<ReadSettings>) -> Result<(), StartError> {
    fd_limit::prepare(&mut settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::Runtime)?;
    let ended = runtime.block_on(async {
        let stop = stop_signal().map_err(StartError::Runtime)?;
        let server = Server::listen(settings, Arc::new(SystemLookup::new())).await?;
        let address = server.local_addr().map_err(StartError::Runtime)?;
        tracing::info!(%address, "listening");
        let reloader = Reloader::new(server.models(), &server.settings.models, read_settings);
        let reloader = reloader.map_err(StartError::Runtime)?;
        let (fail, failed) = oneshot::channel();
        tokio::spawn(load(server.state.clone(), address, reloader, fail));
        let measured = server.state.clone();
        tokio::spawn(memory::trim_periodically(move || measured.activity()));
        let mut failure = None;
        let stop = async {
            tokio::select! {
                () = stop => {}
                Ok(error) = failed => failure = Some(error),
            }
            systemd::send(systemd::STOPPING);
        };
        server.run(stop).await;
        tracing::info!("stopped");
        failure.map_or(Ok(()), |error| Err(StartError::Model(error)))
    });
    // Tasks that still run must not keep the process, for example reads from a network drive that hangs.
    runtime.shutdown_background();
    ended
}

/// Loads the first models, reports readiness, and then applies changes of the models.
async fn load(state: Arc<State>, address: SocketAddr, mut reloader: Reloader, fail: oneshot::Sender<FetchError>) {
    let settings = &state.settings.models;
    let load = async {
        reloader.note_files().await;
        state.models.change(settings).await
    };
    let loaded = tokio::select! {
        loaded = load => loaded,
        never = systemd::extend_start_timeout() => match never {},
    };
    if let Err(error) = loaded {
        // Without a receiver the service has already stopped.
        let _ = fail.send(error);
        return;
    }
    let recognizer = settings.rec_name.as_deref().unwrap_or("None");
    state.readiness.set_ready();
    tracing::info!(%address, det_name = settings.det_name, rec_name = recognizer, "ready");
    systemd::send(systemd::READY);
    tokio::spawn(systemd::feed_watchdog());
    reloader.run().await;
}

/// Ready when the service is to stop. Errs if the system refuses signal handlers.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing requests in flight"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing requests in flight"),
        }
    })
}

/// Ready when the service is to stop.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without signals the service runs until the process is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
