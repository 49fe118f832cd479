// The worker's side of watching the gates: the float64 reference over a text, on the CPU.

import { Reference } from "./tidegate.js";
import { Model } from "./model.js";

const WINDOW = 80;
const GUESSES = 5;

export class GatesJob {
  #model = null;
  #reference = null;

  load(file) {
    const model = Model.fromFile(file);
    const reference = new Reference(model.cell, { inputSize: model.inputSize, hiddenSize: model.hiddenSize });
    reference.loadSafetensors(file, "rnn.");
    [this.#model, this.#reference] = [model, reference];
    return { cell: model.cell, units: model.hiddenSize, characters: model.vocabulary.characters.length };
  }

  // Gates over the last characters of a text that the model knows, and what it expects next.
  read(text) {
    const model = this.#model;
    if (!model) throw new Error("no model is loaded");
    const characters = [...text.replaceAll("\r", "")];
    const unknown = [...new Set(characters.filter((character) => !model.vocabulary.has(character)))];
    const shown = characters.filter((character) => model.vocabulary.has(character)).slice(-WINDOW);
    if (shown.length === 0) return { shown, unknown, formula: "", groups: [], guesses: [] };
    const input = model.embed(model.vocabulary.encode(shown));
    const { formula, groups, output } = this.#reference.gates(input, { seqLen: shown.length, batchSize: 1 });
    const shares = model.probabilities(output.subarray(output.length - model.hiddenSize));
    const guesses = shares.map((share, token) => ({ character: model.vocabulary.characters[token], share }));
    guesses.sort((a, b) => b.share - a.share);
    return { shown, unknown, formula, groups, guesses: guesses.slice(0, GUESSES) };
  }
}
