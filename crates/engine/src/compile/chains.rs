//! Which steps become a chain: layers in a row on maps too large for the cache, each read by the next alone.

use crate::compile::weights;
use crate::compile::{BufferId, Compiler, Draft, Home, Work};
use crate::kernels::conv::chain::{Chain, ChainLayerShape};

/// Minimum size of a map that a chain avoids, in bytes. Smaller maps stay in the second-level cache until the next
/// layer reads them.
const MIN_CHAIN_BYTES: usize = 1 << 20;

impl Compiler<'_> {
    /// Replaces runs of drafts by chains. Halos must be settled.
    pub(crate) fn chain(&mut self) {
        let mut old: Vec<Option<Draft>> = std::mem::take(&mut self.drafts).into_iter().map(Some).collect();
        // What becomes of each step.
        let mut renumbered = vec![0; old.len()];
        let mut at = 0;
        while at < old.len() {
            let mut end = at + 1;
            while end < old.len() && self.goes_on(&old[at..=end]) {
                end += 1;
            }
            renumbered[at..end].fill(self.drafts.len());
            let mut links: Vec<Draft> = old[at..end].iter_mut().filter_map(Option::take).collect();
            for draft in &links[..links.len() - 1] {
                self.buffers[draft.output].home = Home::Nowhere;
            }
            let Some(last) = links.pop() else { break };
            self.drafts.push(match links.first() {
                None => last,
                Some(first) => {
                    let (inputs, from) = (first.inputs.clone(), first.shapes[0].clone());
                    let (name, output, shape) = (last.name.clone(), last.output, last.shapes[1].clone());
                    let works =
                        links.into_iter().chain([last]).map(|d| (d.name, d.work, d.shapes[1].clone())).collect();
                    let work = Work::Chain(works);
                    Draft { name, op: "chain", work, inputs, output, more_outputs: vec![], shapes: [from, shape] }
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

    /// Whether the last of these drafts can be computed together with those before it.
    fn goes_on(&self, drafts: &[Option<Draft>]) -> bool {
        let Some(drafts) = drafts.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else { return false };
        let [.., before, last] = drafts[..] else { return false };
        let shapes: Option<Vec<ChainLayerShape>> = drafts.iter().map(|d| link_shape(d)).collect();
        last.inputs == [before.output]
            && self.is_far_and_private(before.output)
            && shapes.is_some_and(|shapes| Chain::fits(&shapes, self.lanes).is_some())
    }

    /// Whether the buffer is worth avoiding, and nobody but the next step would miss it.
    fn is_far_and_private(&self, id: BufferId) -> bool {
        let buffer = &self.buffers[id];
        buffer.blocked.is_some()
            && buffer.floats * size_of::<f32>() >= MIN_CHAIN_BYTES
            && matches!(buffer.home, Home::Arena)
            && !buffer.whole
            && buffer.reads == 1
            && buffer.fill.as_ref().is_none_or(Vec::is_empty)
    }
}

/// The draft as a link of a chain, if it can be one.
fn link_shape(draft: &Draft) -> Option<ChainLayerShape> {
    let &[batch, channels, rows, columns] = &draft.shapes[1][..] else { return None };
    let reader = match &draft.work {
        Work::Conv(conv, _) if !conv.residual => weights::spec(conv),
        Work::Separable(pair) if !pair.pointwise.residual => weights::spec(&pair.depthwise),
        _ => return None,
    };
    Chain::takes(&reader, batch, [rows, columns])
        .then_some(ChainLayerShape { reader, result: [channels, rows, columns] })
}
