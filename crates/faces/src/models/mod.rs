//! Known models, the location of their files, and loading by name. Nothing here uses the network.

mod classify;
mod embedded;
mod error;
mod function;
pub mod hash;
mod install;
pub mod integrity;
mod manifest;
mod name;
mod pin;
mod selection;
mod stamp;
mod store;

pub use classify::{ClassifyError, NetworkKind, classify};
pub use embedded::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, embedded, health_picture};
pub use error::{MAX_MODEL_BYTES, ModelError};
pub use function::{Role, functions, role_of};
pub use manifest::{FILES as MANIFEST_FILES, GOOGLE, Manifest, ModelEntry};
pub use name::{is_name, split_names};
pub use selection::Selection;
pub use stamp::{Inventory, ModelVersion, Stamp};
pub use store::{Location, ModelStore};
