//! The threads that work on one inference, ready at every layer.
//!
//! A layer of a small network takes ten microseconds, and waking a sleeping thread takes as long. So rayon lends
//! threads once for a whole run: those that are idle join its [`Team`] and stay awake until it ends; those that are
//! busy with another inference stay away, and whoever is there does the work. Nobody waits for a thread that has not
//! come.
//!
//! Within a team, a layer is a [`Job`]: numbered tasks of which every member has a share. Tasks are numbered along the
//! picture, so that a member finds in its cache what it wrote in the layer before. Who is done with its share takes
//! from the ends of others'.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rayon::ThreadPool;

/// Looks for work, this often, before offering the core to other programs. WebAssembly has no instruction to pause, so
/// that there a look takes a fraction of the time.
const SPINS: u32 = if GLOBAL { 60_000 } else { 2000 };

/// Whether rayon's global pool is the engine's. So it is in a browser: only the page can start threads, and it gives
/// them to that pool (`wasm/src/threads.rs`).
pub(crate) const GLOBAL: bool = cfg!(all(target_arch = "wasm32", target_feature = "atomics"));

/// Tasks of one layer.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
}

/// A value on a cache line of its own: what one thread writes often does not slow reading of the rest.
#[repr(align(128))]
struct Line<T>(T);

/// The tasks of a member that nobody has taken: the first in the upper half, the end in the lower.
struct Share(Line<AtomicU64>);

/// A range of task numbers.
type Tasks = std::ops::Range<u32>;

impl Share {
    fn new() -> Share {
        Share(Line(AtomicU64::new(0)))
    }

    fn word(tasks: Tasks) -> u64 {
        u64::from(tasks.start) << 32 | u64::from(tasks.end)
    }

    fn set(&self, tasks: Tasks) {
        // Releases the job that the tasks are of.
        self.0.0.store(Share::word(tasks), Ordering::Release);
    }

    /// Takes about half of what is there, but no less than one task: its owner from the front, others from the back.
    fn take(&self, from_front: bool) -> Option<Tasks> {
        let mut word = self.0.0.load(Ordering::Relaxed);
        loop {
            let (start, end) = ((word >> 32) as u32, word as u32);
            if start >= end {
                return None;
            }
            let half = (end - start).div_ceil(2);
            let (taken, rest) = match from_front {
                true => (start..start + half, start + half..end),
                false => (end - half..end, start..end - half),
            };
            // Acquires what the leader wrote before it set the share, through whatever was taken since.
            match self.0.0.compare_exchange_weak(word, Share::word(rest), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => word = now,
            }
        }
    }
}

/// Threads that share the layers of one run: the one that leads it, and helpers.
struct Team {
    /// A share for each member that there may be, the leader's first.
    shares: Vec<Share>,
    /// Helpers that have come.
    helpers: AtomicUsize,
    /// Tasks of the current job that are done.
    finished: Line<AtomicUsize>,
    /// Valid from before the shares are set until `finished` has reached the job's count.
    job: AtomicPtr<Job<'static>>,
    over: AtomicBool,
    /// What the first task to panic in this job threw.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What a thread is to the layer it meets.
#[derive(Clone, Copy)]
enum Role {
    /// No run has begun on this thread.
    Free,
    Leader(*const Team),
    /// Busy with a task, which has nobody to share with.
    Member,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Free) };
}

/// Gives this thread a role until dropped.
struct Acting(Role);

impl Acting {
    fn new(role: Role) -> Acting {
        Acting(ROLE.replace(role))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        ROLE.set(self.0);
    }
}

/// Runs `work` on this thread, with a team of the idle threads of `pool`, by default the pool this thread is of, or
/// else the [`GLOBAL`] one. Within a team, just runs it.
pub(crate) fn run_with_team<R>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R) -> R {
    let size = match pool {
        Some(pool) => pool.current_num_threads(),
        None if GLOBAL => rayon::current_num_threads(),
        None => threads(),
    };
    if size < 2 || !matches!(ROLE.get(), Role::Free) {
        return work();
    }
    let team = Arc::new(Team {
        shares: (0..size).map(|_| Share::new()).collect(),
        helpers: AtomicUsize::new(0),
        finished: Line(AtomicUsize::new(0)),
        job: AtomicPtr::new(ptr::null_mut()),
        over: AtomicBool::new(false),
        panic: Mutex::new(None),
    });
    for _ in 1..size {
        let team = team.clone();
        let help = move || team.help();
        match pool {
            Some(pool) => pool.spawn(help),
            None => rayon::spawn(help),
        }
    }
    let _over = Dismissal(&team);
    let _role = Acting::new(Role::Leader(&*team));
    work()
}

/// Threads that the current run may use at most.
pub(crate) fn threads() -> usize {
    match ROLE.get() {
        // Outside a pool, one: the global pool is not ours to wake.
        Role::Free => rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads()),
        // SAFETY: `run_with_team` holds the team as long as the role.
        Role::Leader(team) => unsafe { &*team }.shares.len(),
        Role::Member => 1,
    }
}

/// Calls `task` for 0 to `count`, on all members of the team.
pub(crate) fn parallel_for(count: usize, task: impl Fn(usize) + Sync) {
    match u32::try_from(count) {
        Ok(tasks) if tasks > 1 && threads() > 1 => run_with_team(None, || match ROLE.get() {
            // SAFETY: as above.
            Role::Leader(team) => unsafe { &*team }.run(&task, tasks),
            Role::Free | Role::Member => (0..count).for_each(&task),
        }),
        _ => (0..count).for_each(task),
    }
}

