//! From fused layers to a program: which layout each value has, which buffer it lives in, which step computes it.
//!
//! Maps stay channel-blocked from the first convolution to the last; a step that needs another layout is preceded by a
//! copy, made once and shared. Concatenations are free where every operand can be computed in its place; channel ranges
//! and reshapes are views.

mod chains;
mod concat;
mod finish;
pub(crate) mod weights;

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::compile::weights::Sources;
use crate::graph::{
    Activation, Affine, BinaryKind, ConvOp, DeconvOp, DenseOp, Graph, GroupNormOp, Layer, Op, TractOp, ValueId,
};
use crate::kernels::epilogue::Epilogue;
use crate::layout::blocked::{Blocked, Halo};
use crate::ops::blocked::lane_maps;
use crate::ops::channels;
use crate::ops::elementwise::BlockActivation;
use crate::run::program::{Kernel, Program};
use crate::simd::Isa;

/// Index into [`Compiler::buffers`].
type BufferId = usize;

/// Memory for one result.
struct Buffer {
    /// Geometry of a blocked tensor, still without halo; `None` for a row-major one.
    blocked: Option<Blocked>,
    floats: usize,
    home: Home,
    halo: Halo,
    /// What the halo has to hold; `None` while nobody reads it.
    fill: Option<Vec<f32>>,
    /// Whether other buffers are parts of this one.
    whole: bool,
    /// Step that writes it, and the last that reads it.
    first: usize,
    last: usize,
    reads: usize,
}

/// Minimum size of a map from which a depthwise convolution is fused with its 1x1 convolution, in bytes. Larger maps
/// leave the second-level cache before they are read.
const MIN_SEPARABLE_BYTES: usize = 256 << 10;

/// Where a buffer is.
#[derive(Clone)]
enum Home {
    Arena,
    Input,
    Output(usize),
    Constant(Arc<Vec<f32>>),
    /// Channels of another buffer, from the given one on.
    Part(BufferId, usize),
    /// In no memory of its own: only a strip of it at a time exists.
    Nowhere,
}

/// Where a value can be found.
#[derive(Clone, Default)]
struct ValueBuffers {
    planar: Option<BufferId>,
    blocked: Option<Channels>,
}

/// Some channels of a blocked buffer, with an activation that is still to be applied.
#[derive(Clone)]
struct Channels {
    buffer: BufferId,
    first: usize,
    pending: Option<Activation>,
}

/// A step whose buffers have no places yet.
struct Draft {
    name: String,
    op: &'static str,
    work: Work,
    inputs: Vec<BufferId>,
    output: BufferId,
    more_outputs: Vec<BufferId>,
    shapes: [Vec<usize>; 2],
}

impl Draft {
    /// Number of weights to pack.
    fn weights(&self) -> usize {
        Self::weights_of(&self.work)
    }

    fn weights_of(work: &Work) -> usize {
        match work {
            Work::Chain(links) => links.iter().map(|(_, work, _)| Self::weights_of(work)).sum(),
            Work::Conv(c, _) => c.in_channels / c.groups * c.out_channels * c.kernel_size[0] * c.kernel_size[1],
            Work::Separable(pair) => pair.pointwise.in_channels * pair.pointwise.out_channels,
            Work::Dense(d) => d.inputs * d.outputs,
            _ => 0,
        }
    }
}

/// What a draft computes: kernels that need the final geometry of their buffers come later.
enum Work {
    Ready(Kernel),
    /// With the shape of its input.
    Conv(ConvOp, Vec<usize>),
    /// A depthwise convolution, by its name, and the 1x1 convolution that reads it.
    Separable(Box<Pair>),
    /// Convolutions in a row, with their names and the shapes of their results: [`Compiler::chain`].
    Chain(Vec<(String, Work, Vec<usize>)>),
    Deconv(DeconvOp),
    Dense(DenseOp),
    Tract(TractOp, Vec<Vec<usize>>),
}

/// See [`Work::Separable`].
struct Pair {
    name: String,
    depthwise: ConvOp,
    pointwise: ConvOp,
}

