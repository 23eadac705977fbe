//! A network and its plans: the graph is read once; for each input shape it is fused, compiled and kept.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArrayD, ArrayView, ArrayViewD, Dimension};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TractErrorContext;

use crate::compile::compile;
use crate::compile::weights::Sources;
use crate::error::EngineError;
use crate::graph::Graph;
use crate::graph::lower::lower;
use crate::graph::passes::fuse;
use crate::import::infer_shapes::typed;
use crate::import::model::{OnnxModel, TensorInfo};
use crate::import::stored_weights::Bytes;
use crate::import::upsample::reader;
use crate::layout::pack::PackCache;
use crate::ops::Operands;
use crate::panic_barrier::guarded;
use crate::plan_cache::PlanCache;
use crate::run::arena::Arena;
use crate::run::program::{Program, StepInfo};
use crate::run::threads;
use crate::simd::Isa;

/// Which implementation runs a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The fused program, with tract where the engine knows no better.
    Fused,
    /// tract alone, on its own optimised graph: the oracle of the tests.
    Tract,
}

impl Backend {
    /// `IFR_ENGINE=tract` chooses tract.
    fn from_environment() -> Backend {
        match std::env::var("IFR_ENGINE").as_deref() {
            Ok("tract") => Backend::Tract,
            _ => Backend::Fused,
        }
    }
}

/// A network read from ONNX bytes, with its plans. Cheap to share: put it in an [`Arc`].
pub struct Network {
    name: String,
    onnx: OnnxModel,
    backend: Backend,
    isa: Isa,
    packed: PackCache,
    plans: PlanCache,
}

impl Network {
    /// Decodes `bytes`; `name` is what errors call the network. Nothing is optimised yet: see [`Network::plan`].
    pub fn from_onnx(bytes: &[u8], name: &str) -> Result<Network, EngineError> {
        Self::decode(Bytes::Shared(bytes.into()), name)
    }

    /// The same for bytes that are part of the program, which are then not copied.
    pub fn from_static(bytes: &'static [u8], name: &str) -> Result<Network, EngineError> {
        Self::decode(Bytes::Static(bytes), name)
    }

    /// The same for a file, whose weights are read when they are needed instead of all at once. The file must not change as
    /// long as the network is in use.
    pub fn from_file(path: &Path, name: &str) -> Result<Network, EngineError> {
        let bytes = Bytes::open(path).map_err(|e| EngineError::NotOnnx {
            name: name.into(),
            bytes: 0,
            detail: e.to_string(),
        })?;
        Self::decode(bytes, name)
    }

    fn decode(bytes: Bytes, name: &str) -> Result<Network, EngineError> {
        Ok(Network {
            name: name.into(),
            onnx: OnnxModel::decode(bytes, name)?,
            backend: Backend::from_environment(),
            isa: Isa::detect(),
            packed: PackCache::default(),
            plans: PlanCache::default(),
        })
    }

    /// The same network run by `backend`.
    pub fn with_backend(self, backend: Backend) -> Network {
        Network { backend, plans: PlanCache::default(), ..self }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image input; its shape has four dimensions, batch first.
    pub fn input(&self) -> TensorInfo {
        self.onnx.input()
    }

    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.onnx.outputs()
    }

    /// Whether the graph normalises its input itself and so takes bytes as they are, 0 to 255.
    pub fn normalizes_input(&self) -> bool {
        self.onnx.normalizes_input()
    }

    /// The plan for one input shape, prepared at the first call and kept as long as no more than 16 other image sizes are asked for.
    /// Errs when the graph cannot take that shape.
    pub fn plan(&self, shape: &[usize]) -> Result<Arc<Plan>, EngineError> {
        self.plans.get(shape, || self.prepare(shape))
    }

    #[cfg(test)]
    pub(crate) fn plans(&self) -> &PlanCache {
        &self.plans
    }

