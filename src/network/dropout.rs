//! The dropout mask: a hash of (element, layer, call, seed), so backward and the reference make the same mask again.

use crate::network::sequence::DropoutKey;

/// pcg4d (Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 2020). Mirrors shaders/prologue/prepare.wgsl.
fn pcg4d(mut v: [u32; 4]) -> [u32; 4] {
    let mix = |v: &mut [u32; 4]| {
        v[0] = v[0].wrapping_add(v[1].wrapping_mul(v[3]));
        v[1] = v[1].wrapping_add(v[2].wrapping_mul(v[0]));
        v[2] = v[2].wrapping_add(v[0].wrapping_mul(v[1]));
        v[3] = v[3].wrapping_add(v[1].wrapping_mul(v[2]));
    };
    v = v.map(|x| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    mix(&mut v);
    v = v.map(|x| x ^ (x >> 16));
    mix(&mut v);
    v
}

/// An element is dropped where its hash lies below this.
pub(crate) fn threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}

/// What sets the masks of one layer apart from another's.
pub(crate) fn layer_key(layer: usize) -> u32 {
    (layer as u32).rotate_right(8)
}

/// What element `index` (time-major, `(t·B + b)·D·H + j`) of a layer's output is multiplied by before the next layer.
pub(crate) fn scale(key: DropoutKey, layer: usize, index: usize, p: f32) -> f64 {
    let [seed_low, seed_high, call, _] = key.words();
    let hash = pcg4d([index as u32, seed_low, seed_high, call ^ layer_key(layer)]);
    if hash[0] < threshold(p) { 0.0 } else { 1.0 / (1.0 - f64::from(p)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_share_it_is_asked_to() {
        let key = DropoutKey { seed: 7, call: 3 };
        let n = 100_000;
        let dropped = (0..n).filter(|&i| scale(key, 1, i, 0.3) == 0.0).count() as f64;
        assert!((dropped / f64::from(n as u32) - 0.3).abs() < 0.005, "{dropped} of {n}");
    }

    #[test]
    fn masks_differ_by_call_layer_and_seed() {
        let mask =
            |seed, call, layer| (0..64).map(|i| scale(DropoutKey { seed, call }, layer, i, 0.5) == 0.0).collect::<Vec<_>>();
        let base = mask(1, 1, 1);
        assert_eq!(base, mask(1, 1, 1));
        for other in [mask(2, 1, 1), mask(1 << 32, 1, 1), mask(1, 2, 1), mask(1, 1, 2)] {
            assert_ne!(base, other);
        }
    }
}