/// Sends the helpers home when the run ends, however it ends.
struct Dismissal<'a>(&'a Team);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Team {
    fn help(&self) {
        let me = 1 + self.helpers.fetch_add(1, Ordering::Relaxed);
        let _role = Acting::new(Role::Member);
        let mut idle = 0;
        // Watches its own share only: looking at the others' would slow them down.
        while !self.over.load(Ordering::Acquire) {
            match self.shares[me].take(true) {
                Some(tasks) => {
                    self.work(me, tasks);
                    idle = 0;
                }
                None => pause(&mut idle),
            }
        }
    }

    /// Does `tasks`, then whatever else of the job is left.
    fn work(&self, me: usize, tasks: Tasks) {
        // SAFETY: the tasks taken are of the current job, which its leader keeps until all are counted as finished.
        let job = unsafe { &*self.job.load(Ordering::Relaxed) };
        let mut done = 0;
        let mut next = Some(tasks);
        while let Some(tasks) = next {
            done += tasks.len();
            let outcome = catch_unwind(AssertUnwindSafe(|| tasks.for_each(|task| (job.task)(task as usize))));
            if let Err(thrown) = outcome {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(thrown);
            }
            next = self.shares[me].take(true).or_else(|| {
                let others = (1..self.shares.len()).map(|i| (me + i) % self.shares.len());
                others.into_iter().find_map(|other| self.shares[other].take(false))
            });
        }
        self.finished.0.fetch_add(done, Ordering::Release);
    }

    /// Runs a job as its leader and returns when all of it is done. Panics if one of its tasks did.
    fn run(&self, task: &(dyn Fn(usize) + Sync), count: u32) {
        let _role = Acting::new(Role::Member);
        let job = Job { task };
        self.job.store(ptr::from_ref(&job).cast::<Job<'static>>().cast_mut(), Ordering::Relaxed);
        self.finished.0.store(0, Ordering::Relaxed);
        let members = self.shares.len() as u64;
        let edge = |member: u64| (member * u64::from(count) / members) as u32;
        // The leader's share last: it is there already, the others are to see theirs early.
        for (member, share) in self.shares.iter().enumerate().rev() {
            let member = member as u64;
            share.set(edge(member)..edge(member + 1));
        }
        self.work(0, 0..0);
        let mut idle = 0;
        while self.finished.0.load(Ordering::Acquire) < count as usize {
            pause(&mut idle);
        }
        if let Some(thrown) = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(thrown);
        }
    }
}

fn pause(idle: &mut u32) {
    if *idle < SPINS {
        *idle += 1;
        std::hint::spin_loop();
    } else if GLOBAL {
        // There a yield does nothing.
        std::thread::sleep(Duration::from_micros(10));
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::*;

    fn pool(threads: usize) -> ThreadPool {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    const ROUNDS: usize = if cfg!(miri) { 4 } else { 500 };

    #[test]
    fn every_task_of_every_job_runs_once() {
        for threads in 1..=4 {
            pool(threads).install(|| {
                run_with_team(None, || {
                    for round in 0..ROUNDS {
                        let done: Vec<AtomicUsize> = (0..round % 70).map(|_| AtomicUsize::new(0)).collect();
                        parallel_for(done.len(), |i| _ = done[i].fetch_add(1, Ordering::Relaxed));
                        assert!(
                            done.iter().all(|n| n.load(Ordering::Relaxed) == 1),
                            "{threads} threads, round {round}"
                        );
                    }
                });
            });
        }
    }

    #[test]
    fn idle_threads_help() {
        let seen = Mutex::new(std::collections::BTreeSet::new());
        pool(2).install(|| {
            run_with_team(None, || {
                assert_eq!(threads(), 2);
                while seen.lock().unwrap().len() < 2 {
                    parallel_for(8, |_| {
                        assert_eq!(threads(), 1);
                        seen.lock().unwrap().insert(rayon::current_thread_index());
                        std::thread::yield_now();
                    });
                }
            });
        });
    }

    #[test]
    fn runs_side_by_side_do_not_mix() {
        let pool = pool(3);
        std::thread::scope(|scope| {
            for run in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    pool.install(|| {
                        run_with_team(None, || {
                            for round in 0..ROUNDS {
                                let sum = AtomicUsize::new(0);
                                parallel_for(20, |i| _ = sum.fetch_add(i * run + round, Ordering::Relaxed));
                                assert_eq!(sum.into_inner(), 190 * run + 20 * round);
                            }
                        });
                    });
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        pool(2).install(|| {
            run_with_team(None, || {
                for bad in [0, 5, 39] {
                    let done = AtomicUsize::new(0);
                    let thrown = catch_unwind(AssertUnwindSafe(|| {
                        parallel_for(40, |i| {
                            assert!(i != bad, "task {i} is bad");
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    }));
                    let message = *thrown.unwrap_err().downcast::<String>().unwrap();
                    assert_eq!(message, format!("task {bad} is bad"));
                    assert!(done.into_inner() < 40);
                    parallel_for(3, |_| ());
                }
            });
        });
    }

    #[test]
    fn tasks_within_tasks_run_where_they_are() {
        pool(2).install(|| {
            let count = AtomicUsize::new(0);
            parallel_for(4, |_| {
                let here = std::thread::current().id();
                parallel_for(4, |_| {
                    assert_eq!(std::thread::current().id(), here);
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert_eq!(count.into_inner(), 16);
        });
    }
}
