//! Keeps strange files from taking the process down.
//!
//! tract asserts here and there on graphs it did not expect. While a graph is prepared, such a panic is an error of that graph, and
//! prints nothing: what users see is the error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use tract_onnx::pb::GraphProto;

/// No network's kernels reach further, in pixels; numbers beyond make sizes overflow or loops run for hours.
const LARGEST_GEOMETRY: i64 = 4096;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; `None` if it panicked.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Option<R> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                others(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    QUIET.set(before);
    result
}

/// Errs, with what is wrong where, if a convolution or pool of the graph has a geometry that no network has.
pub(crate) fn check_geometry(graph: &GraphProto) -> Result<(), String> {
    for node in &graph.node {
        for attribute in &node.attribute {
            let least = match attribute.name.as_str() {
                "pads" | "output_padding" => 0,
                "strides" | "dilations" | "kernel_shape" => 1,
                _ => continue,
            };
            // Pad takes away with negative numbers.
            let least = if node.op_type == "Pad" { -LARGEST_GEOMETRY } else { least };
            if let Some(odd) = attribute.ints.iter().find(|n| !(least..=LARGEST_GEOMETRY).contains(n)) {
                let name = if node.name.is_empty() { &node.op_type } else { &node.name };
                return Err(format!(
                    "node {name} has {odd} among its {}, where {least} to {LARGEST_GEOMETRY} is possible",
                    attribute.name
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{AttributeProto, NodeProto};

    use super::*;

    #[test]
    fn a_panic_is_a_missing_result() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| -> i32 { panic!("not to be seen") }), None);
        assert!(!QUIET.get());
    }

    #[test]
    fn geometry_is_bounded() {
        let graph = |name: &str, ints: &[i64]| GraphProto {
            node: vec![NodeProto {
                op_type: "Conv".into(),
                attribute: vec![AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(check_geometry(&graph("pads", &[0, 0, 1, 1])), Ok(()));
        assert_eq!(check_geometry(&graph("axes", &[-1])), Ok(()));
        for (name, ints) in
            [("pads", [1 << 40, 0]), ("pads", [-1, 0]), ("strides", [0, 1]), ("kernel_shape", [3, 5000])]
        {
            let error = check_geometry(&graph(name, &ints)).unwrap_err();
            assert!(error.contains("Conv") && error.contains(name), "{error}");
        }
    }
}