    fn prepare(&self, shape: &[usize]) -> Result<Plan, EngineError> {
        let fail = |detail: String| EngineError::Prepare { name: self.name.clone(), shape: shape.to_vec(), detail };
        let guarded = |work: &dyn Fn() -> TractResult<(Runner, Vec<Vec<usize>>)>| {
            guarded(work).ok_or_else(|| fail("the graph is inconsistent".into()))?.map_err(|e| fail(format!("{e:#}")))
        };
        let fused = match self.backend {
            Backend::Fused => guarded(&|| self.fused(shape)),
            Backend::Tract => guarded(&|| self.tract(shape)),
        };
        let (runner, output_shapes) = match fused {
            Err(error) if self.backend == Backend::Fused => {
                // A graph that the engine cannot compile may still be one that tract can run.
                let whole = guarded(&|| self.tract(shape))?;
                tracing::warn!("{}: runs on plain tract: {error}", self.name);
                whole
            }
            other => other?,
        };
        Ok(Plan { name: self.name.clone(), input_shape: shape.to_vec(), output_shapes, runner })
    }

    /// The graph for one input shape after fusion.
    pub(crate) fn graph(&self, shape: &[usize]) -> TractResult<Graph> {
        let mut graph = lower(typed(self.inference_model(shape)?)?, &self.onnx.weights)?;
        fuse(&mut graph, self.isa.lanes());
        Ok(graph)
    }

    /// The graph as tract reads it, for one input shape.
    pub(crate) fn inference_model(&self, shape: &[usize]) -> TractResult<InferenceModel> {
        reader().model_for_proto_model(&self.onnx.with_input_shape(shape))
    }

    fn fused(&self, shape: &[usize]) -> TractResult<(Runner, Vec<Vec<usize>>)> {
        let graph = self.graph(shape)?;
        let sources = Sources { weights: &self.onnx.weights, cache: &self.packed };
        let program = threads::prepare(|| compile(&graph, self.isa, &sources))?;
        let output_shapes = graph.outputs.iter().map(|&o| graph.shape(o).to_vec()).collect();
        Ok((Runner::Fused { program, arenas: Mutex::default() }, output_shapes))
    }

    fn tract(&self, shape: &[usize]) -> TractResult<(Runner, Vec<Vec<usize>>)> {
        let proto = self.onnx.complete(shape).map_err(TractError::msg)?;
        let runnable = reader().model_for_proto_model(&proto)?.into_optimized()?.into_runnable()?;
        let mut output_shapes = vec![];
        for &outlet in runnable.model().output_outlets()? {
            let fact = runnable.model().outlet_fact(outlet)?;
            output_shapes.push(fact.shape.as_concrete().context("an output has no fixed shape")?.to_vec());
        }
        Ok((Runner::Tract(runnable), output_shapes))
    }
}

enum Runner {
    Fused { program: Program, arenas: Mutex<Vec<Arena>> },
    Tract(Arc<TypedRunnableModel>),
}

/// A network prepared for one input shape; may run on several threads at once.
pub struct Plan {
    name: String,
    input_shape: Vec<usize>,
    output_shapes: Vec<Vec<usize>>,
    runner: Runner,
}

impl Plan {
    pub fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What reports say about the steps; one step for all when tract runs the whole network.
    pub(crate) fn step_infos(&self) -> Vec<StepInfo> {
        match &self.runner {
            Runner::Fused { program, .. } => program.steps.iter().map(|s| s.info.clone()).collect(),
            Runner::Tract(_) => vec![StepInfo {
                name: self.name.clone(),
                op: "tract",
                algorithm: "whole network".into(),
                input_shape: self.input_shape.clone(),
                output_shape: self.output_shapes.first().cloned().unwrap_or_default(),
                flops: 0,
            }],
        }
    }

    /// Memory of one running inference.
    pub(crate) fn arena_bytes(&self) -> usize {
        match &self.runner {
            Runner::Fused { program, .. } => program.arena_floats * size_of::<f32>(),
            Runner::Tract(_) => 0,
        }
    }

