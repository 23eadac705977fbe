//! A network that has run before takes no memory for another run: all it needs is in its arena and in what its threads
//! keep.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ifr_engine::{Network, set_threads};

/// The system's allocator, counting what it is asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Relaxed);
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test of its program: others would allocate beside it.
#[test]
fn a_network_runs_again_without_taking_memory() {
    assert!(set_threads(1));
    let mut checked = 0;
    let mut wasteful = vec![];
    for path in common::model_files() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let network = Network::from_file(&path, &name).unwrap();
        let shape = common::input_shape(&network, 1);
        let plan = network.plan(&shape).unwrap();
        let input: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 251) as f32 / 251.0 - 0.5).collect();
        let mut outputs = plan.new_outputs();
        plan.run_into(plan.view(&input).unwrap(), &mut outputs).unwrap();
        let before = ASKED.load(Relaxed);
        for _ in 0..3 {
            plan.run_into(plan.view(&input).unwrap(), &mut outputs).unwrap();
        }
        match ASKED.load(Relaxed) - before {
            0 => checked += 1,
            asked => wasteful.push((name, asked)),
        }
    }
    assert!(wasteful.is_empty(), "networks that allocate, and how often in three runs: {wasteful:?}");
    assert!(checked >= 2, "the default pack is part of the repository");
}
