//! Checks of a graph before tract reads it.

use tract_onnx::pb::GraphProto;

use crate::error::ImportError;

/// Maximum size of kernels, strides, dilations and padding, in pixels. Larger sizes could overflow, or loops could run
/// for hours.
const MAX_GEOMETRY: i64 = 4096;

/// Errs if a convolution or pool has a size outside of the limits.
pub(crate) fn check_geometry(graph: &GraphProto) -> Result<(), ImportError> {
    for node in &graph.node {
        for attribute in &node.attribute {
            let min = match attribute.name.as_str() {
                "pads" | "output_padding" => 0,
                "strides" | "dilations" | "kernel_shape" => 1,
                _ => continue,
            };
            // Negative values of Pad crop.
            let min = if node.op_type == "Pad" { -MAX_GEOMETRY } else { min };
            if let Some(&value) = attribute.ints.iter().find(|n| !(min..=MAX_GEOMETRY).contains(n)) {
                let node = if node.name.is_empty() { &node.op_type } else { &node.name }.clone();
                let attribute = attribute.name.clone();
                return Err(ImportError::Geometry { node, attribute, value, min, max: MAX_GEOMETRY });
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
    fn check_geometry_names_node_and_attribute() {
        let graph = |name: &str, ints: &[i64]| GraphProto {
            node: vec![NodeProto {
                op_type: "Conv".into(),
                attribute: vec![AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        check_geometry(&graph("pads", &[0, 0, 1, 1])).unwrap();
        check_geometry(&graph("axes", &[-1])).unwrap();
        for (name, ints) in
            [("pads", [1 << 40, 0]), ("pads", [-1, 0]), ("strides", [0, 1]), ("kernel_shape", [3, 5000])]
        {
            let error = check_geometry(&graph(name, &ints)).unwrap_err().to_string();
            assert!(error.contains("Conv") && error.contains(name), "{error}");
        }
    }
}
