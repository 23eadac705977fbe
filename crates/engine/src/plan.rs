//! A network prepared for one input shape.

use std::sync::Arc;

use ndarray::{ArrayD, ArrayView, ArrayViewD, Dimension};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TractErrorContext;

use crate::error::{EngineError, ExecutionError};
use crate::ops::Operands;
use crate::run::arena::ArenaPool;
use crate::run::denormals::FlushDenormals;
use crate::run::program::{Program, StepInfo};
use crate::run::threads;

/// The implementation that runs a plan.
enum Runner {
    Fused { program: Program, arenas: ArenaPool },
    Tract(Arc<TypedRunnableModel>),
}

/// A network prepared for one input shape. It can run on several threads at the same time.
pub struct Plan {
    name: String,
    input_shape: Vec<usize>,
    output_shapes: Vec<Vec<usize>>,
    runner: Runner,
}

impl Plan {
    /// A plan that runs `program`.
    pub(crate) fn fused(name: &str, input_shape: &[usize], output_shapes: Vec<Vec<usize>>, program: Program) -> Plan {
        let arenas = ArenaPool::new(program.arena_floats);
        let runner = Runner::Fused { program, arenas };
        Plan { name: name.into(), input_shape: input_shape.to_vec(), output_shapes, runner }
    }

    /// A plan that runs on tract. Errs if the shape of an output depends on the data.
    pub(crate) fn tract(name: &str, input_shape: &[usize], model: Arc<TypedRunnableModel>) -> TractResult<Plan> {
        let mut output_shapes = vec![];
        for &outlet in model.model().output_outlets()? {
            let fact = model.model().outlet_fact(outlet)?;
            output_shapes.push(fact.shape.as_concrete().context("an output has no fixed shape")?.to_vec());
        }
        Ok(Plan { name: name.into(), input_shape: input_shape.to_vec(), output_shapes, runner: Runner::Tract(model) })
    }

    /// Shape of the input, batch first.
    pub fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    /// Name of the network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Descriptions of the steps; a single step if tract runs the whole network.
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

    /// Size of the arena of one inference, in bytes; 0 if tract runs the whole network.
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

    /// Views row-major `values` as the input of the plan. Errs if their number does not match [`Plan::input_shape`].
    pub fn view<'a>(&self, values: &'a [f32]) -> Result<ArrayViewD<'a, f32>, EngineError> {
        ArrayViewD::from_shape(self.input_shape.as_slice(), values).map_err(|_| EngineError::InputLength {
            name: self.name.clone(),
            expected: self.input_shape.iter().product(),
            got: values.len(),
        })
    }

    /// Runs the network on an input of [`Plan::input_shape`]. Returns the outputs in the graph's order, each row-major.
    ///
    /// The input is copied only if it is not row-major. Errs if the input has another shape.
    pub fn run<D: Dimension>(&self, input: ArrayView<f32, D>) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let mut outputs = self.new_outputs();
        self.run_into(input, &mut outputs)?;
        Ok(outputs)
    }

    /// Arrays for [`Plan::run_into`], filled with zeros.
    pub fn new_outputs(&self) -> Vec<ArrayD<f32>> {
        self.output_shapes.iter().map(|shape| ArrayD::zeros(shape.as_slice())).collect()
    }

    /// As [`Plan::run`], into arrays from an earlier run or from [`Plan::new_outputs`]. Allocates no memory, except to
    /// coordinate several threads and in layers that tract runs. Errs also if the arrays do not fit the outputs.
    pub fn run_into<D: Dimension>(
        &self,
        input: ArrayView<f32, D>,
        outputs: &mut [ArrayD<f32>],
    ) -> Result<(), EngineError> {
        self.run_observed(input, outputs, |_| {})
    }

    /// As [`Plan::run_into`]; `after` is called with the index of each finished step.
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
        .map_err(|e| EngineError::Run { name: self.name.clone(), source: ExecutionError::graph(e) })
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
                let mut arena = arenas.take();
                threads::run(|| program.run(input, outputs, arena.floats(), after))
            }
            Runner::Tract(runnable) => {
                let _guard = FlushDenormals::new();
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::network::Network;

    fn idle_arenas(plan: &Plan) -> usize {
        match &plan.runner {
            Runner::Fused { arenas, .. } => arenas.idle(),
            Runner::Tract(_) => panic!("the engine runs this network"),
        }
    }

    #[test]
    fn arenas_are_freed_after_a_burst() {
        let bytes = include_bytes!("../../../models/onnx/centerface/centerface.onnx");
        let plan = Network::from_static(bytes, "centerface").unwrap().plan(&[1, 3, 32, 32]).unwrap();
        let limit = threads::max_concurrent_runs();
        let burst = 4 * limit + 8;
        let input = vec![0.5; 3 * 32 * 32];
        let expected = plan.run(plan.view(&input).unwrap()).unwrap();
        assert_eq!(idle_arenas(&plan), 1);
        // Every run holds its arena until all runs have one.
        let (plan, barrier) = (&plan, &Barrier::new(burst));
        std::thread::scope(|scope| {
            for _ in 0..burst {
                scope.spawn(|| {
                    let mut outputs = plan.new_outputs();
                    let wait = |step| {
                        if step == 0 {
                            barrier.wait();
                        }
                    };
                    threads::run_on_this_thread(|| {
                        plan.run_observed(plan.view(&input).unwrap(), &mut outputs, wait).unwrap()
                    });
                    assert_eq!(outputs, expected);
                });
            }
        });
        assert_eq!(idle_arenas(plan), limit);
    }
}