/// Compiles `graph` for `isa`.
pub(crate) fn compile(graph: &Graph, isa: Isa, sources: &Sources) -> TractResult<Program> {
    if let Some(value) = graph.values.iter().find(|v| v.shape.contains(&0)) {
        bail!("a tensor of shape {:?} is empty", value.shape);
    }
    let found = vec![ValueBuffers::default(); graph.values.len()];
    let mut compiler = Compiler { graph, isa, lanes: isa.lanes(), found, buffers: vec![], drafts: vec![] };
    let input = compiler.buffer(None, graph.values[graph.input].len(), Home::Input);
    compiler.found[graph.input].planar = Some(input);
    for layer in &graph.layers {
        compiler.layer(layer).with_context(|| format!("layer {}", layer.name))?;
    }
    compiler.outputs()?;
    compiler.finish(sources)
}

struct Compiler<'a> {
    graph: &'a Graph,
    isa: Isa,
    lanes: usize,
    found: Vec<ValueBuffers>,
    buffers: Vec<Buffer>,
    drafts: Vec<Draft>,
}

impl<'a> Compiler<'a> {
    fn buffer(&mut self, blocked: Option<Blocked>, floats: usize, home: Home) -> BufferId {
        let first = self.drafts.len();
        self.buffers.push(Buffer {
            blocked,
            floats,
            home,
            halo: Halo::default(),
            fill: None,
            whole: false,
            first,
            last: first,
            reads: 0,
        });
        self.buffers.len() - 1
    }

    fn geometry(&self, shape: &[usize]) -> Blocked {
        Blocked::new(shape[0], shape[1], shape[2], shape[3], Halo::default(), self.lanes)
    }

    /// Adds a step that computes `value` in the layout `blocked`.
    fn step(
        &mut self,
        name: &str,
        op: &'static str,
        work: Work,
        inputs: Vec<BufferId>,
        value: ValueId,
        blocked: bool,
    ) -> BufferId {
        let shape = self.graph.shape(value).to_vec();
        let geometry = blocked.then(|| self.geometry(&shape));
        let output = self.buffer(geometry, shape.iter().product(), Home::Arena);
        let found = &mut self.found[value];
        match blocked {
            true => found.blocked = Some(Channels { buffer: output, first: 0, pending: None }),
            false => found.planar = Some(output),
        }
        self.draft(name, op, work, inputs, output, shape);
        output
    }

    fn draft(
        &mut self,
        name: &str,
        op: &'static str,
        work: Work,
        inputs: Vec<BufferId>,
        output: BufferId,
        shape: Vec<usize>,
    ) {
        let step = self.drafts.len();
        for &input in &inputs {
            self.read(input, step);
        }
        self.buffers[output].first = step;
        self.buffers[output].last = self.buffers[output].last.max(step);
        let from = inputs
            .first()
            .map(|&b| self.buffers[b].blocked.map_or(vec![self.buffers[b].floats], |s| vec![s.n, s.c, s.h, s.w]));
        let shapes = [from.unwrap_or_default(), shape];
        self.drafts.push(Draft { name: name.into(), op, work, inputs, output, more_outputs: vec![], shapes });
    }

    fn read(&mut self, buffer: BufferId, step: usize) {
        let buffer = &mut self.buffers[buffer];
        buffer.last = buffer.last.max(step);
        buffer.reads += 1;
    }

    /// Row-major buffer of `value`.
    fn planar(&mut self, value: ValueId) -> TractResult<BufferId> {
        if let Some(buffer) = self.found[value].planar {
            return Ok(buffer);
        }
        if let Some(constant) = &self.graph.values[value].constant {
            let buffer = self.buffer(None, constant.len(), Home::Constant(constant.clone()));
            self.found[value].planar = Some(buffer);
            return Ok(buffer);
        }
        let Some(Channels { buffer, first, pending }) = self.found[value].blocked.clone() else {
            bail!("a value is used before it is computed");
        };
        let channels = self.graph.shape(value)[1];
        let act = BlockActivation::new(pending.as_ref(), 0, self.lanes);
        let work = Work::Ready(Kernel::ToPlanes { first, channels, act });
        Ok(self.step("", "to planes", work, vec![buffer], value, false))
    }

