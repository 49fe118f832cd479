// The worker's side of training: truncated BPTT over rows of a text, as examples/char_lm does it.

import { Model } from "./model.js";
import { Rows, Vocabulary, rowsFor, split } from "./text.js";

const SEQ_LEN = 32;
const MOST_ROWS = 16;
const EMBEDDING = 16;
const CLIP = 1;
const SAMPLE = 240;
// The trainer keeps the losses of 128 steps.
const MOST_STEPS_PER_READ = 64;
const READ_MS = 300;
const REPORT_MS = 3000;

export class TrainJob {
  #device;
  #tell;
  #job = null;
  #paused = true;
  #temperature = 0.8;

  constructor(device, tell) {
    this.#device = device;
    this.#tell = tell;
  }

  pause() {
    this.#paused = true;
  }

  reset() {
    this.#job = null;
  }

  setTemperature(temperature) {
    this.#temperature = temperature;
  }

  // Trains until it is paused or has done `most` steps, from where it stands or from the beginning.
  async run({ text, cell, hiddenSize, learningRate, temperature, most }) {
    this.#paused = false;
    this.#temperature = temperature;
    const device = this.#device();
    if (!device) throw new Error("there is no device");
    // A trainer does not outlive its device.
    if (this.#job?.device !== device) this.#job = this.#begin(device, text, cell, hiddenSize);
    const job = this.#job;
    const { trainer, rows, shape } = job;
    const done = () => this.#paused || (most !== null && trainer.steps >= most);
    let perRead = 1;
    let reportAt = performance.now() + REPORT_MS;
    while (!done()) {
      const start = performance.now();
      const from = trainer.steps;
      for (let step = 0; step < perRead && !done(); step++) {
        const k = trainer.steps % rows.chunks;
        if (k === 0) await trainer.resetState();
        await trainer.step(rows.batch(k), learningRate);
      }
      // Waits for the GPU.
      const bits = Array.from(await trainer.losses(), (loss) => loss / Math.LN2);
      const ms = performance.now() - start;
      const speed = ((trainer.steps - from) * shape.seqLen * shape.batchSize * 1000) / ms;
      this.#tell("losses", { from, bits, steps: trainer.steps, speed });
      perRead = Math.max(1, Math.min(MOST_STEPS_PER_READ, ms < READ_MS ? 2 * perRead : Math.floor(perRead / 2)));
      const now = performance.now();
      if (now >= reportAt && !done()) {
        await this.#report(job);
        // Training gets most of the time, however slow a report is.
        const after = performance.now();
        reportAt = after + Math.max(REPORT_MS, 5 * (after - now));
      }
    }
    await this.#report(job);
    return { steps: trainer.steps, finished: most !== null && trainer.steps >= most };
  }

  // A text with the model as it is now.
  async sample(temperature) {
    if (!this.#job) throw new Error("there is no model yet: nothing was trained");
    this.#temperature = temperature;
    return this.#write(this.#job);
  }

  // The model as it is now, as a file.
  async model() {
    if (!this.#job) throw new Error("there is no model yet: nothing was trained");
    return (await this.#now(this.#job)).toFile();
  }

  #begin(device, text, cell, hiddenSize) {
    const characters = [...text.toWellFormed()];
    const vocabulary = new Vocabulary(characters);
    const tokens = vocabulary.encode(characters);
    const shape = { seqLen: SEQ_LEN, batchSize: rowsFor(tokens, SEQ_LEN, MOST_ROWS) };
    const [seen, unseen] = split(tokens);
    const known = vocabulary.characters.length;
    const network = { inputSize: EMBEDDING, hiddenSize, seed: 1 };
    const trainer = device.trainer(cell, { ...network, ...shape, outputs: known, vocabulary: known, optimizer: "adam", carryState: true, clipNorm: CLIP });
    return { device, cell, vocabulary, shape, trainer, rows: new Rows(seen, shape), heldOut: new Rows(unseen, shape).all(), network: device.network(cell, network) };
  }

  async #now({ cell, vocabulary, trainer }) {
    return new Model(cell, vocabulary, await trainer.weights());
  }

  async #report(job) {
    const bits = (await job.trainer.evaluate(job.heldOut)) / Math.LN2;
    this.#tell("report", { step: job.trainer.steps, bits, sample: await this.#write(job) });
  }

  // Starts from a line break, or from the first character of a vocabulary that has none.
  async #write(job) {
    const model = await this.#now(job);
    job.network.loadSafetensors(model.toFile(), "rnn.");
    const session = job.network.session();
    const { characters } = model.vocabulary;
    let token = Math.max(0, characters.indexOf("\n"));
    let text = "";
    while (text.length < SAMPLE) {
      const hidden = await session.step(model.embed([token]));
      token = draw(model.probabilities(hidden, this.#temperature));
      text += characters[token];
    }
    return text;
  }
}

// A token by its probability.

function draw(shares) {
  let left = Math.random();
  const token = shares.findIndex((share) => (left -= share) < 0);
  return token >= 0 ? token : shares.indexOf(Math.max(...shares));
}
