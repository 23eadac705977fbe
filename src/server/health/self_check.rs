//! The self check of `GET /health`: the configured networks must find the face in a built-in picture.
//!
//! ```text
//! GET /health ─┐
//! GET /health ─┼─ wait for ─ one task ─ one image in the scheduler's queue
//! GET /health ─┘             (runs on when all requests are gone)
//! ```

use crate::schedule::{ImageFailure, ScheduleError};
use crate::server::State;
use crate::server::single_flight::SingleFlight;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time for which a good result is reused: frequent checks must not take much time from requests.
const MAX_RESULT_AGE: Duration = Duration::from_secs(1);

/// The reason why the self check failed. The messages are for clients; the log has the details.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckFailure {
    /// The networks run, but their result is wrong.
    #[error("no face was found in the picture that has one")]
    NoFace,
    /// A network fails.
    #[error("the networks cannot be run")]
    Networks,
    /// The scheduler did not run them in time.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A defect of this program.
    #[error("an internal error")]
    Defect,
}

/// Runs one self check at a time, for all requests that wait for one.
#[derive(Default)]
pub struct SelfCheck {
    latest: SingleFlight<Result<(), CheckFailure>>,
}

impl SelfCheck {
    /// The result of the running check, of a good one that is at most a second old, or of a new one.
    pub async fn result(&self, state: &Arc<State>) -> Result<(), CheckFailure> {
        let is_current = |result: &Result<(), CheckFailure>, age| result.is_ok() && age < MAX_RESULT_AGE;
        let state = state.clone();
        self.latest.get(is_current, async move { check(&state).await }).await.unwrap_or(Err(CheckFailure::Defect))
    }
}

/// Runs one check, with the time limit of a request.
async fn check(state: &State) -> Result<(), CheckFailure> {
    let deadline = Instant::now() + state.settings.limits.request_timeout;
    let picture = crate::models::health_picture();
    match state.inference.check(state.models.configured(), picture, deadline).await? {
        Ok(0) => Err(CheckFailure::NoFace),
        Ok(_) => Ok(()),
        Err(failure) => {
            tracing::error!(error = &failure as &dyn std::error::Error, "the self check failed");
            Err(if matches!(failure, ImageFailure::Panic) { CheckFailure::Defect } else { CheckFailure::Networks })
        }
    }
}
