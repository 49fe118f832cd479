//! Starts for weights that help gradients through many steps, over [`Params::uniform`]'s.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::network::params::Params;

impl Params {
    /// Makes each gate's block `[H, H]` of every `weight_hh` a random orthogonal matrix (Saxe et al. 2014), as PyTorch's
    /// `nn.init.orthogonal_` on each of `weight_hh.chunk(gates)`; of a block `[H, P]`, where h is projected, the columns are orthonormal. The
    /// same seed gives the same values on every machine.
    pub fn with_orthogonal_weights(mut self, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams 0 and 1 of a seed are those of the uniform values.
        rng.set_stream(2);
        let hidden = self.layout().hidden_size();
        let specs: Vec<_> = self.layout().iter().filter(|spec| spec.name.starts_with("weight_hh")).cloned().collect();
        for spec in specs {
            let columns = spec.shape[1];
            for block in self.values_mut()[spec.range].chunks_exact_mut(hidden * columns) {
                let vectors = orthonormal(columns, hidden, &mut rng);
                for (at, value) in block.iter_mut().enumerate() {
                    // Square ones by rows.
                    let (row, column) = (at / columns, at % columns);
                    *value = if columns == hidden { vectors[row][column] } else { vectors[column][row] } as f32;
                }
            }
        }
        self
    }

    /// Starts one gate of every layer and direction with this bias for each unit: `bias_ih` holds it, `bias_hh` 0. An LSTM whose
    /// forget gate `f` starts at 1 copies at first (Gers et al. 2000); at ln T it keeps about 1/e over T steps (after Tallec and
    /// Ollivier 2018). A GRU's gate that copies is `z`, in `binary_gate` a `g` below 0 does.
    ///
    /// Refuses a cell without such a gate, and a network without biases.
    pub fn with_gate_bias(mut self, cell: &dyn Cell, gate: &str, bias: f32) -> Result<Self> {
        let gates = cell.spec().gates;
        let at = gates.iter().position(|known| known.name == gate).ok_or_else(|| Error::UnknownName {
            kind: "gate",
            name: gate.into(),
            known: gates.iter().map(|gate| gate.name).collect::<Vec<_>>().join(", "),
        })?;
        let specs: Vec<_> = self.layout().iter().filter(|spec| spec.name.starts_with("bias_")).cloned().collect();
        if specs.is_empty() {
            return Err(Error::Config(format!("gate `{gate}` has no bias: the network has `bias` off")));
        }
        for spec in specs {
            let units = spec.range.len() / gates.len();
            let value = if spec.name.starts_with("bias_ih") { bias } else { 0.0 };
            self.values_mut()[spec.range][at * units..][..units].fill(value);
        }
        Ok(self)
    }
}

/// So many random orthonormal vectors of that length: normal ones, made orthogonal one after another (Gram-Schmidt, each twice).
fn orthonormal(count: usize, len: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut row: Vec<f64> = (0..len).map(|_| normal(rng)).collect();
        for before in rows.iter().chain(&rows) {
            let along: f64 = dot(before, &row);
            row.iter_mut().zip(before).for_each(|(x, b)| *x -= along * b);
        }
        let norm = dot(&row, &row).sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
        rows.push(row);
    }
    rows
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A number of mean 0 and deviation 1 (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gru, Lstm, ParamLayout, RnnConfig};

    #[test]
    fn blocks_are_orthogonal() {
        let config = RnnConfig::new(3, 7).with_num_layers(2).with_bidirectional(true);
        let layout = ParamLayout::new(&Gru::default(), &config).unwrap();
        let uniform = Params::uniform(&layout, 5);
        let params = uniform.clone().with_orthogonal_weights(5);
        for spec in layout.iter() {
            let values = params.get(&spec.name).unwrap();
            if !spec.name.starts_with("weight_hh") {
                assert_eq!(values, uniform.get(&spec.name).unwrap(), "{}", spec.name);
                continue;
            }
            for block in values.chunks(7 * 7) {
                for (i, j) in (0..7).flat_map(|i| (0..7).map(move |j| (i, j))) {
                    let product: f32 = block[i * 7..][..7].iter().zip(&block[j * 7..][..7]).map(|(a, b)| a * b).sum();
                    assert!((product - f32::from(u8::from(i == j))).abs() < 1e-6, "{}: {i} {j}: {product}", spec.name);
                }
            }
        }
        assert_ne!(params.get("weight_hh_l0").unwrap()[..49], params.get("weight_hh_l1").unwrap()[..49]);
    }

    #[test]
    fn columns_of_a_projected_block_are_orthonormal() {
        let layout = ParamLayout::new(&Lstm::default(), &RnnConfig::new(3, 7).with_proj_size(3)).unwrap();
        let params = Params::uniform(&layout, 5).with_orthogonal_weights(5);
        for block in params.get("weight_hh_l0").unwrap().chunks(7 * 3) {
            for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                let product: f32 = (0..7).map(|row| block[row * 3 + i] * block[row * 3 + j]).sum();
                assert!((product - f32::from(u8::from(i == j))).abs() < 1e-6, "{i} {j}: {product}");
            }
        }
    }

    #[test]
    fn one_gate_gets_the_bias() {
        let layout = ParamLayout::new(&Lstm::default(), &RnnConfig::new(3, 4).with_num_layers(2)).unwrap();
        let uniform = Params::uniform(&layout, 1);
        let params = uniform.clone().with_gate_bias(&Lstm::default(), "f", 1.5).unwrap();
        let (ih, hh) = (params.get("bias_ih_l1").unwrap(), params.get("bias_hh_l1").unwrap());
        // PyTorch's order of an LSTM's gates: i, f, g, o.
        assert_eq!((&ih[4..8], &hh[4..8]), (&[1.5; 4][..], &[0.0; 4][..]));
        let before = uniform.get("bias_ih_l1").unwrap();
        assert_eq!((&ih[..4], &ih[8..]), (&before[..4], &before[8..]));

        let error = uniform.with_gate_bias(&Lstm::default(), "z", 1.0).unwrap_err().to_string();
        assert!(error.contains("unknown gate `z`; known: i, f, g, o"), "{error}");
        let bare = ParamLayout::new(&Lstm::default(), &RnnConfig::new(3, 4).with_bias(false)).unwrap();
        let error = Params::zeros(&bare).with_gate_bias(&Lstm::default(), "f", 1.0).unwrap_err().to_string();
        assert!(error.contains("`bias` off"), "{error}");
    }
}
