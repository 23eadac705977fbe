//! The threads that work on one inference, available for every layer.
//!
//! A layer of a small network takes ten microseconds, and waking a sleeping thread takes as long. So rayon lends
//! threads once for a whole run: idle threads join its [`Team`] and stay awake until it ends. Threads that are busy
//! with another inference do not join, and the present members do all the work; no member waits for absent threads.
//!
//! Within a team, a layer is a [`Job`]: numbered tasks, of which every member gets a share. Tasks are numbered along
//! the picture, so a member finds in its cache the part of the map that it wrote in the layer before. A member without
//! tasks takes tasks from the ends of other shares.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use rayon::ThreadPool;

use crate::lock::Lock;
use crate::run::task_share::{CacheLine, TaskShare, Tasks};

/// Number of polls for work before a thread yields its core. WebAssembly has no pause instruction, so a poll takes a
/// fraction of the time there.
const SPINS: u32 = if USES_GLOBAL_POOL { 60_000 } else { 2000 };

/// Whether the engine uses rayon's global pool. This is the case in browsers, where only the page can start threads; it
/// adds them to that pool (`wasm/src/threads.rs`).
pub(crate) const USES_GLOBAL_POOL: bool = cfg!(all(target_arch = "wasm32", target_feature = "atomics"));

/// Tasks of one layer.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
}

/// Threads that share the layers of one run: the leader, which started it, and helpers.
struct Team {
    /// One share for each possible member, the leader's first.
    shares: Vec<TaskShare>,
    /// Number of helpers that have joined.
    helpers: AtomicUsize,
    /// Number of finished tasks of the current job.
    finished: CacheLine<AtomicUsize>,
    /// The current job. Valid from before the shares are set until `finished` reaches the number of tasks.
    job: AtomicPtr<Job<'static>>,
    /// Whether the run has ended.
    over: AtomicBool,
    /// Payload of the first panic in the current job.
    panic: Lock<Option<Box<dyn Any + Send>>>,
}

/// Relation of a thread to the team of the current run.
#[derive(Clone, Copy)]
enum ThreadRole {
    /// The thread takes part in no run.
    Free,
    Leader(*const Team),
    /// The thread works on a task; loops inside the task use no other threads.
    Member,
}

thread_local! {
    static ROLE: Cell<ThreadRole> = const { Cell::new(ThreadRole::Free) };
}

/// Assigns a role to this thread until dropped.
struct RoleGuard(ThreadRole);

impl RoleGuard {
    fn new(role: ThreadRole) -> RoleGuard {
        RoleGuard(ROLE.replace(role))
    }
}

impl Drop for RoleGuard {
    fn drop(&mut self) {
        ROLE.set(self.0);
    }
}

/// Runs `work` on this thread, with a team of the idle threads of `pool`. The default pool is the pool of this thread,
/// or rayon's global pool with [`USES_GLOBAL_POOL`]. Inside a team, `work` uses that team.
pub(crate) fn run_with_team<R>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R) -> R {
    let size = match pool {
        Some(pool) => pool.current_num_threads(),
        None if USES_GLOBAL_POOL => rayon::current_num_threads(),
        None => threads(),
    };
    if size < 2 || !matches!(ROLE.get(), ThreadRole::Free) {
        return work();
    }
    let team = Arc::new(Team {
        shares: (0..size).map(|_| TaskShare::new()).collect(),
        helpers: AtomicUsize::new(0),
        finished: CacheLine(AtomicUsize::new(0)),
        job: AtomicPtr::new(ptr::null_mut()),
        over: AtomicBool::new(false),
        panic: Lock::new(None),
    });
    for _ in 1..size {
        let team = team.clone();
        let help = move || team.help();
        match pool {
            Some(pool) => pool.spawn(help),
            None => rayon::spawn(help),
        }
    }
    let _end = RunEnd(&team);
    let _role = RoleGuard::new(ThreadRole::Leader(&*team));
    work()
}