    /// Shapes of the outputs, in the graph's order.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    /// Views `values`, row-major, as the plan's input. Errs when their number is not that of [`Plan::input_shape`].
    pub fn view<'a>(&self, values: &'a [f32]) -> Result<ArrayViewD<'a, f32>, EngineError> {
        ArrayViewD::from_shape(self.input_shape.as_slice(), values).map_err(|_| EngineError::InputLength {
            name: self.name.clone(),
            expected: self.input_shape.iter().product(),
            got: values.len(),
        })
    }

    /// Runs the network on an input of [`Plan::input_shape`]. Returns the outputs in the graph's order, each in row-major layout.
    ///
    /// The input is copied only when its layout is not row-major.
    pub fn run<D: Dimension>(&self, input: ArrayView<f32, D>) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let mut outputs = self.new_outputs();
        self.run_into(input, &mut outputs)?;
        Ok(outputs)
    }

    /// Arrays to pass to [`Plan::run_into`].
    pub fn new_outputs(&self) -> Vec<ArrayD<f32>> {
        self.output_shapes.iter().map(|shape| ArrayD::zeros(shape.as_slice())).collect()
    }

    /// As [`Plan::run`], into arrays of an earlier run or of [`Plan::new_outputs`]. Allocates nothing, except for the coordination of
    /// several threads and in layers that tract runs.
    pub fn run_into<D: Dimension>(
        &self,
        input: ArrayView<f32, D>,
        outputs: &mut [ArrayD<f32>],
    ) -> Result<(), EngineError> {
        self.run_observed(input, outputs, |_| {})
    }

    /// As [`Plan::run_into`]; `after` is called with the index of each step when it is done.
    pub(crate) fn run_observed<D: Dimension>(
        &self,
        input: ArrayView<f32, D>,
        outputs: &mut [ArrayD<f32>],
        after: impl FnMut(usize) + Send,
    ) -> Result<(), EngineError> {
        if input.shape() != self.input_shape {
            let (expected, got) = (self.input_shape.clone(), input.shape().to_vec());
            return Err(EngineError::InputShape { name: self.name.clone(), expected, got });
        }
        let fits = outputs.len() == self.output_shapes.len()
            && outputs
                .iter()
                .zip(&self.output_shapes)
                .all(|(o, s)| o.shape() == s.as_slice() && o.is_standard_layout());
        if !fits {
            return Err(EngineError::OutputShapes {
                name: self.name.clone(),
                expected: self.output_shapes.clone(),
                got: outputs.iter().map(|o| o.shape().to_vec()).collect(),
            });
        }
        let mut slices: Operands<&mut [f32]> = outputs.iter_mut().filter_map(|o| o.as_slice_mut()).collect();
        match input.as_slice() {
            Some(values) => self.run_slices(values, &mut slices, after),
            None => self.run_slices(&input.iter().copied().collect::<Vec<f32>>(), &mut slices, after),
        }
        .map_err(|e| EngineError::Run { name: self.name.clone(), detail: format!("{e:#}") })
    }

    /// Runs the network on row-major values of the plan's shapes.
    fn run_slices(
        &self,
        input: &[f32],
        outputs: &mut [&mut [f32]],
        mut after: impl FnMut(usize) + Send,
    ) -> TractResult<()> {
        match &self.runner {
            Runner::Fused { program, arenas } => {
                let idle = || arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut arena = idle().unwrap_or_else(|| Arena::new(program.arena_floats));
                let result = threads::run(|| program.run(input, outputs, arena.floats(), after));
                arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
                result
            }
            Runner::Tract(runnable) => {
                let _guard = threads::FlushDenormals::new();
                let tensor = Tensor::from_shape(&self.input_shape, input)?;
                for (result, output) in runnable.run(tvec!(tensor.into()))?.iter().zip(outputs) {
                    let view = result.to_plain_array_view::<f32>()?;
                    output.iter_mut().zip(view.iter()).for_each(|(o, v)| *o = *v);
                }
                after(0);
                Ok(())
            }
        }
    }
}
