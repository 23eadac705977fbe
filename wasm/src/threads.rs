//! The engine's threads in a browser: workers that share the memory of one module.
//!
//! Only JavaScript can start a worker, and not while it is blocked in this module. Therefore `js/index.ts` starts the
//! workers first. Each calls `runThread` and waits for `buildThreads`, which makes the workers the threads of rayon's
//! global pool.

use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::*;

/// Threads of the pool that have no worker yet.
static WAITING: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
static ADDED: Condvar = Condvar::new();

/// Builds the engine's pool from `count` workers. Blocks until that number of workers has called `runThread`.
#[wasm_bindgen(js_name = buildThreads, skip_typescript)]
pub fn build_threads(count: usize) -> Result<(), JsError> {
    let start = |thread| {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        ADDED.notify_one();
        Ok(())
    };
    Ok(ThreadPoolBuilder::new().num_threads(count).spawn_handler(start).build_global()?)
}

/// Makes the calling worker a thread of the pool. Does not return, because the pool is never dropped.
#[wasm_bindgen(js_name = runThread, skip_typescript)]
pub fn run_thread() {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = loop {
        match waiting.pop() {
            Some(thread) => break thread,
            None => waiting = ADDED.wait(waiting).unwrap_or_else(PoisonError::into_inner),
        }
    };
    drop(waiting);
    thread.run();
}

/// Maximum number of threads per analysis.
#[wasm_bindgen(js_name = threadCount, skip_typescript)]
pub fn thread_count() -> usize {
    ifr_faces::engine::threads()
}

/// The memory of the module, which the workers must share.
#[wasm_bindgen(js_name = threadMemory, skip_typescript)]
pub fn thread_memory() -> JsValue {
    wasm_bindgen::memory()
}