    /// Blocked buffer that holds `value` and nothing else, activated.
    fn blocked(&mut self, value: ValueId) -> TractResult<BufferId> {
        let shape = self.graph.shape(value).to_vec();
        let Some(Channels { buffer, first, pending }) = self.found[value].blocked.clone() else {
            let source = self.planar(value)?;
            return Ok(self.step("", "to blocks", Work::Ready(Kernel::ToBlocked), vec![source], value, true));
        };
        let whole = self.geometry(&shape);
        let same = self.buffers[buffer].blocked.is_some_and(|b| b.c == whole.c);
        let mut at = match first {
            0 if same => buffer,
            first if first % self.lanes == 0 && shape[0] == 1 && self.has_plain_border(buffer) => {
                let part = self.buffer(Some(whole), whole.len(), Home::Part(buffer, first));
                self.buffers[buffer].whole = true;
                self.buffers[part].first = self.buffers[buffer].first;
                part
            }
            first => {
                let map: Vec<(usize, usize)> = (first..first + shape[1]).map(|c| (0, c)).collect();
                let picks = channels::picks(self.isa, &map);
                self.step("", "channels", Work::Ready(Kernel::Gather(picks)), vec![buffer], value, true)
            }
        };
        if let Some(act) = pending {
            let maps = lane_maps(&Affine::identity(shape[1]), Some(&act), self.lanes);
            at = self.step("", "activation", Work::Ready(Kernel::Affine(maps)), vec![at], value, true);
        }
        self.found[value].blocked = Some(Channels { buffer: at, first: 0, pending: None });
        Ok(at)
    }

    /// Whether nobody asked for anything but zeros around the map.
    fn has_plain_border(&self, buffer: BufferId) -> bool {
        self.buffers[buffer].fill.as_ref().is_none_or(Vec::is_empty)
    }

    fn is_blocked(&self, value: ValueId) -> bool {
        self.found[value].blocked.is_some()
    }

