//! What `run` writes.

use crate::common::command::{Tensor, Tensors};
use crate::given::{B, Given, H, I};

#[test]
fn run_writes_exactly_the_contracts_tensors() {
    let names = |tensors: Tensors| tensors.into_keys().collect::<Vec<_>>().join(" ");
    assert_eq!(names(Given::lstm().succeed()), "cn hn output");
    let parameters = "d_bias_hh_l0 d_bias_ih_l0 d_c0 d_h0 d_input d_weight_hh_l0 d_weight_ih_l0";
    // The gradients of initial states come also where none was given.
    assert_eq!(names(Given::backward().without("h0").without("c0").succeed()), format!("cn {parameters} hn output"));
    let gru = Given::backward().without("c0").model("weight_ih_l0", Tensor::some(&[3 * H, I]));
    let gru = gru.model("weight_hh_l0", Tensor::some(&[3 * H, H])).without("bias_ih_l0").without("bias_hh_l0");
    assert_eq!(names(gru.succeed()), "d_h0 d_input d_weight_hh_l0 d_weight_ih_l0 hn output");
}

/// Results with their shapes, then as many gradients as a line takes.
#[test]
fn run_says_what_it_wrote() {
    let said = Given::lstm().succeed_and_say().1;
    assert!(said.starts_with("wrote ") && said.lines().count() == 1, "{said}");
    assert!(said.ends_with("output.safetensors: output [4, 3, 5], cn [1, 3, 5], hn [1, 3, 5]\n"), "{said}");
    let said = Given::backward().succeed_and_say().1;
    assert!(said.contains(": output [4, 3, 5], cn [1, 3, 5], hn [1, 3, 5], d_") && said.ends_with(" and 4 more\n"), "{said}");
}

/// The files stay f32, what the device stores is rounded: output and d_input hold nothing that f16 does not.
#[test]
fn run_stores_f16_where_it_is_told() {
    let truth = Given::backward().succeed();
    for device in ["0", "cpu"] {
        let mut given = Given::backward().args(&["--dtype", "f16"]);
        given.args[1] = device.into();
        let results = given.succeed();
        assert!(results.keys().eq(truth.keys()));
        for (name, tensor) in results {
            let (values, expected) = (tensor.values(), truth[&name].values());
            let halves = values.iter().all(|&v| f64::from(tidegate::Dtype::F16.round(v as f32)) == v);
            assert_eq!(halves, ["output", "d_input"].contains(&name.as_str()), "{name} on {device}");
            let (off, size) =
                values.iter().zip(&expected).fold((0.0, 0.0), |(off, size), (v, e)| (off + (v - e).powi(2), size + e * e));
            let relative = f64::sqrt(off / size);
            assert!(relative > 1e-6 && relative < 2e-3, "{name} on {device} is off by {relative}");
        }
    }
}

#[test]
fn an_absent_state_is_zeros() {
    let zeros = Tensor::f32(&[1, B, H], [0.0; B * H]);
    for name in ["h0", "c0"] {
        let [absent, zero] = [Given::lstm().without(name), Given::lstm().input(name, zeros.clone())].map(|given| given.succeed());
        assert_eq!(absent["output"].bytes, zero["output"].bytes, "{name}");
        assert_ne!(absent["output"].bytes, Given::lstm().succeed()["output"].bytes, "{name}");
    }
}

#[test]
fn takes_every_cell() {
    for (cell, gates) in
        [("gru_reset_before", 3), ("rnn_relu", 1), ("rnn_linear", 1), ("rnn_tanh", 1), ("binary_gate", 2), ("gru", 3)]
    {
        let given = Given::lstm().without("c0").without("bias_ih_l0").without("bias_hh_l0").args(&["--cell", cell]);
        let given =
            given.model("weight_ih_l0", Tensor::some(&[gates * H, I])).model("weight_hh_l0", Tensor::some(&[gates * H, H]));
        given.succeed();
    }
    Given::lstm().model("weight_peephole_l0", Tensor::some(&[3, H])).succeed();
}

/// Names without `_l0` are the same network; its gradients have the names of a network.
#[test]
fn takes_cell_modules() {
    let truth = Given::backward().succeed();
    let mut given = Given::backward();
    given.model = given.model.into_iter().map(|(name, t)| (format!("cell.{}", name.strip_suffix("_l0").unwrap()), t)).collect();
    let actual = given.succeed();
    assert!(actual.contains_key("d_weight_hh_l0") && actual.keys().eq(truth.keys()), "{:?}", actual.keys());
    assert!(actual.values().map(|t| &t.bytes).eq(truth.values().map(|t| &t.bytes)));
}
