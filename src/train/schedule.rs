//! Learning rates as plain functions of the step. Any other function does as well: [`Trainer::step`](super::Trainer::step) takes
//! a number.

/// Rises linearly to `peak` over the first `warmup` steps, then falls by half a cosine to `floor` at step `total`, and stays. Steps
/// count from 0. Without a warmup it is PyTorch's `CosineAnnealingLR` with `T_max` = `total` and `eta_min` = `floor`.
pub fn warmup_cosine(step: u64, warmup: u64, total: u64, peak: f64, floor: f64) -> f64 {
    if step < warmup {
        return peak * (step + 1) as f64 / warmup as f64;
    }
    if step >= total {
        return floor;
    }
    let progress = (step - warmup) as f64 / (total - warmup) as f64;
    floor + (peak - floor) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
}

/// PyTorch's `StepLR`: `initial`, times `gamma` after every `every` steps. Steps count from 0; an `every` of 0 never.
pub fn step_decay(step: u64, initial: f64, gamma: f64, every: u64) -> f64 {
    initial * gamma.powf(step.checked_div(every).unwrap_or(0) as f64)
}