    fn layer(&mut self, layer: &'a Layer) -> TractResult<()> {
        let (name, op) = (layer.name.as_str(), layer.op.name());
        let output = layer.outputs[0];
        let shape = self.graph.shape(output).to_vec();
        let input = layer.inputs[0];
        let from = self.graph.shape(input).to_vec();
        let ready = |kernel| Work::Ready(kernel);
        match &layer.op {
            Op::Conv(conv) => self.conv(layer, conv)?,
            Op::Deconv(deconv) => {
                let halo = weights::deconv_halo(deconv, &from, &shape);
                let source = self.bordered(input, halo, None)?;
                let mut op = deconv.clone();
                let act = op.act.take_if(|act| !Epilogue::supports(Some(act)));
                let result = self.step(name, "deconv", Work::Deconv(op), vec![source], output, true);
                self.activate(result, act, output);
            }
            Op::Dense(dense) => {
                let source = self.planar(input)?;
                let mut dense = dense.clone();
                let act = dense.act.take_if(|act| !Epilogue::supports(Some(act)));
                let result = self.step(name, op, Work::Dense(dense), vec![source], output, false);
                if let Some(act) = act {
                    let affine = Affine::identity(shape[1]);
                    let kernel = Kernel::PlanarAffine { shape, affine, act: Some(act) };
                    self.step(name, "activation", ready(kernel), vec![result], output, false);
                }
            }
            Op::Pool(pool) => {
                let source = self.blocked(input)?;
                self.step(name, op, ready(Kernel::Pool(pool.clone())), vec![source], output, true);
            }
            Op::GlobalSum => {
                let source = self.blocked(input)?;
                self.step(name, op, ready(Kernel::GlobalSum), vec![source], output, true);
            }
            Op::Upsample { factor } => {
                let source = self.blocked(input)?;
                self.step(name, op, ready(Kernel::Upsample(*factor)), vec![source], output, true);
            }
            Op::GroupNorm(norm) => {
                let source = self.blocked(input)?;
                self.step(name, op, ready(Kernel::GroupNorm(norm.clone())), vec![source], output, true);
            }
            Op::Activate(act) if self.is_blocked(input) && act.is_uniform() && self.graph.is_only_copied(output) => {
                let mut channels = self.found[input].blocked.clone().context("just checked")?;
                if channels.pending.is_some() {
                    channels = Channels { buffer: self.blocked(input)?, first: 0, pending: None };
                }
                self.found[output].blocked = Some(Channels { pending: Some(act.clone()), ..channels });
            }
            Op::Activate(act) => self.affine(layer, Affine::identity(shape.get(1).copied().unwrap_or(1)), Some(act))?,
            Op::Affine { affine, act } => self.affine(layer, affine.clone(), act.as_ref())?,
            Op::Unary(kind) => {
                let blocked = self.is_blocked(input);
                let source = if blocked { self.blocked(input)? } else { self.planar(input)? };
                let kernel = if blocked { Kernel::Unary(*kind) } else { Kernel::PlanarUnary(*kind) };
                self.step(name, op, ready(kernel), vec![source], output, blocked);
            }
            Op::Binary { kind, act } => self.binary(layer, *kind, act.as_ref())?,
            Op::Concat { axis } => self.concat(layer, *axis)?,
            Op::Slice { axis: 1, start, .. } if self.is_blocked(input) => {
                let channels = self.found[input].blocked.clone().context("just checked")?;
                self.found[output].blocked = Some(Channels { first: channels.first + start, ..channels });
            }
            Op::Slice { axis, start, end } => {
                let inner = shape[axis + 1..].iter().product();
                let source = self.planar(input)?;
                let kernel = Kernel::PlanarSlice { from: from[*axis], range: *start..*end, inner };
                self.step(name, op, ready(kernel), vec![source], output, false);
            }
            Op::Channels { map } => {
                let operands = layer.inputs.iter().map(|&v| self.channels(v)).collect::<TractResult<Vec<_>>>()?;
                let map: Vec<(usize, usize)> =
                    map.iter().map(|&(source, c)| (source, operands[source].1 + c)).collect();
                let kernel = Kernel::Gather(channels::picks(self.isa, &map));
                let inputs = operands.iter().map(|o| o.0).collect();
                self.step(name, op, ready(kernel), inputs, output, true);
            }
            Op::Shuffle { .. } => bail!("a shuffle was not rewritten"),
            Op::Reshape => {
                let buffer = self.planar(input)?;
                self.found[output].planar = Some(buffer);
            }
            Op::Pixels { groups } => {
                let (first, buffer, pending) = match self.found[input].blocked.clone() {
                    Some(Channels { buffer, first, pending }) => (first, buffer, pending),
                    None => (0, self.blocked(input)?, None),
                };
                let act = BlockActivation::new(pending.as_ref(), 0, self.lanes);
                let kernel = Kernel::ToPixels { first, groups: [*groups, from[1] / groups], act };
                self.step(name, op, ready(kernel), vec![buffer], output, false);
            }
            Op::Transpose { perm } => {
                let source = self.planar(input)?;
                let kernel = Kernel::Transpose { shape: from, perm: perm.clone() };
                self.step(name, op, ready(kernel), vec![source], output, false);
            }
            Op::Softmax { axes } => {
                let range = axes.iter().copied().min().unwrap_or(0)..axes.iter().copied().max().unwrap_or(0) + 1;
                if range.len() != axes.len() {
                    bail!("softmax over axes that are not neighbours");
                }
                let source = self.planar(input)?;
                self.step(name, op, ready(Kernel::Softmax { shape, axes: range }), vec![source], output, false);
            }
            Op::InstanceNorm { epsilon } => {
                // [n, c, length]: as one group for each channel.
                let rows = [from[0], from[1], 1, from[2..].iter().product()];
                let geometry = self.geometry(&rows);
                let source = self.planar(input)?;
                let blocks = self.buffer(Some(geometry), geometry.len(), Home::Arena);
                self.draft(name, "to blocks", ready(Kernel::ToBlocked), vec![source], blocks, rows.to_vec());
                let norm =
                    GroupNormOp { groups: from[1], epsilon: *epsilon, affine: Affine::identity(from[1]), act: None };
                let result = self.buffer(Some(geometry), geometry.len(), Home::Arena);
                self.draft(name, op, ready(Kernel::GroupNorm(norm)), vec![blocks], result, rows.to_vec());
                let act = BlockActivation::Identity;
                let kernel = Kernel::ToPlanes { first: 0, channels: from[1], act };
                self.step(name, "to planes", ready(kernel), vec![result], output, false);
            }
            Op::Tract(tract) => self.tract(layer, tract)?,
        }
        Ok(())
    }

    /// A blocked buffer with the value's channels, activated, and the first of them.
    fn channels(&mut self, value: ValueId) -> TractResult<(BufferId, usize)> {
        match &self.found[value].blocked {
            Some(Channels { buffer, first, pending: None }) => Ok((*buffer, *first)),
            _ => Ok((self.blocked(value)?, 0)),
        }
    }

