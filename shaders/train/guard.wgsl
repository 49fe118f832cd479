// needs: shared/floats
// One thread, between gradients and update: whether the step is taken. Not if its loss or the norm of its gradients is NaN or infinite:
// then hyper[3] is 1, which the update heeds, and the log's loss is not finite either, unless a loss scale can still be made smaller.
//
// state: steps that were skipped, steps in all; then of a loss scale the scale (f32) and the steps taken since it last changed.

// 1 - e^x of an x of 0 or below: by its series where the difference would cancel.
fn one_minus_exp(x: f32) -> f32 {
    if x < -0.5 { return 1.0 - exp(max(x, -104.0)); }
    return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0))))));
}

@compute @workgroup_size(1)
fn guard() {
    let found = norm[0];
    let has_loss = is_finite(loss[0]);
    let fine = has_loss && is_finite(found);
    let scale = bitcast<f32>(state[2]);
    state[1] += 1u;
    if fine {
        hyper[3] = 0.0;
        if state[0] > 0u && sizes.adam == 1u {
            // The host counted the steps that were recorded, Adam's corrections are of those that were taken.
            let recorded = f32(state[1]);
            let taken = f32(state[1] - state[0]);
            let ln_beta1 = bitcast<f32>(sizes.ln_beta1);
            let ln_beta2 = bitcast<f32>(sizes.ln_beta2);
            hyper[0] *= one_minus_exp(recorded * ln_beta1) / one_minus_exp(taken * ln_beta1);
            hyper[1] *= sqrt(one_minus_exp(taken * ln_beta2) / one_minus_exp(recorded * ln_beta2));
        }
    } else {
        hyper[3] = 1.0;
        state[0] += 1u;
        if has_loss && (sizes.growth_interval == 0u || scale <= 1.0) { loss[0] = found; }
    }
    // As torch.amp.GradScaler; but a loss that is not finite says nothing of the scale, which comes in behind it.
    if sizes.growth_interval == 0u || !has_loss { return; }
    if !fine {
        state[2] = bitcast<u32>(max(scale * 0.5, bitcast<f32>(sizes.least_scale)));
        state[3] = 0u;
    } else if state[3] + 1u < sizes.growth_interval {
        state[3] += 1u;
    } else {
        state[2] = bitcast<u32>(min(scale * 2.0, bitcast<f32>(sizes.most_scale)));
        state[3] = 0u;
    }
}
