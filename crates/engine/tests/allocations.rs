//! The second run of a network allocates no memory: it uses its arena and the buffers that its threads keep.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ifr_engine::{Network, set_threads};
use ifr_testing::model_files;

/// The system allocator with a counter of allocations.
struct CountingAllocator;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

// The only test of its binary: allocations of other tests would be counted, too.
#[test]
fn plan_runs_again_without_allocations() {
    assert!(set_threads(1));
    let mut checked = 0;
    let mut allocating = vec![];
    for path in model_files() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let network = Network::from_file(&path, &name).unwrap();
        let shape = common::input_shape(&network, 1);
        let plan = network.plan(&shape).unwrap();
        let input: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 251) as f32 / 251.0 - 0.5).collect();
        let mut outputs = plan.new_outputs();
        plan.run_into(plan.view(&input).unwrap(), &mut outputs).unwrap();
        let before = ALLOCATIONS.load(Relaxed);
        for _ in 0..3 {
            plan.run_into(plan.view(&input).unwrap(), &mut outputs).unwrap();
        }
        match ALLOCATIONS.load(Relaxed) - before {
            0 => checked += 1,
            count => allocating.push((name, count)),
        }
    }
    assert!(allocating.is_empty(), "number of allocations in three runs: {allocating:?}");
    assert!(checked >= 2, "the repository contains the default models");
}
