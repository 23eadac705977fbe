//! One computation for all callers that wait for its result at the same time.

use parking_lot::Mutex;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The latest result, or the running computation. At most one runs at a time, in its own task: it continues when
/// callers are dropped, and later callers wait for it instead of starting another one.
pub struct SingleFlight<T> {
    latest: Mutex<Option<watch::Receiver<Option<Finished<T>>>>>,
}

/// A result and the time when it was computed.
struct Finished<T> {
    at: Instant,
    result: T,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        SingleFlight { latest: Mutex::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// The result of the running computation. If there is no running one, the last result if `is_current` accepts it at
    /// its age, else the result of `compute`. `None` if the computation panicked.
    pub async fn get(
        &self,
        is_current: impl Fn(&T, Duration) -> bool,
        compute: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut receiver = {
            let mut latest = self.latest.lock();
            let usable = latest.as_ref().is_some_and(|receiver| match &*receiver.borrow() {
                Some(finished) => is_current(&finished.result, finished.at.elapsed()),
                // Closed without a result: the computation panicked.
                None => receiver.has_changed().is_ok(),
            });
            if !usable {
                *latest = Some(start(compute));
            }
            latest.clone()?
        };
        let finished = receiver.wait_for(Option::is_some).await.ok()?;
        finished.as_ref().map(|finished| finished.result.clone())
    }
}

fn start<T: Send + Sync + 'static>(
    compute: impl Future<Output = T> + Send + 'static,
) -> watch::Receiver<Option<Finished<T>>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let result = compute.await;
        sender.send_replace(Some(Finished { at: Instant::now(), result }));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// A computation that waits for a permit of the gate and then returns its number.
    struct GatedComputation {
        started: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
    }

    impl GatedComputation {
        fn compute(&self) -> impl Future<Output = usize> + Send + 'static + use<> {
            let (started, gate) = (self.started.clone(), self.gate.clone());
            async move {
                let number = started.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.unwrap().forget();
                number
            }
        }
    }

    fn gated() -> GatedComputation {
        GatedComputation { started: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    #[tokio::test]
    async fn dropped_callers_leave_one_computation_which_later_callers_join() {
        let (flight, gated) = (Arc::new(SingleFlight::default()), gated());
        for _ in 0..100 {
            let (flight, compute) = (flight.clone(), gated.compute());
            let caller = tokio::spawn(async move { flight.get(|_, _| true, compute).await });
            tokio::task::yield_now().await;
            caller.abort();
        }
        let late = tokio::spawn({
            let (flight, compute) = (flight.clone(), gated.compute());
            async move { flight.get(|_, _| true, compute).await }
        });
        tokio::task::yield_now().await;
        gated.gate.add_permits(1);
        assert_eq!(late.await.unwrap(), Some(1));
        assert_eq!(gated.started.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn results_are_reused_only_while_they_are_current() {
        let (flight, gated) = (SingleFlight::default(), gated());
        gated.gate.add_permits(9);
        assert_eq!(flight.get(|_, _| true, gated.compute()).await, Some(1));
        assert_eq!(flight.get(|_, age| age < Duration::from_secs(60), gated.compute()).await, Some(1));
        assert_eq!(flight.get(|result, _| *result != 1, gated.compute()).await, Some(2));
    }

    #[tokio::test]
    async fn a_panic_ends_one_computation_only() {
        let flight = SingleFlight::default();
        assert_eq!(flight.get(|_, _| true, async { panic!("a defect") }).await, None::<usize>);
        assert_eq!(flight.get(|_, _| true, async { 5 }).await, Some(5));
    }
}
