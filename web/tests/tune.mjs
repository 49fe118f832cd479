// `tune`: every strategy that browsers have is tried, and networks go by what was found.

import { assert, close, equal, fails, numbers, same } from "./harness.mjs";

export async function tune(device) {
  const options = { inputSize: 3, hiddenSize: 8, seed: 5 };
  const call = { seqLen: 20, batchSize: 4 };
  const input = numbers(20 * 4 * 3);
  const network = device.gru(options);
  const before = await network.forward(input, call);
  const found = JSON.parse(await network.tune(call));
  equal("choices", found.choices.length, 1);
  const [choice] = found.choices;
  same("class", [choice.class.cell, choice.class.hidden_size, choice.class.batch_size, choice.class.training], ["gru", 8, 4, false]);
  same("tried", choice.tried.map(({ strategy }) => strategy), ["stepwise", "batched", "resident"]);
  for (const { strategy, ms, error } of choice.tried) assert(ms > 0 && ms < 10_000, `${strategy}: ${ms} ms, ${error}`);
  const fastest = choice.tried.reduce((a, b) => (b.ms < a.ms ? b : a));
  equal("the fastest", choice.strategy, fastest.strategy);
  close("output", (await network.forward(input, call)).output, before.output, 2e-6);

  // Another mode stands beside it.
  const both = JSON.parse(await network.tune({ ...call, training: true }));
  same("modes", both.choices.map(({ class: { training } }) => training), [false, true]);
  equal("the first", JSON.stringify(both.choices[0]), JSON.stringify(choice));

  // What a tuning says is what runs: to the bit what that strategy gives.
  for (const strategy of ["stepwise", "batched", "resident"]) {
    const tuning = JSON.stringify({ ...found, choices: [{ ...choice, strategy }] });
    const tuned = await device.gru({ ...options, tuning }).forward(input, call);
    same(strategy, tuned.output, (await device.gru({ ...options, strategy, tuning }).forward(input, call)).output);
  }
  const elsewhere = JSON.stringify({ ...found, device: "another" });
  await fails("a tuning of another device", () => device.gru({ ...options, tuning: elsewhere }), /`another`/);
  await fails("no tuning", () => device.gru({ ...options, tuning: "fast" }), /^option `tuning` is not what `tune` gave: /);
}
