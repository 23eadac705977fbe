//! A network: the graph is decoded once; for each input shape it is fused, compiled and cached as a [`Plan`].

use std::path::Path;
use std::sync::Arc;

use tract_onnx::prelude::*;

use crate::compile::compile;
use crate::compile::weights::WeightSources;
use crate::config;
use crate::error::EngineError;
use crate::graph::Graph;
use crate::graph::lower::lower;
use crate::graph::passes::fuse;
use crate::import::infer_shapes::typed;
use crate::import::model::{OnnxModel, TensorInfo};
use crate::import::stored_weights::ModelBytes;
use crate::import::upsample::reader;
use crate::layout::pack::PackCache;
use crate::panic_barrier::guarded;
use crate::plan::Plan;
use crate::plan_cache::PlanCache;
use crate::run::threads;
use crate::simd::Isa;

/// The implementation that runs a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The fused program with the engine's kernels; tract runs the layers that the engine does not know.
    Fused,
    /// tract, on its own optimized graph. The oracle of the tests.
    Tract,
}

/// A network from ONNX bytes and the cache of its plans. Share it between threads with an [`Arc`].
pub struct Network {
    name: String,
    onnx: OnnxModel,
    backend: Backend,
    isa: Isa,
    packed: PackCache,
    plans: PlanCache<Plan>,
}

impl Network {
    /// Decodes an ONNX model. Errors and reports contain `name`. The graph is compiled later, by [`Network::plan`].
    ///
    /// Errs if the bytes are not ONNX, or if the graph does not have exactly one input of 4 dimensions.
    pub fn from_onnx(bytes: &[u8], name: &str) -> Result<Network, EngineError> {
        Self::decode(ModelBytes::Shared(bytes.into()), name)
    }

    /// As [`Network::from_onnx`], for bytes that are part of the program, without a copy.
    pub fn from_static(bytes: &'static [u8], name: &str) -> Result<Network, EngineError> {
        Self::decode(ModelBytes::Static(bytes), name)
    }

    /// As [`Network::from_onnx`], for a file. Weights are read for the preparation of a plan. The file must not change
    /// while the network is in use; otherwise later plans err.
    pub fn from_file(path: &Path, name: &str) -> Result<Network, EngineError> {
        match ModelBytes::open(path) {
            Ok(bytes) => Self::decode(bytes, name),
            Err(error) => Err(EngineError::NotOnnx { name: name.into(), bytes: 0, source: error.into() }),
        }
    }

    fn decode(bytes: ModelBytes, name: &str) -> Result<Network, EngineError> {
        Ok(Network {
            name: name.into(),
            onnx: OnnxModel::decode(bytes, name)?,
            backend: if config::prefers_tract() { Backend::Tract } else { Backend::Fused },
            isa: Isa::detect(),
            packed: PackCache::default(),
            plans: PlanCache::default(),
        })
    }

    /// The same network, run by `backend`.
    pub fn with_backend(self, backend: Backend) -> Network {
        Network { backend, plans: PlanCache::default(), ..self }
    }

    /// The name given to [`Network::from_onnx`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The input; its shape has four dimensions, batch first.
    pub fn input(&self) -> TensorInfo {
        self.onnx.input()
    }

