//! Progress of downloads on standard error: bars on a terminal, lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::downloads::Event;

/// Shows the events of downloads.
#[derive(Default)]
pub(super) struct DownloadProgress {
    bar: Mutex<Option<ProgressBar>>,
}

impl DownloadProgress {
    /// A callback for `FetchOptions::on_event`.
    pub fn listener(self) -> impl Fn(&Event) + Send + Sync {
        move |event| self.show(event)
    }

    fn show(&self, event: &Event) {
        let mut bar = self.bar.lock();
        let terminal = std::io::stderr().is_terminal();
        match event {
            Event::License { name, license } => eprintln!("{name}: license: {license}"),
            Event::Started { name, have, total, .. } if terminal => {
                let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                let new = match total {
                    Some(total) => ProgressBar::new(*total).with_style(style),
                    None => ProgressBar::new_spinner(),
                };
                new.set_prefix(name.clone());
                new.set_position(*have);
                // The rate must not count the bytes of earlier attempts.
                new.reset_eta();
                if let Some(old) = bar.replace(new) {
                    old.finish_and_clear();
                }
            }
            Event::Started { name, url, have, total } => {
                let size = total.map_or("of unknown size".into(), megabytes);
                let rest = if *have > 0 { format!(", {} of it present", megabytes(*have)) } else { String::new() };
                eprintln!("{name}: fetching {size} from {url}{rest}");
            }
            Event::Progress { have, .. } => bar.iter().for_each(|b| b.set_position(*have)),
            Event::Retry { name, reason } => {
                let line = format!("{name}: {reason}; retrying");
                match bar.as_ref() {
                    Some(bar) => bar.println(line),
                    None => eprintln!("{line}"),
                }
            }
            Event::Installed { name, path } => {
                if let Some(old) = bar.take() {
                    old.finish_and_clear();
                }
                eprintln!("{name}: installed as {}", path.display());
            }
            Event::Present { name } => eprintln!("{name}: already present"),
        }
    }
}

/// Decimal megabytes, for messages.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
