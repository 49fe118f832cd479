// A character model: embedding, network, head. Its file is a safetensors file of the weights under the trainer's names, with `cell`
// and `vocabulary` in the metadata; the page ships one, downloads are others.

import { readSafetensors } from "./tidegate.js";
import { Vocabulary } from "./text.js";

export class Model {
  constructor(cell, vocabulary, weights) {
    Object.assign(this, { cell, vocabulary, weights });
    this.embedding = weights["embedding.weight"];
    this.head = weights["head.weight"];
    this.bias = weights["head.bias"].data;
    this.inputSize = this.embedding.shape[1];
    this.hiddenSize = this.head.shape[1];
  }

  static fromFile(file) {
    const metadata = header(file).__metadata__ ?? {};
    for (const name of ["cell", "vocabulary"]) {
      if (!(name in metadata)) throw new Error(`the file's metadata has no \`${name}\``);
    }
    const weights = readSafetensors(file);
    for (const name of ["embedding.weight", "head.weight", "head.bias"]) {
      if (!(name in weights)) throw new Error(`the file has no tensor \`${name}\``);
    }
    const model = new Model(metadata.cell, new Vocabulary(metadata.vocabulary), weights);
    const [known, rows] = [model.vocabulary.characters.length, model.embedding.shape[0]];
    if (known !== rows) throw new Error(`the vocabulary has ${known} characters, the embedding ${rows} rows`);
    return model;
  }

  toFile() {
    const metadata = { cell: this.cell, vocabulary: this.vocabulary.characters.join("") };
    return safetensors(metadata, this.weights);
  }

  // [T, I]
  embed(tokens) {
    const input = new Float32Array(tokens.length * this.inputSize);
    tokens.forEach((token, t) => input.set(this.embedding.data.subarray(token * this.inputSize, (token + 1) * this.inputSize), t * this.inputSize));
    return input;
  }

  // The probability of each character after a hidden state; below a temperature of 1 likely ones become likelier, 0 takes the likeliest.
  probabilities(hidden, temperature = 1) {
    const logits = Array.from(this.bias, (bias, token) => {
      let sum = bias;
      for (let unit = 0; unit < this.hiddenSize; unit++) sum += this.head.data[token * this.hiddenSize + unit] * hidden[unit];
      return sum;
    });
    const most = Math.max(...logits);
    if (temperature === 0) return logits.map((logit, token) => (token === logits.indexOf(most) ? 1 : 0));
    const parts = logits.map((logit) => Math.exp((logit - most) / temperature));
    const sum = parts.reduce((total, part) => total + part, 0);
    return parts.map((part) => part / sum);
  }
}

// Of a safetensors file: its length in 8 bytes, then JSON.
function header(file) {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  return JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
}

function safetensors(metadata, tensors) {
  const entries = { __metadata__: metadata };
  let end = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    entries[name] = { dtype: "F32", shape, data_offsets: [end, end + data.byteLength] };
    end += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(entries));
  // The format starts tensors at a multiple of 8.
  const start = 8 + Math.ceil(json.length / 8) * 8;
  const file = new Uint8Array(start + end).fill(0x20, 8, start);
  new DataView(file.buffer).setBigUint64(0, BigInt(start - 8), true);
  file.set(json, 8);
  for (const [name, { data }] of Object.entries(tensors)) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start + entries[name].data_offsets[0]);
  }
  return file;
}
