//! Import: from ONNX bytes to tract's typed graph.

pub(crate) mod infer_shapes;
pub(crate) mod model;
pub(crate) mod resize_input;
pub(crate) mod sanity;
pub(crate) mod stored_weights;
pub(crate) mod upsample;
