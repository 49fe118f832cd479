// Gates and suites, as the page shows them.

import { assert, close, equal, numbers } from "./harness.mjs";

export async function gates({ Reference }) {
  const reference = new Reference("lstm", { inputSize: 3, hiddenSize: 4, numLayers: 2, seed: 6 });
  const input = numbers(5 * 2 * 3);
  const call = { seqLen: 5, batchSize: 2, lengths: Uint32Array.of(5, 3) };
  const { output, groups, formula } = reference.gates(input, call);
  close("output", output, reference.forward(input, call).output, 0);
  assert(formula.includes("c"), `formula: ${formula}`);
  equal("groups", groups.map(({ name, cell }) => `${name}: ${cell}`).join("; "), "layer 0, forward: lstm; layer 1, forward: lstm");
  for (const { maps } of groups) {
    for (const { name, gate, low, high, mean, bytes } of maps) {
      equal(`${name}: bytes`, bytes.length, 2 * 5 * 4);
      assert(low <= mean && mean <= high && (!gate || (low >= 0 && high <= 1)), `${name}: ${low}, ${mean}, ${high}`);
      assert(bytes.subarray((5 + 3) * 4).every((byte) => byte === 0), `${name}: something past a row's length`);
    }
  }
  // h of the last layer is the output, [B, T, H] against [T, B, H].
  const h = groups[1].maps.find(({ name }) => name === "h");
  const drawn = Array.from({ length: 40 }, (_, i) => {
    const [t, b, unit] = [Math.floor(i / 8), Math.floor(i / 4) % 2, i % 4];
    return t < call.lengths[b] ? h.low + (h.bytes[(b * 5 + t) * 4 + unit] / 255) * (h.high - h.low) : 0;
  });
  close("h as it is drawn", drawn, output, (h.high - h.low) / 255);
}

export async function bench(device) {
  const suite = device.bench("quick", { strategy: "resident" });
  assert(suite.cases.length > 3, `cases: ${suite.cases.length}`);
  const peaks = await suite.peaks();
  for (const [name, value] of Object.entries(peaks)) if (typeof value === "number") assert(value > 0, `${name}: ${value}`);
  suite.stop();
  const row = await suite.run(0);
  equal("error", row.error, undefined);
  equal("verified", row.verified, true);
  assert(row.ms_median > 0 && row.max_rel_err < 1e-4 && row.dispatches > 0, JSON.stringify(row));
  const report = JSON.parse(await suite.report());
  equal("rows of the report", report.results.length, 1);
  equal("its cell", report.results[0].cell, row.cell);
  equal("interrupted", report.interrupted, true);
  const last = suite.cases.length;
  let message = "";
  await suite.run(last).catch((error) => ({ message } = error));
  equal("a case too many", message, `case ${last} of ${last}, counted from 0`);
}
