// A device that is gone: every call says so, those that run as well, and none waits for ever.

import { assert, equal, fails, numbers, within } from "./harness.mjs";

const LOST = "the device was lost";

export function lost({ Device }, { all }) {
  const sizes = { inputSize: 3, hiddenSize: 4 };
  const call = { seqLen: 40, batchSize: 2 };
  const input = numbers(40 * 2 * 3);
  const model = { ...sizes, outputs: 2, seqLen: 2, batchSize: 1, carryState: true };
  const batch = { features: numbers(6), labels: Uint32Array.of(0, 1) };

  async function everything() {
    const device = await Device.open();
    const network = device.lstm(sizes);
    const session = network.session();
    const trainer = device.trainer("lstm", model);
    const bench = device.bench("quick");
    const file = network.toSafetensors();
    await Promise.all([session.step(input.slice(0, 3)), trainer.step(batch, 0.1)]);
    await trainer.losses();
    const checkpoint = await trainer.checkpoint();
    return { device, network, session, trainer, bench, file, checkpoint };
  }

  const calls = ({ device, network, session, trainer, bench }) => ({
    forward: () => network.forward(input, call),
    backward: () => network.backward(input, numbers(40 * 2 * 4), call),
    "session.step": () => session.step(input.slice(0, 3)),
    "session.state": () => session.state(),
    "session.reset": () => session.reset(),
    "session.setState": () => session.setState(numbers(8)),
    "trainer.step": () => trainer.step(batch, 0.1),
    "trainer.losses": () => trainer.losses(),
    "trainer.evaluate": () => trainer.evaluate([batch]),
    "trainer.resetState": () => trainer.resetState(),
    "trainer.weights": () => trainer.weights(),
    "trainer.toSafetensors": () => trainer.toSafetensors(),
    "trainer.checkpoint": () => trainer.checkpoint(),
    check: () => device.check("gru", { ...sizes, seqLen: 3, batchSize: 2 }),
    "bench.peaks": () => bench.peaks(),
  });
  // These make things, at once.
  const makers = ({ device, network, file, checkpoint }) => ({
    network: () => device.network("gru", sizes),
    load: () => device.load(file),
    session: () => network.session(),
    loadSafetensors: () => network.loadSafetensors(file),
    trainer: () => device.trainer("gru", model),
    restore: () => device.restore(checkpoint, "lstm", model),
  });

  async function afterwards() {
    const made = await everything();
    equal("lost before", made.device.isLost, false);
    made.device.destroy();
    for (const [name, wanted] of Object.entries(calls(made))) await fails(name, wanted, LOST);
    for (const [name, wanted] of Object.entries(makers(made))) await fails(name, wanted, LOST);
    equal("lost after", made.device.isLost, true);
    const row = await within(20_000, made.bench.run(0), "bench.run");
    equal("bench.run's error", row.error, LOST);
    // What lies on the host is still there, and another device takes it.
    equal("parameters", Object.keys(made.network.parameters()).length, 4);
    const { output } = await (await Device.open()).load(made.network.toSafetensors()).forward(input, call);
    assert(output.every(Number.isFinite), "the next device gave what is no number");
  }

  // All of them in flight, and each alone; where a device's shaders take seconds, those alone that differ most.
  async function meanwhile() {
    const names = all ? Object.keys(calls({})) : ["forward", "trainer.losses"];
    for (const name of names) {
      const made = await everything();
      const running = calls(made)[name]();
      made.device.destroy();
      await settles(name, running);
      await fails("session.state after it", () => made.session.state(), LOST);
    }
    const made = await everything();
    const running = Object.entries(calls(made)).map(([name, start]) => settles(name, start()));
    made.device.destroy();
    await Promise.all(running);
  }

  // What reads nothing back may have been done already.
  async function settles(name, running) {
    const mayBeDone = ["session.reset", "session.setState", "trainer.step", "trainer.resetState"];
    if (!mayBeDone.includes(name)) return fails(name, () => running, LOST);
    await within(20_000, running, name).catch((error) => equal(name, error.message, LOST));
  }

  return [
    ["a lost device is told by every call", afterwards],
    ["calls that run when the device is lost", meanwhile],
  ];
}
