//! Learning rates as plain functions of the step. Any other function does as well: [`Trainer::step`](super::Trainer::step) takes
//! a number.

/// Rises linearly to `peak` over the first `warmup` steps, then falls by half a cosine to `floor` at step `total`, and stays. Steps
/// count from 0. See [`cosine_annealing_lr`] for PyTorch's alone.
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

/// PyTorch's `StepLR`: `initial`, times `gamma` after every `step_size` steps. Steps count from 0; a `step_size` of 0 never.
pub fn step_lr(step: u64, initial: f64, step_size: u64, gamma: f64) -> f64 {
    initial * gamma.powf(step.checked_div(step_size).unwrap_or(0) as f64)
}

/// PyTorch's `MultiStepLR`: `initial`, times `gamma` from each of these steps on.
pub fn multi_step_lr(step: u64, initial: f64, milestones: &[u64], gamma: f64) -> f64 {
    initial * gamma.powf(milestones.iter().filter(|&&milestone| milestone <= step).count() as f64)
}

/// PyTorch's `ExponentialLR`: `initial`, times `gamma` after every step.
pub fn exponential_lr(step: u64, initial: f64, gamma: f64) -> f64 {
    initial * gamma.powf(step as f64)
}

/// PyTorch's `LinearLR`: `initial` times a factor that goes from `start_factor` to `end_factor` over `total_iters` steps, and stays.
pub fn linear_lr(step: u64, initial: f64, start_factor: f64, end_factor: f64, total_iters: u64) -> f64 {
    let progress = step.min(total_iters) as f64 / total_iters.max(1) as f64;
    initial * (start_factor + (end_factor - start_factor) * progress)
}

/// PyTorch's `CosineAnnealingLR` in its closed form: from `initial` by half a cosine to `eta_min` at step `t_max`, up again after it.
pub fn cosine_annealing_lr(step: u64, initial: f64, t_max: u64, eta_min: f64) -> f64 {
    let angle = std::f64::consts::PI * step as f64 / t_max.max(1) as f64;
    eta_min + (initial - eta_min) * (1.0 + angle.cos()) / 2.0
}