    fn affine(&mut self, layer: &Layer, affine: Affine, act: Option<&Activation>) -> TractResult<()> {
        let (input, output) = (layer.inputs[0], layer.outputs[0]);
        let shape = self.graph.shape(output).to_vec();
        let blocked = self.is_blocked(input);
        let source = if blocked { self.blocked(input)? } else { self.planar(input)? };
        let kernel = match blocked {
            true => Kernel::Affine(lane_maps(&affine, act, self.lanes)),
            false => Kernel::PlanarAffine { shape, affine, act: act.cloned() },
        };
        self.step(&layer.name, layer.op.name(), Work::Ready(kernel), vec![source], output, blocked);
        Ok(())
    }

    fn binary(&mut self, layer: &Layer, kind: BinaryKind, act: Option<&Activation>) -> TractResult<()> {
        let (&[mut a, mut b], output) = (&layer.inputs[..2].try_into().context("two operands")?, layer.outputs[0]);
        let shape = self.graph.shape(output).to_vec();
        let (name, op) = (layer.name.as_str(), layer.op.name());
        let is_pixel = |v: ValueId| shape.len() == 4 && self.graph.shape(v) == [shape[0], shape[1], 1, 1];
        if kind == BinaryKind::Mul && is_pixel(a) && !is_pixel(b) {
            (a, b) = (b, a);
        }
        let fits = self.graph.shape(a) == shape
            && (self.graph.shape(b) == shape || kind == BinaryKind::Mul && is_pixel(b))
            && shape.len() == 4;
        if fits && (self.is_blocked(a) || self.is_blocked(b)) {
            let inputs = vec![self.blocked(a)?, self.blocked(b)?];
            let acts =
                (0..shape[1].div_ceil(self.lanes)).map(|block| BlockActivation::new(act, block, self.lanes)).collect();
            self.step(name, op, Work::Ready(Kernel::Binary { kind, acts }), inputs, output, true);
        } else {
            let shapes = [a, b].map(|v| self.graph.shape(v).to_vec());
            if shapes.iter().any(|s| s.len() != shape.len()) {
                bail!("operands of different rank");
            }
            let inputs = vec![self.planar(a)?, self.planar(b)?];
            let kernel = Kernel::PlanarBinary { kind, shapes, shape, act: act.cloned() };
            self.step(name, op, Work::Ready(kernel), inputs, output, false);
        }
        Ok(())
    }

    fn tract(&mut self, layer: &Layer, tract: &TractOp) -> TractResult<()> {
        let odd = layer.inputs.iter().chain(&layer.outputs).any(|&v| !self.graph.values[v].is_f32);
        if odd {
            bail!("{} passes other numbers than f32", tract.op.name());
        }
        let inputs = layer.inputs.iter().map(|&v| self.planar(v)).collect::<TractResult<Vec<_>>>()?;
        let shapes = layer.inputs.iter().map(|&v| self.graph.shape(v).to_vec()).collect();
        let work = Work::Tract(tract.clone(), shapes);
        self.step(&layer.name, "tract", work, inputs, layer.outputs[0], false);
        let step = self.drafts.len() - 1;
        for &output in &layer.outputs[1..] {
            let buffer = self.buffer(None, self.graph.values[output].len(), Home::Arena);
            self.buffers[buffer].first = step;
            self.buffers[buffer].last = step;
            self.found[output].planar = Some(buffer);
            self.drafts[step].more_outputs.push(buffer);
        }
        Ok(())
    }

