//! The settings of a run: a run may only be continued with the settings it was started with.

use std::path::Path;

use serde_json::Value;

use super::error::JournalError;

/// Key of the version of the program that started a run. Another version may continue it.
pub const VERSION: &str = "version";
/// Key of the identities of the model files.
pub const MODELS: &str = "models";

/// Errs if the settings of the run differ from `now`, or if a model file has changed.
pub fn check_settings(partial: &Path, before: &Value, now: &Value) -> Result<(), JournalError> {
    let mut differences: Vec<String> = differences(before, now)
        .filter(|(key, ..)| !matches!(key.as_str(), VERSION | MODELS))
        .map(|(key, before, now)| format!("{key} {before}, now {now}"))
        .collect();
    if differences.is_empty() {
        let other = |(name, before, now)| format!("the file of model '{name}' has changed: {before}, now {now}");
        differences.extend(self::differences(&before[MODELS], &now[MODELS]).map(other));
    }
    match differences.is_empty() {
        true => Ok(()),
        false => Err(JournalError::OtherSettings { partial: partial.into(), differences: differences.join("; ") }),
    }
}

/// The fields that differ between two objects, with both values.
fn differences(before: &Value, now: &Value) -> impl Iterator<Item = (String, Value, Value)> {
    let fields = |v: &Value| v.as_object().cloned().unwrap_or_default();
    let (before, now) = (fields(before), fields(now));
    let keys: Vec<String> = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key))).cloned().collect();
    let value = |of: &serde_json::Map<String, Value>, key: &str| of.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(move |key| (value(&before, &key), value(&now, &key), key))
        .filter(|(a, b, _)| a != b)
        .map(|(a, b, key)| (key, a, b))
}
