//! Readiness of the service to accept requests, which `/health/ready` reports.

use parking_lot::Mutex;

/// The reason why requests are not accepted, as a message for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum ServicePhase {
    Starting(String),
    Ready,
    Stopping,
}

/// The phase of the service: starting, ready, stopping. Stopping is final.
#[derive(Debug)]
pub struct Readiness(Mutex<ServicePhase>);

impl Readiness {
    /// A service that is not ready because of `reason`, for example because models are being loaded.
    pub fn starting(reason: impl Into<String>) -> Self {
        Readiness(Mutex::new(ServicePhase::Starting(reason.into())))
    }

    /// Accepts requests from now on.
    pub fn set_ready(&self) {
        self.enter(ServicePhase::Ready);
    }

    /// Refuses requests because of `reason` until [`Readiness::set_ready`].
    pub fn set_starting(&self, reason: impl Into<String>) {
        self.enter(ServicePhase::Starting(reason.into()));
    }

    /// Refuses all further requests.
    pub fn set_stopping(&self) {
        self.enter(ServicePhase::Stopping);
    }

    /// True after [`Readiness::set_stopping`].
    pub fn is_stopping(&self) -> bool {
        *self.0.lock() == ServicePhase::Stopping
    }

    /// Errs with the reason if requests are not accepted.
    pub fn check(&self) -> Result<(), NotReady> {
        match &*self.0.lock() {
            ServicePhase::Starting(reason) => Err(NotReady(reason.clone())),
            ServicePhase::Ready => Ok(()),
            ServicePhase::Stopping => Err(NotReady("the service is stopping".into())),
        }
    }

    fn enter(&self, phase: ServicePhase) {
        let mut current = self.0.lock();
        if *current != ServicePhase::Stopping {
            *current = phase;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_final() {
        let readiness = Readiness::starting("models are loading");
        assert_eq!(readiness.check(), Err(NotReady("models are loading".into())));
        readiness.set_ready();
        assert_eq!(readiness.check(), Ok(()));
        readiness.set_starting("models are loading again");
        assert!(readiness.check().is_err());
        readiness.set_stopping();
        readiness.set_ready();
        assert_eq!(readiness.check(), Err(NotReady("the service is stopping".into())));
    }
}
