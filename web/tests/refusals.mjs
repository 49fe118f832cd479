// What is wrong is refused, by the library's own words.

import { equal, fails } from "./harness.mjs";
import { write } from "./safetensors.mjs";

export function refusals({ Device, Reference, readSafetensors }, device) {
  const sizes = { inputSize: 3, hiddenSize: 4 };
  const model = { ...sizes, outputs: 2, seqLen: 2, batchSize: 1 };
  const call = { seqLen: 2, batchSize: 1 };
  const six = new Float32Array(6);
  const lstm = () => device().lstm(sizes);

  const options = () => [
    [() => device().lstm({ inputSize: 3, hidenSize: 4 }), /^unknown option `hidenSize`; known: inputSize, hiddenSize, /],
    [() => device().lstm({ inputSize: 3 }), "option `hiddenSize` is needed"],
    [() => device().lstm({ inputSize: "a", hiddenSize: 4 }), /^`inputSize`: expected a whole number of 0 to 4294967295, got .*a/],
    [() => device().lstm({ inputSize: 2.5, hiddenSize: 4 }), /^`inputSize`: expected a whole number .* got .*2\.5/],
    [() => device().lstm({ inputSize: 3, hiddenSize: -1 }), /^`hiddenSize`: expected a whole number .* got .*-1/],
    [() => device().lstm({ inputSize: 3, hiddenSize: 0 }), "`hidden_size`: 0 is outside 1..=4294967295"],
    [() => device().lstm({ ...sizes, dropout: 1 }), "`dropout` is 1, must lie in 0..1"],
    [() => device().lstm({ ...sizes, bias: 1 }), /^`bias`: expected true or false, got /],
    [() => device().lstm({ ...sizes, direction: "up" }), "unknown direction `up`; known: forward, reverse, bidirectional"],
    [() => device().lstm({ ...sizes, strategy: "persistent" }), "unknown strategy `persistent`; known: auto, stepwise, batched, resident"],
    [() => device().lstm({ ...sizes, dtype: "f64" }), "unknown dtype `f64`; known: f32, f16"],
    [() => device().lstm(7), "options: expected an object"],
    [() => device().lstm(), "option `inputSize` is needed"],
    [() => device().network("lstn", sizes), /^unknown cell `lstn`; known: .*lstm/],
    [() => device().elman({ ...sizes, activation: "gelu" }), "unknown activation `gelu`; known: tanh, relu, linear"],
    [() => new Reference("lstn", sizes), /^unknown cell `lstn`; known: .*lstm/],
    [() => Device.open({ powerPreference: "most" }), "unknown powerPreference `most`; known: high-performance, low-power"],
    [() => device().check("lstm", { ...sizes, ...call, ragged: "no" }), /^`ragged`: expected true or false, got .*no/],
  ];

  const data = () => [
    [() => lstm().forward(new Float32Array(5), call), "`input`: expected 6 values, got 5"],
    [() => lstm().forward(six, { seqLen: 2 }), "option `batchSize` is needed"],
    [() => lstm().forward(six, { ...call, lengths: Uint32Array.of(3) }), /^`lengths.*`: 3 is outside 0\.\.=2$/],
    [() => lstm().forward(six, { ...call, lengths: [2] }), "`lengths`: expected a Uint32Array, got an array of 1"],
    [() => lstm().forward(six, { ...call, initialState: new Float32Array(3) }), "`initial_state`: expected 8 values, got 3"],
    [() => lstm().forward(six, { ...call, reset: new Uint32Array(3) }), "`reset`: expected 2 values, got 3"],
    [() => lstm().backward(six, new Float32Array(7), call), "`d_output`: expected 8 values, got 7"],
    [() => lstm().backward(six, new Float32Array(8), { ...call, dFinalState: new Float32Array(1) }), "`d_final_state`: expected 8 values, got 1"],
    [() => lstm().session().step(six), "`input`: expected 3 values, got 6"],
    [() => lstm().session().setState(six), "`state`: expected 8 values, got 6"],
    [() => lstm().session().reset(Uint32Array.of(1)), /: 1 is outside 0\.\.=0$/],
    [() => new Reference("lstm", sizes).forward(new Float32Array(5), call), "`input`: expected 6 values, got 5"],
  ];

  // What no device holds is told before anything is made.
  const large = () => [
    [() => device().lstm({ inputSize: 3, hiddenSize: 40_000 }), /^limit .*: needs \d+, has \d+$/],
    [() => device().lstm({ inputSize: 4e9, hiddenSize: 4e9 }), /^limit .*: needs \d+, has \d+$/],
    [() => lstm().session({ batchSize: 4e9 }), /^limit .*: needs \d+, has \d+$/],
    [() => lstm().forward(six, { seqLen: 4e9, batchSize: 4e9 }), /limit|expected/],
  ];

  const file = () => {
    const good = lstm().toSafetensors();
    const { weight_hh_l0, ...rest } = lstm().parameters();
    const cut = good.subarray(0, good.length - 4);
    return [
      [() => lstm().loadSafetensors(new Uint8Array(5)), /^not a valid safetensors file: /],
      [() => lstm().loadSafetensors(cut), /^not a valid safetensors file: /],
      [() => device().load(cut), /^not a valid safetensors file: /],
      [() => readSafetensors(cut), /^not a valid safetensors file: /],
      [() => readSafetensors("text"), "expected an ArrayBuffer or a Uint8Array"],
      [() => lstm().loadSafetensors(write(rest)), /^missing tensor `weight_hh_l0`; the file has `bias_hh_l0`/],
      [() => lstm().loadSafetensors(write({ weight_hh_l0, ...rest, more: weight_hh_l0 })), /^unused tensor `more`/],
      [() => device().lstm({ ...sizes, hiddenSize: 5 }).loadSafetensors(good), /^`\w+`: expected shape \[.*\], got \[.*\]$/],
      [() => device().load(good, { cell: "gru" }), /./],
      [() => device().load(good, { prefix: "encoder." }), /encoder/],
    ];
  };

  const training = () => {
    const trainer = (more) => device().trainer("lstm", { ...model, ...more });
    const labels = new Uint32Array(2);
    return [
      [() => trainer({ hiddenLayers: 2 }), /^unknown option `hiddenLayers`; known: /],
      [() => device().trainer("lstm", { ...sizes, ...call }), "option `outputs` is needed"],
      [() => trainer({ momentum: 0.9 }), "option `momentum` is of optimizer sgd, this one has betas"],
      [() => trainer({ clipNorm: -1 }), /^clip bound is -1/],
      [() => trainer({ optimizer: "sgd", momentum: 2 }), "sgd: `momentum` is 2, must be at least 0 and below 1"],
      [() => trainer().step({ labels }, 0.1), "a batch has either `tokens` or `features`"],
      [() => trainer().step({ features: six }, 0.1), "a batch has either `labels` or `values`"],
      [() => trainer().step({ tokens: labels, labels }, 0.1), "the model has no embedding: it takes features"],
      [() => trainer().step({ features: six, values: six }, 0.1), "CrossEntropy takes labels as targets, not values"],
      [() => trainer().step({ features: six, labels: Uint32Array.of(0, 2) }, 0.1), /: 2 is outside 0\.\.=1$/],
      [() => trainer().step({ features: six, labels: new Uint32Array(3) }, 0.1), "`labels [T·B = 2·1]`: expected 2 values, got 3"],
      [() => trainer().step({ features: six, labels, colour: 1 }, 0.1), /^unknown option `colour`; known: tokens, /],
      [() => trainer().step({ features: six, labels }, NaN), /^`learning_rate` is NaN/],
      [() => trainer().evaluate([]), "evaluate needs at least one batch, got 0"],
      [() => trainer().resetState(), /carry_state/],
      [() => device().restore(lstm().toSafetensors(), "lstm", model), /^checkpoint: the file's metadata have no /],
      [async () => device().restore(await trainer().checkpoint(), "lstm", { ...model, optimizer: "sgd" }), /^checkpoint: it is of optimizer adam, this trainer's is sgd/],
      [async () => device().restore((await trainer().checkpoint()).subarray(0, 900), "lstm", model), /^not a valid safetensors file: /],
    ];
  };

  const all = (list) => async () => {
    for (const [call, message] of list()) await fails(String(call), call, message);
    // And nothing of it did any harm.
    equal("a call after", (await lstm().forward(six, call)).output.length, 8);
  };
  return [
    ["options that are wrong", all(options)],
    ["data that are wrong", all(data)],
    ["sizes beyond the device", all(large)],
    ["files that are damaged", all(file)],
    ["training that is wrong", all(training)],
  ];
}
