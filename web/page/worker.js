// The heavy part, beside the page: owns the wasm package. The page asks by { id, call, args }; an answer is { id, result } or
// { id, error }. What a call tells on its way is { event, data }. { fatal } is the last word: after a panic the package does not go on.

import init, { Device } from "./tidegate.js";
import { BenchJob } from "./bench-job.js";
import { GatesJob } from "./gates-job.js";
import { TrainJob } from "./train-job.js";

const ready = init();
let device = null;

function tell(event, data) {
  postMessage({ event, data });
}

async function open() {
  if (!navigator.gpu) throw new Error("this browser, or this kind of connection, has no navigator.gpu");
  if (!(await navigator.gpu.requestAdapter())) throw new Error("the browser has it, but offers no adapter");
  device?.destroy();
  device = await Device.open({ powerPreference: "high-performance" });
  return { name: device.name, type: device.type, features: [...device.features] };
}

const bench = new BenchJob(() => device, tell);
const train = new TrainJob(() => device, tell);
const gates = new GatesJob();

const calls = {
  open,
  measure: (options) => bench.run(options),
  stopMeasure: () => bench.stop(),
  train: (options) => train.run(options),
  pauseTrain: () => train.pause(),
  resetTrain: () => train.reset(),
  sample: (temperature) => train.sample(temperature),
  temperature: (temperature) => train.setTemperature(temperature),
  trained: () => train.model(),
  loadGates: (file) => gates.load(file),
  gates: (text) => gates.read(text),
};

function isPanic(error) {
  return error instanceof WebAssembly.RuntimeError || /panicked/.test(error?.message);
}

function fatal(error) {
  postMessage({ fatal: error?.message ?? String(error) });
}

addEventListener("unhandledrejection", (event) => fatal(event.reason));
addEventListener("message", async ({ data: { id, call, args } }) => {
  try {
    await ready;
    postMessage({ id, result: await calls[call](...args) });
  } catch (error) {
    if (isPanic(error)) fatal(error);
    else postMessage({ id, error: error?.message ?? String(error) });
  }
});

// A browser tells of a lost device to whoever asks: the driver may reset it while nothing runs here.
setInterval(() => {
  if (!device?.isLost) return;
  device = null;
  tell("lost");
}, 500);
