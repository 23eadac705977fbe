//! Selection of chains: consecutive layers on maps that exceed the cache, where only the next layer reads each map.

use crate::compile::draft::{BufferId, DraftOp, Placement, StepDraft};
use crate::compile::{Compiler, weights};
use crate::kernels::conv::chain::{Chain, ChainLayerShape};

/// Minimum size of a map that a chain avoids, in bytes. Smaller maps stay in the second-level cache until the next
/// layer reads them.
const MIN_CHAIN_BYTES: usize = 1 << 20;

impl Compiler<'_> {
    /// Replaces runs of steps by chains. The halos of all buffers must be final.
    pub(crate) fn form_chains(&mut self) {
        let mut old: Vec<Option<StepDraft>> = std::mem::take(&mut self.drafts).into_iter().map(Some).collect();
        // The new index of each step.
        let mut renumbered = vec![0; old.len()];
        let mut at = 0;
        while at < old.len() {
            let mut end = at + 1;
            while end < old.len() && self.extends_chain(&old[at..=end]) {
                end += 1;
            }
            renumbered[at..end].fill(self.drafts.len());
            let mut links: Vec<StepDraft> = old[at..end].iter_mut().filter_map(Option::take).collect();
            for draft in &links[..links.len() - 1] {
                self.buffers[draft.output].placement = Placement::Strips;
            }
            let Some(last) = links.pop() else { break };
            self.drafts.push(match links.first() {
                None => last,
                Some(first) => {
                    let (inputs, from) = (first.inputs.clone(), first.shapes[0].clone());
                    let (name, output, shape) = (last.name.clone(), last.output, last.shapes[1].clone());
                    let works =
                        links.into_iter().chain([last]).map(|d| (d.name, d.work, d.shapes[1].clone())).collect();
                    let work = DraftOp::Chain(works);
                    StepDraft { name, op: "chain", work, inputs, output, more_outputs: vec![], shapes: [from, shape] }
                }
            });
            at = end;
        }
        for buffer in &mut self.buffers {
            if let (Some(&first), Some(&last)) = (renumbered.get(buffer.first), renumbered.get(buffer.last)) {
                (buffer.first, buffer.last) = (first, last);
            }
        }
    }

    /// Whether the last of these steps can join the chain of the steps before it.
    fn extends_chain(&self, drafts: &[Option<StepDraft>]) -> bool {
        let Some(drafts) = drafts.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else { return false };
        let [.., before, last] = drafts[..] else { return false };
        let shapes: Option<Vec<ChainLayerShape>> = drafts.iter().map(|d| link_shape(d)).collect();
        last.inputs == [before.output]
            && self.is_large_and_private(before.output)
            && shapes.is_some_and(|shapes| Chain::fits(&shapes, self.lanes).is_some())
    }

    /// Whether the buffer exceeds [`MIN_CHAIN_BYTES`] and has a single reader.
    fn is_large_and_private(&self, id: BufferId) -> bool {
        let buffer = &self.buffers[id];
        buffer.blocked.is_some()
            && buffer.floats * size_of::<f32>() >= MIN_CHAIN_BYTES
            && matches!(buffer.placement, Placement::Arena)
            && !buffer.has_parts
            && buffer.reads == 1
            && self.has_zero_border(id)
    }
}

/// Geometry of the step as a layer of a chain; `None` if it cannot be one.
fn link_shape(draft: &StepDraft) -> Option<ChainLayerShape> {
    let &[batch, channels, rows, columns] = &draft.shapes[1][..] else { return None };
    let reader = match &draft.work {
        DraftOp::Conv(conv, _) if !conv.residual => weights::spec(conv),
        DraftOp::Separable(pair) if !pair.pointwise.residual => weights::spec(&pair.depthwise),
        _ => return None,
    };
    Chain::takes(&reader, batch, [rows, columns])
        .then_some(ChainLayerShape { reader, result: [channels, rows, columns] })
}
