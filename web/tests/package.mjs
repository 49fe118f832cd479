// What the package promises beside right numbers of single calls.

import { bench, gates } from "./tools.mjs";
import { example } from "./example.mjs";
import { assert, close, equal, fails, numbers, same } from "./harness.mjs";
import { files } from "./files.mjs";
import { read } from "./safetensors.mjs";
import { refusals } from "./refusals.mjs";
import { lost } from "./lost.mjs";
import { tune } from "./tune.mjs";

const TOLERANCE = 2e-6;

export function tests(tidegate, host) {
  const { Device, Reference, readSafetensors } = tidegate;
  let device;

  async function forward() {
    const options = { inputSize: 4, hiddenSize: 12, numLayers: 2, direction: "bidirectional", seed: 3 };
    const input = numbers(7 * 3 * 4);
    const call = { seqLen: 7, batchSize: 3, initialState: numbers(2 * 4 * 3 * 12, 2), lengths: Uint32Array.of(7, 2, 5), reset: resets(7 * 3) };
    const actual = await device.lstm(options).forward(input, call);
    const truth = new Reference("lstm", options).forward(input, call);
    close("output", actual.output, truth.output, TOLERANCE);
    close("final state", actual.finalState, truth.finalState, TOLERANCE);
    const other = await device.lstm({ ...options, seed: 4 }).forward(input, call);
    assert(other.output.some((value, i) => value !== actual.output[i]), "another seed gave the same");
  }

  async function names() {
    const sizes = { inputSize: 3, hiddenSize: 4 };
    for (const [made, cell] of [
      [device.lstm(sizes), "lstm"], [device.gru(sizes), "gru"], [device.gru({ ...sizes, resetBefore: true }), "gru_reset_before"],
      [device.elman(sizes), "rnn_tanh"], [device.elman({ ...sizes, activation: "relu" }), "rnn_relu"],
      [device.elman({ ...sizes, activation: "linear" }), "rnn_linear"],
    ]) {
      equal("cell", made.cell, cell);
      same("sizes", [made.inputSize, made.hiddenSize], [3, 4]);
      const tensors = made.parameters();
      equal("parameters", Object.values(tensors).reduce((sum, { data }) => sum + data.length, 0), made.paramCount);
      same("weight_ih_l0's shape", tensors.weight_ih_l0.shape, [made.paramCount / 9, 3]);
    }
  }

  async function roundTrip() {
    const made = device.gru({ inputSize: 3, hiddenSize: 5, numLayers: 2, seed: 8 });
    const file = made.toSafetensors("encoder.gru.");
    const tensors = readSafetensors(file);
    for (const [name, { shape, data }] of Object.entries(made.parameters())) {
      same(name, tensors[`encoder.gru.${name}`].data, data);
      same(`${name}'s shape`, tensors[`encoder.gru.${name}`].shape, shape);
    }
    const input = numbers(4 * 3);
    const call = { seqLen: 4, batchSize: 1 };
    const { output } = await made.forward(input, call);
    same("loaded", (await device.load(file, { prefix: "encoder.gru." }).forward(input, call)).output, output);
    const other = device.gru({ inputSize: 3, hiddenSize: 5, numLayers: 2, seed: 9 });
    const session = other.session();
    other.loadSafetensors(file.buffer, "encoder.gru.");
    same("taken over", (await other.forward(input, call)).output, output);
    close("a session's first step", await session.step(input.subarray(0, 3)), output.subarray(0, 5), TOLERANCE);
  }

  async function session() {
    const lstm = device.lstm({ inputSize: 3, hiddenSize: 6, numLayers: 2, seed: 2 });
    const input = numbers(8 * 2 * 3);
    const { output, finalState } = await lstm.forward(input, { seqLen: 8, batchSize: 2 });
    const stream = lstm.session({ batchSize: 2 });
    // All calls are made before the first is done.
    const order = [];
    const calls = [];
    for (let t = 0; t < 8; t++) {
      calls.push(stream.step(input.slice(t * 6, t * 6 + 6)).then((value) => (order.push(t), value)));
      if (t === 3) calls.push(stream.state().then((value) => (order.push("state"), value)));
    }
    const done = await Promise.all(calls);
    equal("order", order.join(" "), "0 1 2 3 state 4 5 6 7");
    const [middle] = done.splice(4, 1);
    done.forEach((value, t) => close(`step ${t}`, value, output.subarray(t * 12, t * 12 + 12), TOLERANCE));
    close("final state", await stream.state(), finalState, TOLERANCE);
    // From the middle on once more, and a row anew.
    await stream.setState(middle);
    close("step 4 again", await stream.step(input.slice(24, 30)), done[4], 0);
    // A reset counts from the next step on.
    const zeroed = (rows) => finalState.map((value, i) => (rows.includes(Math.floor(i / 6) % 2) ? 0 : value));
    for (const [rows, wanted] of [[[1], Uint32Array.of(1)], [[0, 1], undefined]]) {
      const [, , next] = await Promise.all([stream.setState(finalState), stream.reset(wanted), stream.step(input.slice(0, 6))]);
      const expected = await lstm.forward(input.slice(0, 6), { seqLen: 1, batchSize: 2, initialState: zeroed(rows) });
      close(`a step after a reset of ${rows}`, next, expected.output, TOLERANCE);
      close(`the state after it`, await stream.state(), expected.finalState, TOLERANCE);
    }
    const chunks = lstm.session({ seqLen: 4, batchSize: 2 });
    for (const chunk of [0, 1]) {
      close(`chunk ${chunk}`, await chunks.step(input.slice(chunk * 24, chunk * 24 + 24)), output.subarray(chunk * 48, chunk * 48 + 48), TOLERANCE);
    }
  }

  async function overlapping() {
    const gru = device.gru({ inputSize: 2, hiddenSize: 5 });
    const inputs = [1, 2, 3, 4, 5].map((seed) => numbers(6 * 2, seed));
    const call = { seqLen: 6, batchSize: 1 };
    const alone = [];
    for (const input of inputs) alone.push(await gru.forward(input, call));
    const together = await Promise.all(inputs.map((input) => gru.forward(input, call)));
    together.forEach(({ output }, i) => same(`call ${i}`, output, alone[i].output));
  }

  const MODEL = { inputSize: 8, hiddenSize: 16, numLayers: 2, dropout: 0.2, vocabulary: 5, outputs: 5, seqLen: 10, batchSize: 4, carryState: true, clipNorm: 1, seed: 5 };
  const tokens = Uint32Array.from({ length: 40 }, (_, i) => (i >> 2) % 5);
  const batch = { tokens, labels: tokens.map((token) => (token + 1) % 5) };
  const steps = async (trainer, count) => {
    for (let i = 0; i < count; i++) await trainer.step(batch, 0.02);
    return trainer.losses();
  };
  const sameWeights = async (a, b) => {
    const [ours, theirs] = [await a.weights(), await b.weights()];
    equal("tensors", Object.keys(ours).join(), Object.keys(theirs).join());
    for (const name of Object.keys(theirs)) same(name, ours[name].data, theirs[name].data);
  };

  async function learns() {
    for (const cell of host.all ? ["lstm", "gru", "rnn_tanh"] : ["lstm"]) {
      const trainer = device.trainer(cell, { ...MODEL, dropout: 0 });
      const losses = await steps(trainer, 60);
      equal("losses", losses.length, 60);
      assert(Math.abs(losses[0] - Math.log(5)) < 0.5, `${cell}: the first loss is ${losses[0]}`);
      assert(losses[59] < 0.1 * losses[0], `${cell}: ${losses[0]}, after 60 steps ${losses[59]}`);
      equal("losses that were read already", (await trainer.losses()).length, 0);
      const loss = await trainer.evaluate([batch]);
      assert(loss < 0.15 * losses[0], `${cell}: evaluated ${loss}`);
    }
  }

  async function regression() {
    const options = { inputSize: 2, hiddenSize: 8, outputs: 1, objective: "mean_squared_error", readout: "final", seqLen: 5, batchSize: 6, ragged: true };
    const trainer = device.trainer("gru", { ...options, optimizer: "sgd", momentum: 0.9 });
    const features = numbers(5 * 6 * 2);
    const values = Float32Array.from({ length: 6 }, (_, row) => features[row * 2]);
    for (let i = 0; i < 80; i++) await trainer.step({ features, values, lengths: Uint32Array.of(5, 1, 2, 5, 4, 3) }, 0.1);
    const losses = await trainer.losses();
    assert(losses[79] < 0.2 * losses[0], `${losses[0]}, after 80 steps ${losses[79]}`);
  }

  async function evaluation() {
    const [plain, watched] = [device.trainer("lstm", MODEL), device.trainer("lstm", MODEL)];
    const expected = await steps(plain, 6);
    const losses = [...await steps(watched, 3)];
    const [once, again] = [await watched.evaluate([batch, batch]), await watched.evaluate([batch, batch])];
    equal("evaluated again", again, once);
    losses.push(...await steps(watched, 3));
    same("losses", losses, [...expected]);
    await sameWeights(watched, plain);
    equal("steps", watched.steps, 6);
  }

  async function checkpoint() {
    const trainer = device.trainer("gru", MODEL);
    await steps(trainer, 4);
    // A checkpoint asked for between two steps is of just there.
    const [, saved] = await Promise.all([trainer.step(batch, 0.02), trainer.checkpoint("a note"), trainer.step(batch, 0.02)]);
    const expected = (await steps(trainer, 4)).subarray(-5);
    const restored = device.restore(saved, "gru", MODEL);
    equal("steps", restored.steps, 5);
    same("losses", (await steps(restored, 5)).subarray(-5), expected);
    await sameWeights(restored, trainer);
    // Plain training from the start differs: the checkpoint did matter.
    const fresh = await steps(device.trainer("gru", MODEL), 5);
    assert(fresh[0] !== expected[0], "a checkpoint of nothing");
    const network = device.gru({ inputSize: 8, hiddenSize: 16, numLayers: 2 });
    network.loadSafetensors(saved, "rnn.");
    same("a network's weights", network.parameters().weight_hh_l1.data, read(saved).tensors["rnn.weight_hh_l1"].data);
  }

  async function ordered() {
    const trainer = device.trainer("lstm", { ...MODEL, dropout: 0 });
    const calls = [1, 2, 3].map(() => trainer.step(batch, 0.02));
    const early = trainer.losses();
    calls.push(trainer.step(batch, 0.02), trainer.resetState(), trainer.step(batch, 0.02));
    const late = trainer.losses();
    await Promise.all(calls);
    equal("losses of three steps", (await early).length, 3);
    equal("losses of two more", (await late).length, 2);
    equal("steps", trainer.steps, 5);
  }

  async function freed() {
    const network = device.lstm({ inputSize: 2, hiddenSize: 3 });
    const stream = network.session();
    network.free();
    await fails("forward", () => network.forward(new Float32Array(2), { seqLen: 1, batchSize: 1 }), /null pointer/);
    await fails("parameters", () => network.parameters(), /null pointer/);
    // What was made of it has its own share, also where it is freed while a call runs.
    equal("a step", (await stream.step(new Float32Array(2))).length, 3);
    const running = stream.step(new Float32Array(2));
    stream.free();
    equal("a step that ran", (await running).length, 3);
    await fails("step", () => stream.step(new Float32Array(2)), /null pointer/);
  }

  async function half() {
    const options = { inputSize: 4, hiddenSize: 9, seed: 3 };
    const input = numbers(5 * 2 * 4);
    const [full, small] = await Promise.all(["f32", "f16"].map((dtype) => device.lstm({ ...options, dtype }).forward(input, { seqLen: 5, batchSize: 2 })));
    assert(close("f16", small.output, full.output, 2e-3) > 1e-6, "f16 gave what f32 gives");
  }

  return [
    ["a device for the package", async () => {
      device = await Device.open({ powerPreference: "low-power" });
      equal("type", device.type, "software");
      equal("lost", device.isLost, false);
      assert(device.name.length > 3, `name: ${device.name}`);
    }],
    ["forward is the reference's", forward],
    ["cells by their own calls", names],
    ["f16 is near f32", half],
    ["files go round", roundTrip],
    ["a session is forward step by step", session],
    ["calls beside one another", overlapping],
    ["training learns", learns],
    ["training on values", regression],
    ["evaluating leaves training alone", evaluation],
    ["a checkpoint goes on bit for bit", checkpoint],
    ["a trainer's calls keep their order", ordered],
    ["what was freed is refused", freed],
    ...files(tidegate, host, () => device),
    ...refusals(tidegate, () => device),
    ["gates are those of forward", () => gates(tidegate)],
    ["a suite's case", () => bench(device)],
    ["tune finds the fastest strategy", () => tune(device)],
    ...(host.dist ? [["the README's example", () => example(tidegate, host)]] : []),
    ...lost(tidegate, host),
  ];
}

/// Every fifth step.
function resets(length) {
  return Uint32Array.from({ length }, (_, i) => Number(i % 5 === 4));
}
