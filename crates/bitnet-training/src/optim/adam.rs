//! Adam and AdamW, one pass over a weight.

use super::{Adam, State, Update};
use crate::Result;
use bitnet_core::{Tensor, ops};

pub(super) fn update(
    constants: &Adam,
    decoupled: bool,
    w: &mut Tensor,
    gradient: &Tensor,
    state: &mut State,
    update: Update,
) -> Result<()> {
    let [(_, m), (_, v)] = &mut state.0[..] else { unreachable!("made by Rule::state") };
    let adam = ops::Adam {
        lr: update.lr,
        betas: [constants.beta1, constants.beta2],
        eps: constants.eps,
        weight_decay: update.weight_decay,
        decoupled,
        step: update.step,
        gradient_scale: update.gradient_scale,
    };
    Ok(ops::adam(&adam, w, gradient, m, v)?)
}
