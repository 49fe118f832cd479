// Part two: a character model, trained on this device.

import { download, slug, today } from "./files.js";

const $ = (id) => document.getElementById(id);
// More points than this are averaged in pairs.
const MOST_POINTS = 240;

export function startTrain(device, most, useInGates) {
  const { client } = device;
  const status = $("train-status");
  let begun = false;
  let losses = null;

  function say(state, text) {
    status.dataset.state = state;
    status.textContent = text;
  }

  function show() {
    const running = device.user === "train";
    const ready = device.state === "open" && device.user === null;
    $("train-start").disabled = !ready;
    $("train-start").textContent = begun && !running ? "Go on" : "Start";
    $("train-pause").disabled = !running;
    $("train-reset").disabled = running || !begun;
    $("train-use").disabled = $("train-download").disabled = !ready || !begun;
    $("train-settings").disabled = begun;
  }

  device.addEventListener("change", () => {
    // Weights and trainer were on the device that is gone.
    if (["lost", "dead"].includes(device.state)) begun = false;
    if (device.state === "open") {
      if (["waiting", "missing", "lost"].includes(status.dataset.state)) say("idle", "Ready.");
    } else {
      say(device.state, device.why);
    }
    show();
  });

  client.on("losses", ({ from, bits, steps, speed }) => {
    losses.add(from, bits);
    $("train-progress").textContent = `step ${steps}, ${Math.round(speed)} characters/s, ${losses.last().toFixed(3)} bits a character`;
  });
  client.on("report", ({ step, bits, sample }) => {
    losses.hold(step, bits);
    showSample(sample);
    const training = Number.isFinite(losses.last()) ? `${losses.last().toFixed(2)} bits a character in training, ` : "";
    say(status.dataset.state, `Step ${step}: ${training}${bits.toFixed(2)} held out.`);
  });

  function showSample(sample) {
    $("train-sample-box").hidden = false;
    $("train-sample").textContent = sample;
  }

  async function run() {
    const options = {
      text: $("train-text").value, cell: $("train-cell").value, hiddenSize: Number($("train-hidden").value),
      learningRate: $("train-rate").valueAsNumber, temperature: $("train-temperature").valueAsNumber, most,
    };
    if (!begun) losses = new Losses($("train-loss"));
    begun = true;
    say("running", "Training …");
    try {
      const { steps, finished } = await device.use("train", () => client.call("train", options));
      say(finished ? "done" : "paused", `${finished ? "Done" : "Paused"} at step ${steps}. ${losses.summary()}`);
    } catch (error) {
      if (device.state === "open") {
        if (!losses.any()) begun = false;
        say("failed", `Training failed: ${error.message}`);
      }
    }
    show();
  }

  async function reset() {
    await client.call("resetTrain");
    begun = false;
    $("train-loss").replaceChildren();
    $("train-sample-box").hidden = true;
    $("train-progress").textContent = "";
    say("idle", "Ready.");
    show();
  }

  // With the weights as a file.
  function withModel(then) {
    device.use("weights", async () => then(await client.call("trained"))).catch((error) => say("failed", `The weights cannot be read: ${error.message}`));
  }

  $("train-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  $("train-pause").addEventListener("click", () => {
    $("train-pause").disabled = true;
    client.call("pauseTrain").catch(() => {});
  });
  $("train-reset").addEventListener("click", () => reset().catch((error) => say("failed", error.message)));
  $("train-use").addEventListener("click", () => withModel(async (file) => {
    await useInGates(file, `Your own ${$("train-cell").value} of ${$("train-hidden").value} units`);
    $("gates").scrollIntoView();
    $("gates-text").focus({ preventScroll: true });
  }));
  $("train-download").addEventListener("click", () => withModel((file) => {
    const name = `tidegate-${slug($("train-cell").value)}-${$("train-hidden").value}-${today()}.safetensors`;
    download(name, "application/octet-stream", file);
  }));
  $("train-temperature").addEventListener("input", () => {
    $("train-temperature-value").textContent = $("train-temperature").value;
  });
  $("train-temperature").addEventListener("change", () => {
    const temperature = $("train-temperature").valueAsNumber;
    if (device.user === "train") client.call("temperature", temperature).catch(() => {});
    else if (begun && device.user === null) {
      device.use("sample", async () => showSample(await client.call("sample", temperature))).catch((error) => say("failed", error.message));
    }
  });

  fetch("tempest.txt").then(async (response) => {
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const text = await response.text();
    $("train-text").value ||= text;
  }).catch((error) => {
    $("train-source").textContent = `tempest.txt could not be loaded (${error.message}): put a text of your own in.`;
  });
}

// The curve, in bits a character.
class Losses {
  #training = [];
  #heldOut = [];
  #span = 1;
  #sum = 0;
  #count = 0;
  #chart;
  #plot;

  constructor(container) {
    const series = [{ name: "training", index: 0, points: [], line: true, unmarked: true }, { name: "held out", index: 1, points: [], line: true }];
    this.#chart = { title: "Loss", x: "steps", y: "bits a character", series, linear: true };
    this.#plot = lineChart(container, this.#chart);
  }

  any() {
    return this.#training.length > 0;
  }

  last() {
    return this.#training.at(-1)?.y ?? NaN;
  }

  summary() {
    return this.#heldOut.length ? `Held-out text: ${this.#heldOut.at(-1).y.toFixed(2)} bits a character.` : "";
  }

  add(from, bits) {
    bits.forEach((value, at) => {
      this.#sum += value;
      this.#count += 1;
      if (this.#count < this.#span) return;
      this.#training.push({ x: from + at + 1, y: this.#sum / this.#count });
      [this.#sum, this.#count] = [0, 0];
    });
    if (this.#training.length > MOST_POINTS) {
      this.#training = halve(this.#training);
      this.#span *= 2;
    }
    this.#draw();
  }

  hold(step, bits) {
    // A pause right after a report gives the same again.
    if (this.#heldOut.at(-1)?.x !== step) this.#heldOut.push({ x: step, y: bits });
    if (this.#heldOut.length > MOST_POINTS / 4) this.#heldOut = halve(this.#heldOut);
    this.#draw();
  }

  #draw() {
    const named = (points, name) => points.map(({ x, y }) => ({ x, y, text: `step ${x}: ${y.toFixed(3)} bits a character, ${name}` }));
    this.#chart.series[0].points = named(this.#training, "training");
    this.#chart.series[1].points = named(this.#heldOut, "held out");
    this.#plot.redraw();
  }
}

// Pairs at their mean; the last stands where it was.
function halve(points) {
  const kept = [];
  for (let at = points.length % 2; at + 1 < points.length; at += 2) kept.push({ x: points[at + 1].x, y: (points[at].y + points[at + 1].y) / 2 });
  return points.length % 2 ? [points[0], ...kept] : kept;
}
