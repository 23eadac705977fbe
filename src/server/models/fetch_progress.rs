//! Download options of the service: events go to the log and to the message that clients get until models are loaded.

use crate::downloads::{Event, FetchOptions};
use parking_lot::Mutex;
use std::sync::Arc;

/// The present step until models are loaded, as a message for clients.
#[derive(Clone)]
pub struct LoadingStatus(Arc<Mutex<String>>);

impl LoadingStatus {
    /// A status that starts with `text`.
    pub fn new(text: &str) -> Self {
        LoadingStatus(Arc::new(Mutex::new(text.into())))
    }

    /// Replaces the text.
    pub fn set(&self, text: String) {
        *self.0.lock() = text;
    }

    /// The present text.
    pub fn text(&self) -> String {
        self.0.lock().clone()
    }
}

/// Options from the environment, which also report to `status`.
pub fn fetch_options(status: LoadingStatus) -> FetchOptions {
    let options = FetchOptions::from_environment();
    let log = options.on_event;
    let total = Mutex::new(None);
    let on_event = Arc::new(move |event: &Event| {
        let mut total = total.lock();
        let text = match event {
            Event::Started { name, total: size, .. } => {
                *total = *size;
                format!("{name} is being fetched")
            }
            Event::Progress { name, have } => match *total {
                Some(size) if size > 0 => format!("{name} is being fetched: {} %", have * 100 / size),
                _ => format!("{name} is being fetched: {:.1} MB so far", *have as f64 / 1e6),
            },
            // The reason is in the log only: it may name hosts and files.
            Event::Retry { name, .. } => format!("{name} is being fetched, another attempt"),
            Event::Installed { .. } | Event::Present { .. } | Event::License { .. } => return log(event),
        };
        // The status first: a request after the log line must not get an older status.
        status.set(text);
        log(event);
    });
    FetchOptions { on_event, ..options }
}
