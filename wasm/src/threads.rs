//! The engine's threads in a browser: workers of the page, all with the memory of the module that analyses.
//!
//! Only JavaScript can start a worker, and only while the worker that starts it is not inside this module. So `js/index.ts` starts
//! them first; each calls `runThread` and waits for `buildThreads`, which gives every one of them a thread of rayon's global pool.

use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::*;

/// Threads of the pool that no worker has taken on yet.
static WAITING: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
static ADDED: Condvar = Condvar::new();

/// Makes the engine's pool out of `count` workers. All of them have the module instantiated and are about to call `runThread`, or
/// this never returns.
#[wasm_bindgen(js_name = buildThreads, skip_typescript)]
pub fn build_threads(count: usize) -> Result<(), JsError> {
    let start = |thread| {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        ADDED.notify_one();
        Ok(())
    };
    Ok(ThreadPoolBuilder::new().num_threads(count).spawn_handler(start).build_global()?)
}

/// Makes the calling worker a thread of the pool. Does not return as long as the pool lives, which is for good.
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

/// Threads that one analysis may use.
#[wasm_bindgen(js_name = threadCount, skip_typescript)]
pub fn thread_count() -> usize {
    ifr_faces::engine::threads()
}

/// The memory that the workers have to be given.
#[wasm_bindgen(js_name = threadMemory, skip_typescript)]
pub fn thread_memory() -> JsValue {
    wasm_bindgen::memory()
}
