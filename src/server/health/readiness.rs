//! Whether requests are taken: what `/health/ready` answers.

use std::sync::{Mutex, PoisonError};

/// Why requests are not taken, or that they are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Starting(String),
    Ready,
    Stopping,
}

/// Moves from starting to ready to stopping, and never back from stopping.
#[derive(Debug)]
pub struct Readiness(Mutex<Phase>);

impl Readiness {
    /// Not ready for `reason`, such as models that are still loading.
    pub fn starting(reason: impl Into<String>) -> Self {
        Readiness(Mutex::new(Phase::Starting(reason.into())))
    }

    /// Requests are taken from now on.
    pub fn set_ready(&self) {
        self.enter(Phase::Ready);
    }

    /// Requests are not taken for the time being.
    pub fn set_starting(&self, reason: impl Into<String>) {
        self.enter(Phase::Starting(reason.into()));
    }

    /// No more requests are taken.
    pub fn set_stopping(&self) {
        self.enter(Phase::Stopping);
    }

    /// Whether the service is being stopped.
    pub fn is_stopping(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == Phase::Stopping
    }

    /// Errs with the reason why requests are not taken.
    pub fn check(&self) -> Result<(), String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Starting(reason) => Err(reason.clone()),
            Phase::Ready => Ok(()),
            Phase::Stopping => Err("the service is stopping".into()),
        }
    }

    fn enter(&self, phase: Phase) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Phase::Stopping {
            *current = phase;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_does_not_become_ready_again() {
        let readiness = Readiness::starting("models are loading");
        assert_eq!(readiness.check(), Err("models are loading".into()));
        readiness.set_ready();
        assert_eq!(readiness.check(), Ok(()));
        readiness.set_starting("models are loading again");
        assert!(readiness.check().is_err());
        readiness.set_stopping();
        readiness.set_ready();
        assert_eq!(readiness.check(), Err("the service is stopping".into()));
    }
}
