// Networks from files of PyTorch and Keras, against what those computed: tests/fixtures.

import { assert, close, equal } from "./harness.mjs";
import { read, write } from "./safetensors.mjs";

// The numbers are float64's; relative to the larger of 1 and the value.
const FORWARD = 2e-6;
const BACKWARD = 2e-5;

const EXPORTED = ["gru_bi", "gru_l2_prefix", "lstm", "lstm_l2_nobias", "lstm_l3_bi_prefix", "rnn_tanh", "rnn_tanh_l2_bi_nobias_prefix"];
const KERAS = ["gru_l2_bi", "gru_reset_before_l2_states", "lstm_l2_bi_states", "rnn_relu_bi"];
const PYTORCH = [
  "lstm_l2_nobias_bf_ragged_short", "gru_l3_bi_ragged", "rnn_tanh_l2_bi_nobias_bf_ragged", "gru_h17_i1_bf",
];
// Node has the time for all.
const PYTORCH_TOO = [
  "rnn_relu_l3_bi", "lstm_l2_bi_h1_i1_b1",
  "gru_l1_t17", "gru_l2_bi_bf", "gru_l2_bi_h1_b1_ragged", "gru_l2_nobias_ragged_short", "gru_l3_nobias_t1", "lstm_h17", "lstm_l1_t17", "lstm_l2_bi",
  "lstm_l2_bi_t1", "lstm_l3_bi_nobias_bf", "lstm_l3_bi_ragged", "rnn_relu_l1_bi", "rnn_relu_l2_nobias_b1", "rnn_relu_l3_bf_ragged", "rnn_tanh_bi_t1",
  "rnn_tanh_l1", "rnn_tanh_l2_bi_ragged", "rnn_tanh_l3_nobias_bf_i1",
];

/// A record of another program: what it was given and what it computed.
class Case {
  constructor(file) {
    Object.assign(this, read(file));
  }

  number(name) {
    return Number(this.metadata[name]);
  }

  values(name) {
    return this.tensors[name].data;
  }

  has(name) {
    return name in this.tensors;
  }

  /// `[S, L·D, B, H]` of h and, where the cell has it, of c.
  states(h, c) {
    return [...this.values(h), ...(this.has(c) ? this.values(c) : [])];
  }

  get cell() {
    return this.metadata.cell;
  }

  get options() {
    return {
      inputSize: this.number("input_size"), hiddenSize: this.number("hidden_size"), numLayers: this.number("num_layers"),
      direction: this.number("bidirectional") ? "bidirectional" : "forward", bias: this.number("bias") === 1, batchFirst: this.number("batch_first") === 1,
    };
  }

  get call() {
    const call = { seqLen: this.number("seq_len"), batchSize: this.number("batch_size") };
    if (this.has("h0")) call.initialState = Float32Array.from(this.states("h0", "c0"));
    if (this.has("lengths")) call.lengths = Uint32Array.from(this.values("lengths"));
    return call;
  }

  get input() {
    return Float32Array.from(this.values("input"));
  }

  check({ output, finalState }) {
    close("output", output, this.values("output"), FORWARD);
    if (this.has("hn")) close("final state", finalState, this.states("hn", "cn"), FORWARD);
  }
}

export function files({ Reference }, { fixture, all }, device) {
  async function loaded(path, expected, options) {
    const file = await fixture(path);
    const record = new Case(await fixture(expected));
    const network = device().load(file, { ...options(record), batchFirst: record.options.batchFirst });
    equal("cell", network.cell, record.cell);
    record.check(await network.forward(record.input, record.call));
  }

  const exported = async () => {
    for (const name of EXPORTED) {
      const folder = `pytorch/export/${name}`;
      const prefixed = ({ metadata }) => (metadata.prefix ? { prefix: metadata.prefix } : {});
      await loaded(`${folder}.safetensors`, `${folder}.expected.safetensors`, prefixed);
    }
  };

  const keras = async () => {
    for (const name of KERAS) {
      const named = ({ metadata, cell }) => (metadata.named === "1" ? { cell } : {});
      await loaded(`keras/${name}.safetensors`, `keras/${name}.expected.safetensors`, named);
    }
  };

  async function gradients(name) {
    const record = new Case(await fixture(`pytorch/${name}.safetensors`));
    const { cell, options, call, input } = record;
    const network = device().network(cell, { ...options, seed: 1 });
    const names = Object.keys(network.parameters());
    const file = write(Object.fromEntries(names.map((name) => [`rnn.${name}`, record.tensors[name]])));
    network.loadSafetensors(file, "rnn.");
    const [dOutput, dFinalState] = [record.values("d_output"), record.states("d_hn", "d_cn")].map((d) => Float32Array.from(d));
    const found = await network.backward(input, dOutput, { ...call, dFinalState });
    record.check(found);
    record.check(await network.forward(input, call));
    close("dInput", found.dInput, record.values("d_input"), BACKWARD);
    close("dInitialState", found.dInitialState, record.states("d_h0", "d_c0"), BACKWARD);
    equal("gradients", Object.keys(found.dParams).join(), names.join());
    for (const name of names) close(`dParams.${name}`, found.dParams[name].data, record.values(`d_${name}`), BACKWARD);

    const reference = new Reference(cell, options);
    reference.loadSafetensors(file, "rnn.");
    record.check(reference.forward(input, call));
    assert(input.length > 0 && names.length > 0, "an empty case");
  }

  return [
    ["files for PyTorch load, and give what it computed", exported],
    ["files of Keras load, and give what it computed", keras],
    ...[...PYTORCH, ...(all ? PYTORCH_TOO : [])].map((name) => [`gradients of PyTorch: ${name}`, () => gradients(name)]),
  ];
}
