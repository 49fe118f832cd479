// The example of web/README.md, as it stands there but for where its files lie. In browsers alone: modules out of text.

import { assert, close, equal } from "./harness.mjs";

export async function example({ Reference }, { dist }) {
  const [, code] = (await (await fetch(`${dist}/README.md`)).text()).match(/```js\n([\s\S]*?)```/);
  const lines = code.trim().split("\n").filter((line) => line !== "").length;
  assert(lines <= 15, `the example has ${lines} lines, 15 were promised`);
  // As PyTorch names them.
  const made = new Reference("lstm", { inputSize: 3, hiddenSize: 5, seed: 2 });
  const file = URL.createObjectURL(new Blob([made.toSafetensors()]));
  const printed = [];
  const here = code.replace("./tidegate.js", `${dist}/tidegate.js`).replace("lstm.safetensors", file).replace("console.log", "globalThis.printed.push");
  globalThis.printed = printed;
  await import(URL.createObjectURL(new Blob([here], { type: "text/javascript" })));
  const [output, finalState, hidden, losses] = printed;
  equal("lengths", [output, finalState, hidden].join(), [32 * 5, 2 * 5, 5].join());
  // All logits are near 0 at first.
  close("the first loss", losses, [Math.log(65)], 0.2);
}
