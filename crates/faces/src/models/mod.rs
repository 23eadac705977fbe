//! Which models exist and where their bytes are.

mod embedded;
mod function;
pub mod hash;
mod install;
pub mod integrity;
mod manifest;
mod recognise;
mod selection;
mod stamp;
mod store;

pub use embedded::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, embedded, health_picture};
pub use function::{Role, functions, role_of};
pub use manifest::{FILES as MANIFEST_FILES, GOOGLE, Manifest, ModelEntry};
pub use recognise::{RecogniseError, Recognised, recognise};
pub use selection::Selection;
pub use stamp::{Inventory, Origin, Stamp};
pub use store::{Location, MOST_BYTES, ModelError, ModelStore, is_name, split_names};
