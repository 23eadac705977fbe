//! What a connection is doing, since when, and how long it may.

use crate::config::Limits;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing has been asked yet, or, when `begun`, some bytes of a head have arrived.
    Head { since: Instant, begun: bool },
    /// Everything asked is answered, and the system has taken all of the answer.
    Idle { since: Instant },
    /// A request is being answered; its own deadline applies.
    Working,
    /// The answer is being written; `moved` is when the client last took some of it. Once `handed`, all of it waits in buffers.
    Answering { moved: Instant, handed: bool },
    /// The answer is written, and the rest of the request body is being discarded, by `until` at the latest.
    Discarding { until: Instant },
}

/// Which of the time limits a connection has run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing came at all.
    Silent,
    /// Part of a head came, and not the rest.
    SlowHead,
    /// Nothing came after an answer, or an answer was not taken.
    Idle,
}

/// Shared by a connection's watcher, its socket and its answers.
#[derive(Clone)]
pub(crate) struct SharedPhase(Arc<Mutex<Phase>>);

impl SharedPhase {
    /// That of a new connection.
    pub(crate) fn new() -> Self {
        SharedPhase(Arc::new(Mutex::new(Phase::Head { since: Instant::now(), begun: false })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A head has been read.
    pub(crate) fn working(&self) {
        *self.lock() = Phase::Working;
    }

    /// There is an answer.
    pub(crate) fn answering(&self) {
        *self.lock() = Phase::Answering { moved: Instant::now(), handed: false };
    }

    /// Of an answer, everything is in the buffers.
    pub(crate) fn handed(&self) {
        if let Phase::Answering { handed, .. } = &mut *self.lock() {
            *handed = true;
        }
    }

    /// The answer is written; the rest of its request body is read and dropped until `until`.
    pub(crate) fn discarding(&self, until: Instant) {
        *self.lock() = Phase::Discarding { until };
    }

    /// The request body has ended.
    pub(crate) fn discarded(&self) {
        let mut phase = self.lock();
        // Any other phase belongs to the next request already.
        if let Phase::Discarding { .. } = *phase {
            *phase = Phase::Idle { since: Instant::now() };
        }
    }

    /// The buffers are empty.
    pub(crate) fn flushed(&self) {
        let mut phase = self.lock();
        if let Phase::Answering { handed: true, .. } = *phase {
            *phase = Phase::Idle { since: Instant::now() };
        }
    }

    /// Bytes have come.
    pub(crate) fn read_bytes(&self) {
        let mut phase = self.lock();
        match &mut *phase {
            Phase::Head { begun, .. } => *begun = true,
            Phase::Idle { .. } => *phase = Phase::Head { since: Instant::now(), begun: true },
            Phase::Working | Phase::Answering { .. } | Phase::Discarding { .. } => {}
        }
    }

    /// The client has taken bytes.
    pub(crate) fn wrote_bytes(&self) {
        if let Phase::Answering { moved, .. } = &mut *self.lock() {
            *moved = Instant::now();
        }
    }

    /// Whether no request has been read that is not answered in full.
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(*self.lock(), Phase::Head { .. } | Phase::Idle { .. })
    }

    /// Whether this is a connection, or a head, whose request has yet to arrive.
    pub(crate) fn is_head(&self) -> bool {
        matches!(*self.lock(), Phase::Head { .. })
    }

    fn end(&self, limits: &Limits) -> Option<Instant> {
        match *self.lock() {
            Phase::Head { since, .. } => Some(since + limits.header_timeout),
            Phase::Idle { since } => Some(since + limits.keep_alive_timeout),
            Phase::Answering { moved, .. } => Some(moved + limits.keep_alive_timeout),
            // Beyond the limit of the discard itself, which closes the connection in an orderly way.
            Phase::Discarding { until } => Some(until + limits.keep_alive_timeout),
            Phase::Working => None,
        }
    }

    /// The limit that has been reached, if one has.
    pub(crate) fn overdue(&self, limits: &Limits) -> Option<Overdue> {
        self.end(limits).filter(|end| *end <= Instant::now())?;
        Some(match *self.lock() {
            Phase::Head { begun: false, .. } => Overdue::Silent,
            Phase::Head { begun: true, .. } => Overdue::SlowHead,
            _ => Overdue::Idle,
        })
    }

    /// Phases change without waking the watcher, so it looks again well within the shortest of them.
    pub(crate) fn next_look(&self, limits: &Limits) -> Instant {
        let soon = Instant::now() + limits.header_timeout.min(limits.keep_alive_timeout) / 2;
        let latest = self.end(limits).map_or(soon, |end| end.min(soon));
        latest.max(Instant::now() + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn an_answer_in_buffers_is_still_being_taken() {
        let limits = Limits { keep_alive_timeout: Duration::from_secs(6), ..Settings::defaults().limits };
        let phase = SharedPhase::new();
        phase.working();
        phase.answering();
        phase.handed();
        // As if so many seconds had gone by since the client took something.
        let pass = |seconds| match &mut *phase.lock() {
            Phase::Answering { moved, .. } => *moved = moved.checked_sub(Duration::from_secs(seconds)).unwrap(),
            other => panic!("{other:?}"),
        };
        // Taken bit by bit, for longer than a connection may be idle.
        for _ in 0..8 {
            pass(2);
            phase.wrote_bytes();
            assert!(!phase.is_between_requests());
        }
        assert_eq!(phase.overdue(&limits), None);
        pass(7);
        assert_eq!(phase.overdue(&limits), Some(Overdue::Idle), "nobody takes the rest");
        phase.flushed();
        assert!(phase.is_between_requests() && phase.overdue(&limits).is_none());
    }

    #[test]
    fn flushes_before_the_end_of_an_answer_change_nothing() {
        let phase = SharedPhase::new();
        phase.working();
        phase.flushed();
        phase.answering();
        phase.flushed();
        assert!(!phase.is_between_requests());
        phase.handed();
        phase.flushed();
        assert!(phase.is_between_requests() && !phase.is_head());
        phase.read_bytes();
        assert!(phase.is_head());
    }
}