    fn conv(&mut self, layer: &Layer, conv: &ConvOp) -> TractResult<()> {
        let (input, output) = (layer.inputs[0], layer.outputs[0]);
        let (from, to) = (self.graph.shape(input).to_vec(), self.graph.shape(output).to_vec());
        let mut conv = conv.clone();
        let act = conv.act.take_if(|act| !Epilogue::supports(Some(act)));
        let residual = if conv.residual { Some(self.blocked(layer.inputs[1])?) } else { None };
        let source = if weights::reads_planes(&conv) && self.found[input].planar.is_some() {
            self.planar(input)?
        } else if weights::foldable(&conv) {
            let (halo, fill) = weights::border(&conv, &from, &to);
            self.bordered(input, halo, fill)?
        } else {
            let affine = conv.input_affine.take().context("foldable without")?;
            let source = self.blocked(input)?;
            let geometry = self.geometry(&from);
            let mapped = self.buffer(Some(geometry), geometry.len(), Home::Arena);
            let kernel = Kernel::Affine(lane_maps(&affine, None, self.lanes));
            self.draft(&layer.name, "affine", Work::Ready(kernel), vec![source], mapped, from.clone());
            let (halo, _) = weights::border(&conv, &from, &to);
            self.buffers[mapped].halo = halo;
            mapped
        };
        let result = if let Some((depthwise, sources)) = self.take_depthwise(input, source, &conv) {
            let inputs = sources.into_iter().chain(residual).collect();
            let Work::Conv(op, from) = depthwise.work else { bail!("a depthwise convolution is expected") };
            let pair = Pair { name: depthwise.name, depthwise: op, pointwise: conv };
            let step = self.drafts.len();
            let result = self.step(&layer.name, "separable", Work::Separable(Box::new(pair)), inputs, output, true);
            self.drafts[step].shapes[0] = from;
            result
        } else {
            let inputs = [source].into_iter().chain(residual).collect();
            self.step(&layer.name, layer.op.name(), Work::Conv(conv, from), inputs, output, true)
        };
        self.activate(result, act, output);
        Ok(())
    }

    /// Takes back the step just added if it is a depthwise convolution that `conv`, the only reader of its result
    /// `value` in
    /// `buffer`, is better computed with. Returns it and its inputs.
    fn take_depthwise(&mut self, value: ValueId, buffer: BufferId, conv: &ConvOp) -> Option<(Draft, Vec<BufferId>)> {
        let readers = self.graph.layers.iter().flat_map(|l| &l.inputs).chain(&self.graph.outputs);
        let b = &self.buffers[buffer];
        let apart = readers.filter(|&&v| v == value).count() == 1
            && buffer + 1 == self.buffers.len()
            && matches!(b.home, Home::Arena)
            && b.halo == Halo::default()
            && b.floats * size_of::<f32>() >= MIN_SEPARABLE_BYTES;
        let last = self.drafts.last().filter(|draft| apart && draft.output == buffer)?;
        let Work::Conv(depthwise, _) = &last.work else { return None };
        if !weights::separable_fits(depthwise, conv) {
            return None;
        }
        let draft = self.drafts.pop()?;
        self.buffers.pop();
        self.found[value] = ValueBuffers::default();
        draft.inputs.iter().for_each(|&b| self.buffers[b].reads -= 1);
        let inputs = draft.inputs.clone();
        Some((draft, inputs))
    }

    /// Adds a step for an activation that the kernels do not know.
    fn activate(&mut self, result: BufferId, act: Option<Activation>, value: ValueId) {
        if let Some(act) = act {
            let maps = lane_maps(&Affine::identity(self.graph.shape(value)[1]), Some(&act), self.lanes);
            self.step("", "activation", Work::Ready(Kernel::Affine(maps)), vec![result], value, true);
        }
    }

    /// Blocked buffer of `value` with a border of at least `halo` that holds `fill`, or zeros.
    fn bordered(&mut self, value: ValueId, halo: Halo, fill: Option<Vec<f32>>) -> TractResult<BufferId> {
        let mut buffer = self.blocked(value)?;
        if halo == Halo::default() {
            return Ok(buffer);
        }
        let fill = fill.unwrap_or_default();
        let b = &self.buffers[buffer];
        let other = b.fill.as_ref().is_some_and(|f| *f != fill);
        let shared = b.whole || matches!(b.home, Home::Part(..));
        if other || shared && !fill.is_empty() {
            // Somebody needs another border around the same map.
            let geometry = self.geometry(self.graph.shape(value));
            let copy = self.buffer(Some(geometry), geometry.len(), Home::Arena);
            let map: Vec<(usize, usize)> = (0..geometry.c).map(|c| (0, c)).collect();
            let kernel = Kernel::Gather(channels::picks(self.isa, &map));
            let shape = self.graph.shape(value).to_vec();
            self.draft("", "other border", Work::Ready(kernel), vec![buffer], copy, shape);
            buffer = copy;
        }
        let b = &mut self.buffers[buffer];
        b.fill = Some(fill);
        b.halo = b.halo.union(halo);
        Ok(buffer)
    }
}
