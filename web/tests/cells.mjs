// Every cell under every strategy, forward and backward, each tensor checked against the float64 reference by `Device.check`.

import { assert, random } from "./harness.mjs";

const FACTORS = {
  cell: ["lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu", "rnn_linear", "binary_gate"],
  strategy: ["stepwise", "batched", "resident"],
  hiddenSize: [9, 1, 32, 17, 40, 36],
  numLayers: [1, 2, 3],
  direction: ["forward", "reverse", "bidirectional"],
  seqLen: [6, 1, 2],
  batchSize: [3, 17, 1],
  inputSize: [5, 1, 8],
  bias: [true, false],
  batchFirst: [false, true],
  ragged: [true, false],
  resets: [true, false],
  dropout: [0, 0.3],
  dtype: ["f32", "f16"],
};

// Beyond what pairs reach: weights that no workgroup holds, and several rows a workgroup beside one.
const SPECIAL = [
  ...["stepwise", "batched", "resident"].map((strategy) => ({ cell: "lstm", strategy, hiddenSize: 300, batchSize: 3 })),
  ...["gru", "rnn_tanh"].map((cell) => ({ cell, strategy: "resident", hiddenSize: 300, batchSize: 1 })),
  { cell: "gru_reset_before", strategy: "resident", hiddenSize: 300, batchSize: 3, dtype: "f16" },
  { cell: "lstm", strategy: "resident", hiddenSize: 32, batchSize: 17 },
  { cell: "gru", strategy: "resident", hiddenSize: 40, batchSize: 17, dtype: "f16" },
  { cell: "lstm", strategy: "auto", hiddenSize: 24, seqLen: 20, ragged: false, resets: false },
];

/// Cases in which every two values of every two factors meet; those of cell and strategy in the first 21.
function pairwise() {
  const next = random(1);
  const names = Object.keys(FACTORS);
  const missing = new Map();
  names.forEach((a, at) => names.slice(at + 1).forEach((b) => {
    for (const x of FACTORS[a]) for (const y of FACTORS[b]) missing.set(`${a} ${x} ${b} ${y}`, [a, x, b, y]);
  }));
  const pairs = (row) => names.flatMap((a, at) => names.slice(at + 1).map((b) => `${a} ${row[a]} ${b} ${row[b]}`));
  const gain = (row) => pairs(row).filter((pair) => missing.has(pair)).length;
  const rows = [];
  while (missing.size) {
    const [a, x, b, y] = missing.values().next().value;
    let best = null;
    let most = -1;
    for (let i = 0; i < 60; i++) {
      const row = Object.fromEntries(names.map((name) => [name, FACTORS[name][Math.floor(next() * FACTORS[name].length)]]));
      Object.assign(row, { [a]: x, [b]: y });
      const gained = gain(row);
      if (gained > most) [best, most] = [row, gained];
    }
    pairs(best).forEach((pair) => missing.delete(pair));
    rows.push(best);
  }
  return rows;
}

/// In full all pairs, else the first of them, which have each cell under each strategy; and the special ones.
export function cases(full) {
  const rows = pairwise();
  const shared = { inputSize: 5, seqLen: 4, batchSize: 2 };
  return [...(full ? rows : rows.slice(0, FACTORS.cell.length * FACTORS.strategy.length)), ...SPECIAL.map((special) => ({ ...shared, ...special }))];
}

/// `half` tells whether the device must compute in f16 itself or, else, must not.
export function tests({ Device }, { full, half }) {
  let device;
  let largest = { f32: 0, f16: 0 };
  const open = async () => {
    device = await Device.open();
    const has = device.features.includes("shader-f16");
    assert(has === half, `shader-f16: ${has}, this host is here to test ${half}`);
    return `${device.name} (${device.type}; ${device.features.join(", ")})`;
  };
  const check = async ({ cell, ...options }) => {
    const { maxRelErr } = await device.check(cell, { seed: 1, ...options });
    // A result of exactly 0 would mean that nothing was compared.
    assert(maxRelErr > 0 && maxRelErr < 1e-2, `largest relative error ${maxRelErr}`);
    largest[options.dtype ?? "f32"] = Math.max(largest[options.dtype ?? "f32"], maxRelErr);
  };
  return [
    ["a device", open],
    ...cases(full).map((options) => [label(options), () => check(options)]),
    ["largest relative errors", async () => `f32 ${largest.f32.toExponential(1)}, f16 ${largest.f16.toExponential(1)}`],
  ];
}

function label({ cell, strategy, ...options }) {
  const words = Object.entries(options).map(([name, value]) => (value === true ? name : value === false ? `no ${name}` : `${name} ${value}`));
  return `${cell} ${strategy}, ${words.join(", ")}`;
}