    /// The outputs, in the graph's order.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.onnx.outputs()
    }

    /// Whether the graph normalizes its input itself, so that it takes values from 0 to 255.
    pub fn normalizes_input(&self) -> bool {
        self.onnx.normalizes_input()
    }

    /// The plan for one input shape, batch first. The first call prepares it, which can take seconds. The plans of the
    /// 16 most recently used image sizes stay in memory. Errs if the graph does not support the shape.
    pub fn plan(&self, shape: &[usize]) -> Result<Arc<Plan>, EngineError> {
        self.plans.get(shape, || self.prepare(shape))
    }

    #[cfg(test)]
    pub(crate) fn plans(&self) -> &PlanCache<Plan> {
        &self.plans
    }

    /// Prepares a plan: on the engine, or on tract if the engine cannot compile the graph.
    fn prepare(&self, shape: &[usize]) -> Result<Plan, EngineError> {
        let fail = |source| EngineError::Prepare { name: self.name.clone(), shape: shape.to_vec(), source };
        let on_tract = || guarded(|| self.tract(shape)).map_err(fail);
        match self.backend {
            Backend::Tract => on_tract(),
            Backend::Fused => guarded(|| self.fused(shape)).map_err(fail).or_else(|error| {
                // tract may be able to run a graph that the engine cannot compile.
                let plan = on_tract()?;
                tracing::warn!("{}: tract runs the whole network: {error}", self.name);
                Ok(plan)
            }),
        }
    }

    /// The graph for one input shape after fusion.
    pub(crate) fn graph(&self, shape: &[usize]) -> TractResult<Graph> {
        let mut graph = lower(typed(self.inference_model(shape)?)?, &self.onnx.weights)?;
        fuse(&mut graph, self.isa.lanes());
        Ok(graph)
    }

    /// tract's untyped graph for one input shape.
    pub(crate) fn inference_model(&self, shape: &[usize]) -> TractResult<InferenceModel> {
        reader().model_for_proto_model(&self.onnx.with_input_shape(shape))
    }

    /// A plan that the engine runs.
    fn fused(&self, shape: &[usize]) -> TractResult<Plan> {
        let graph = self.graph(shape)?;
        let sources = WeightSources { weights: &self.onnx.weights, cache: &self.packed };
        let program = threads::prepare(|| compile(&graph, self.isa, &sources))?;
        let output_shapes = graph.outputs.iter().map(|&o| graph.shape(o).to_vec()).collect();
        Ok(Plan::fused(&self.name, shape, output_shapes, program))
    }

    /// A plan that tract runs.
    fn tract(&self, shape: &[usize]) -> TractResult<Plan> {
        let proto = self.onnx.complete(shape)?;
        let model = reader().model_for_proto_model(&proto)?.into_optimized()?.into_runnable()?;
        Plan::tract(&self.name, shape, model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan_cache::MAX_IMAGE_SIZES;

    fn network() -> Network {
        let bytes = include_bytes!("../../../models/onnx/centerface/centerface.onnx");
        Network::from_static(bytes, "centerface").unwrap()
    }

    #[test]
    fn plans_of_recent_image_sizes_are_kept() {
        let network = network();
        let side = |i: usize| 32 * (1 + i);
        let first = network.plan(&[1, 3, 32, side(0)]).unwrap();
        let busy = network.plan(&[1, 3, 32, side(1)]).unwrap();
        for i in 2..2 * MAX_IMAGE_SIZES {
            network.plan(&[1, 3, 32, side(i)]).unwrap();
            // A plan in constant use is kept.
            assert!(Arc::ptr_eq(&network.plan(&[1, 3, 32, side(1)]).unwrap(), &busy));
        }
        assert_eq!(network.plans().len(), MAX_IMAGE_SIZES);
        assert!(!Arc::ptr_eq(&network.plan(&[1, 3, 32, side(0)]).unwrap(), &first), "dropped, and prepared again");
        // A dropped plan remains usable for its holders.
        assert_eq!(first.run(first.view(&[0.0; 3 * 32 * 32]).unwrap()).unwrap().len(), 4);
    }

    #[test]
    fn plans_of_all_batch_sizes_are_kept() {
        let network = network();
        let plans: Vec<_> = (1..=MAX_IMAGE_SIZES + 4).map(|n| network.plan(&[n, 3, 32, 32]).unwrap()).collect();
        assert_eq!(network.plans().len(), MAX_IMAGE_SIZES + 4);
        for (n, plan) in (1..).zip(&plans) {
            assert!(Arc::ptr_eq(plan, &network.plan(&[n, 3, 32, 32]).unwrap()));
        }
    }

    #[test]
    fn plans_of_failed_shapes_are_not_kept() {
        let network = network();
        for width in 1..40 {
            assert!(network.plan(&[1, 4, 32, 32 * width]).is_err(), "four colors");
        }
        assert_eq!(network.plans().len(), 0);
    }
}
