// Text as tokens, and the chunks of it that a step sees: as in examples/char_lm/text.rs.

// The distinct characters of a text; a token is a place among them.
export class Vocabulary {
  #tokens;

  constructor(text) {
    this.characters = [...new Set(text)].sort((a, b) => a.codePointAt(0) - b.codePointAt(0));
    this.#tokens = new Map(this.characters.map((character, token) => [character, token]));
  }

  has(character) {
    return this.#tokens.has(character);
  }

  // Of characters that it has.
  encode(text) {
    return Uint32Array.from(text, (character) => this.#tokens.get(character));
  }
}

// What is trained on, and the last 5 %, which are not.
export function split(tokens) {
  const end = tokens.length - Math.floor(tokens.length / 20);
  return [tokens.subarray(0, end), tokens.subarray(end)];
}

// Rows side by side: as many as the held-out part has chunks for, `most` at most.
export function rowsFor(tokens, seqLen, most) {
  const least = 20 * (seqLen + 1);
  if (tokens.length < least) throw new Error(`the text has ${tokens.length} characters, training needs at least ${least}`);
  return Math.min(most, Math.floor(Math.floor(tokens.length / 20) / (seqLen + 1)));
}

// Tokens as B rows, each a part of them as long as the others. Chunk k is the k-th T characters of every row, so that states go on
// from each chunk to the next.
export class Rows {
  #tokens;
  #shape;

  constructor(tokens, shape) {
    this.#tokens = tokens;
    this.#shape = shape;
    this.rowLength = Math.floor(tokens.length / shape.batchSize);
    // Each character's label is the next one: the last has none.
    this.chunks = Math.floor((this.rowLength - 1) / shape.seqLen);
  }

  // [T, B] tokens and the labels, which come one step later.
  batch(k) {
    const { seqLen, batchSize } = this.#shape;
    const all = new Uint32Array((seqLen + 1) * batchSize);
    for (let t = 0; t <= seqLen; t++) {
      for (let b = 0; b < batchSize; b++) all[t * batchSize + b] = this.#tokens[b * this.rowLength + k * seqLen + t];
    }
    return { tokens: all.slice(0, seqLen * batchSize), labels: all.slice(batchSize) };
  }

  all() {
    return Array.from({ length: this.chunks }, (_, k) => this.batch(k));
  }
}