/// Maximum number of threads that the current loop can use.
pub(crate) fn threads() -> usize {
    match ROLE.get() {
        // Outside a pool, one: the global pool belongs to the program.
        ThreadRole::Free => rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads()),
        // SAFETY: `run_with_team` keeps the team until it has reset the role.
        ThreadRole::Leader(team) => unsafe { &*team }.shares.len(),
        ThreadRole::Member => 1,
    }
}

/// Calls `task` for 0 to `count`, on all members of the team.
pub(crate) fn parallel_for(count: usize, task: impl Fn(usize) + Sync) {
    match u32::try_from(count) {
        Ok(tasks) if tasks > 1 && threads() > 1 => run_with_team(None, || match ROLE.get() {
            // SAFETY: as above.
            ThreadRole::Leader(team) => unsafe { &*team }.run(&task, tasks),
            ThreadRole::Free | ThreadRole::Member => (0..count).for_each(&task),
        }),
        _ => (0..count).for_each(task),
    }
}

/// Tells the helpers that the run has ended, also after a panic.
struct RunEnd<'a>(&'a Team);

impl Drop for RunEnd<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Team {
    /// Works as a helper until the run ends.
    fn help(&self) {
        let me = 1 + self.helpers.fetch_add(1, Ordering::Relaxed);
        let _role = RoleGuard::new(ThreadRole::Member);
        let mut idle = 0;
        // Polls only its own share: reads of other shares would slow down their owners.
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

    /// Executes `tasks`, then the remaining tasks of the job.
    fn work(&self, me: usize, tasks: Tasks) {
        // SAFETY: the tasks belong to the current job, which the leader keeps until all tasks are counted as finished.
        let job = unsafe { &*self.job.load(Ordering::Relaxed) };
        let mut done = 0;
        let mut next = Some(tasks);
        while let Some(tasks) = next {
            done += tasks.len();
            let outcome = catch_unwind(AssertUnwindSafe(|| tasks.for_each(|task| (job.task)(task as usize))));
            if let Err(thrown) = outcome {
                self.panic.lock().get_or_insert(thrown);
            }
            next = self.shares[me].take(true).or_else(|| {
                let others = (1..self.shares.len()).map(|i| (me + i) % self.shares.len());
                others.into_iter().find_map(|other| self.shares[other].take(false))
            });
        }
        self.finished.0.fetch_add(done, Ordering::Release);
    }

    /// Executes a job as its leader. Returns when all tasks are finished; panics if a task panicked.
    fn run(&self, task: &(dyn Fn(usize) + Sync), count: u32) {
        let _role = RoleGuard::new(ThreadRole::Member);
        let job = Job { task };
        self.job.store(ptr::from_ref(&job).cast::<Job<'static>>().cast_mut(), Ordering::Relaxed);
        self.finished.0.store(0, Ordering::Relaxed);
        let members = self.shares.len() as u64;
        let edge = |member: u64| (member * u64::from(count) / members) as u32;
        // The leader's share last, so that helpers can begin early.
        for (member, share) in self.shares.iter().enumerate().rev() {
            let member = member as u64;
            share.set(edge(member)..edge(member + 1));
        }
        self.work(0, 0..0);
        let mut idle = 0;
        while self.finished.0.load(Ordering::Acquire) < count as usize {
            pause(&mut idle);
        }
        if let Some(thrown) = self.panic.lock().take() {
            resume_unwind(thrown);
        }
    }
}

/// Waits between two polls for work; `idle` counts the polls.
fn pause(idle: &mut u32) {
    if *idle < SPINS {
        *idle += 1;
        std::hint::spin_loop();
    } else if USES_GLOBAL_POOL {
        // In a browser, a yield has no effect.
        std::thread::sleep(Duration::from_micros(10));
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::*;

    fn pool(threads: usize) -> ThreadPool {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    const ROUNDS: usize = if cfg!(miri) { 4 } else { 500 };

    #[test]
    fn team_runs_every_task_once() {
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
    fn team_includes_idle_threads() {
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
    fn team_handles_concurrent_runs() {
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
    fn team_continues_after_a_panic_of_a_task() {
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
    fn team_runs_nested_loops_on_the_thread_of_the_task() {
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
