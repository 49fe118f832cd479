//! Audio to remove noise from: voices of harmonics and formants that talk and pause, in noise. 48 kHz, in the range of i16.

use std::f64::consts::TAU;

const RATE: f64 = 48_000.0;

/// A stream of its own pitch, pace and noise for every `index`.
pub fn speech(index: usize, samples: usize) -> Vec<f32> {
    let of = |step: f64| (index as f64 * step).fract(); // in 0..1, another for every stream
    let (pitch, pace, loudness) = (90.0 + 150.0 * of(0.618), 2.5 + 2.0 * of(0.414), 10f64.powf(-1.5 + 2.0 * of(0.732)));
    let mut random = index as u64 + 1;
    let mut phase = 0.0;
    let sample = |k: usize| {
        let t = k as f64 / RATE;
        phase += pitch * (1.0 + 0.05 * (TAU * 0.7 * t).sin()) / RATE;
        // Syllables, and a pause every few of them.
        let envelope = (TAU * pace * t).sin().max(0.0) * f64::from(u8::from((t * pace / 4.0 + of(0.272)).fract() < 0.7));
        let formants = [500.0 + 300.0 * (TAU * 1.3 * t).sin(), 1500.0 + 600.0 * (TAU * 0.9 * t).cos(), 2600.0];
        let strength = |f: f64| formants.iter().map(|&at| (-((f - at) / 150.0).powi(2)).exp()).sum::<f64>() + 0.02;
        let harmonics = (1..=(4000.0 / pitch) as usize).map(|n| strength(n as f64 * pitch) * (TAU * n as f64 * phase).sin());
        let voice: f64 = if envelope > 0.0 { harmonics.sum() } else { 0.0 };
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (random >> 40) as f64 / f64::from(1 << 23) - 1.0;
        (4000.0 * envelope * voice + 1000.0 * loudness * noise) as f32
    };
    (0..samples).map(sample).collect()
}
