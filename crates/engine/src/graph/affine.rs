//! Scale and shift of each channel.

/// `y = scale[c] * x + shift[c]`, where `c` is the index along axis 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Affine {
    /// Scale 1 and shift 0.
    pub fn identity(channels: usize) -> Affine {
        Affine { scale: vec![1.0; channels], shift: vec![0.0; channels] }
    }

    /// The map that applies `self`, then `next`.
    pub fn then(&self, next: &Affine) -> Affine {
        let both = || self.scale.iter().zip(&self.shift).zip(next.scale.iter().zip(&next.shift));
        Affine {
            scale: both().map(|((s, _), (ns, _))| s * ns).collect(),
            shift: both().map(|((_, t), (ns, nt))| t * ns + nt).collect(),
        }
    }

    pub fn is_identity(&self) -> bool {
        self.scale.iter().all(|&s| s == 1.0) && !self.has_shift()
    }

    pub fn has_shift(&self) -> bool {
        self.shift.iter().any(|&t| t != 0.0)
    }
}
