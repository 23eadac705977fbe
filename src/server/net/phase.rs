//! The phase of a connection and its time limit.

use crate::config::Limits;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The phase of a connection, with its beginning.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The next head has not arrived; if `begun`, some of its bytes have.
    Head { since: Instant, begun: bool },
    /// All requests are answered, and the system has taken the last answer.
    Idle { since: Instant },
    /// A request is being answered; its own deadline applies.
    Working,
    /// The answer is being written. `moved` is when the client last took bytes; if `handed`, all of the rest is in
    /// buffers.
    Answering { moved: Instant, handed: bool },
    /// The answer is written, and the rest of the request body is being discarded, by `until` at the latest.
    Discarding { until: Instant },
}

/// A time limit that a connection has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// No byte of a head arrived.
    Silent,
    /// Only a part of a head arrived.
    SlowHead,
    /// No request arrived after an answer, or the client did not take an answer.
    Idle,
}

/// The phase, shared by the task, the socket and the answers of a connection.
#[derive(Clone)]
pub(crate) struct SharedPhase(Arc<Mutex<Phase>>);

impl SharedPhase {
    /// The phase of a new connection.
    pub(crate) fn new() -> Self {
        SharedPhase(Arc::new(Mutex::new(Phase::Head { since: Instant::now(), begun: false })))
    }

    /// A head has been read.
    pub(crate) fn working(&self) {
        *self.0.lock() = Phase::Working;
    }

    /// The answer exists, and is being written.
    pub(crate) fn answering(&self) {
        *self.0.lock() = Phase::Answering { moved: Instant::now(), handed: false };
    }

    /// hyper has taken all of the answer into its buffers.
    pub(crate) fn handed(&self) {
        if let Phase::Answering { handed, .. } = &mut *self.0.lock() {
            *handed = true;
        }
    }

    /// The answer is written; the rest of its request body is read and dropped until `until`.
    pub(crate) fn discarding(&self, until: Instant) {
        *self.0.lock() = Phase::Discarding { until };
    }

    /// The request body has ended.
    pub(crate) fn discarded(&self) {
        let mut phase = self.0.lock();
        // Any other phase belongs to the next request already.
        if let Phase::Discarding { .. } = *phase {
            *phase = Phase::Idle { since: Instant::now() };
        }
    }

    /// hyper's buffers are empty.
    pub(crate) fn flushed(&self) {
        let mut phase = self.0.lock();
        if let Phase::Answering { handed: true, .. } = *phase {
            *phase = Phase::Idle { since: Instant::now() };
        }
    }

    /// Bytes have arrived.
    pub(crate) fn read_bytes(&self) {
        let mut phase = self.0.lock();
        match &mut *phase {
            Phase::Head { begun, .. } => *begun = true,
            Phase::Idle { .. } => *phase = Phase::Head { since: Instant::now(), begun: true },
            Phase::Working | Phase::Answering { .. } | Phase::Discarding { .. } => {}
        }
    }

    /// The client has taken bytes.
    pub(crate) fn wrote_bytes(&self) {
        if let Phase::Answering { moved, .. } = &mut *self.0.lock() {
            *moved = Instant::now();
        }
    }

    /// Whether every request that has been read is answered completely.
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(*self.0.lock(), Phase::Head { .. } | Phase::Idle { .. })
    }

    /// Whether a head is expected, or has arrived in part.
    pub(crate) fn is_head(&self) -> bool {
        matches!(*self.0.lock(), Phase::Head { .. })
    }

    fn end(&self, limits: &Limits) -> Option<Instant> {
        match *self.0.lock() {
            Phase::Head { since, .. } => Some(since + limits.header_timeout),
            Phase::Idle { since } => Some(since + limits.keep_alive_timeout),
            Phase::Answering { moved, .. } => Some(moved + limits.keep_alive_timeout),
            // Beyond the limit of the discard itself, which closes the connection in an orderly way.
            Phase::Discarding { until } => Some(until + limits.keep_alive_timeout),
            Phase::Working => None,
        }
    }

    /// The time limit that has been reached.
    pub(crate) fn overdue(&self, limits: &Limits) -> Option<Overdue> {
        self.end(limits).filter(|end| *end <= Instant::now())?;
        Some(match *self.0.lock() {
            Phase::Head { begun: false, .. } => Overdue::Silent,
            Phase::Head { begun: true, .. } => Overdue::SlowHead,
            _ => Overdue::Idle,
        })
    }

    /// When to check the limits again. Phases change without waking the task of the connection, so it checks at least
    /// twice within the shortest limit.
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
        // Pretends that the client took bytes this number of seconds ago.
        let pass = |seconds| match &mut *phase.0.lock() {
            Phase::Answering { moved, .. } => *moved = moved.checked_sub(Duration::from_secs(seconds)).unwrap(),
            other => panic!("{other:?}"),
        };
        // The client takes a few bytes every 2 s, for longer than a connection may be idle.
        for _ in 0..8 {
            pass(2);
            phase.wrote_bytes();
            assert!(!phase.is_between_requests());
        }
        assert_eq!(phase.overdue(&limits), None);
        pass(7);
        assert_eq!(phase.overdue(&limits), Some(Overdue::Idle), "the client takes no more");
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
