// shaders.mjs DIR: every shader that tests/shaders.rs wrote there, read by Tint, which Chromium compiles WGSL with.

import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { create, globals } from "webgpu";

const folder = process.argv[2];
const files = (await readdir(folder)).filter((name) => name.endsWith(".wgsl")).sort();
Object.assign(globalThis, globals);
// Kept where the garbage collector sees it: Dawn does not outlive its instance.
globalThis.instance = create([]);
const adapter = await globalThis.instance.requestAdapter();
const needed = ["shader-f16", "subgroups"];
const lacking = adapter ? needed.filter((feature) => !adapter.features.has(feature)) : ["adapter"];
if (files.length === 0 || lacking.length) {
  console.error(`FAILED: ${files.length} shaders in ${folder}; lacking ${lacking.join(", ") || "nothing"}`);
  process.exit(1);
}
const device = await adapter.requestDevice({ requiredFeatures: needed });

const start = performance.now();
// What wgpu has beyond WebGPU.
const skipped = { "wgpu_cooperative_matrix": 0, "var<immediate>": 0 };
const refused = new Map();
let taken = 0;
for (const file of files) {
  const code = await readFile(join(folder, file), "utf8");
  const beyond = Object.keys(skipped).find((word) => code.includes(word));
  if (beyond) {
    skipped[beyond] += 1;
    continue;
  }
  // naga wants no such line and does not know it.
  const enable = /\bsubgroup[A-Z]/.test(code) ? "enable subgroups;\n" : "";
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: enable + code });
  const [error, { messages }] = await Promise.all([device.popErrorScope(), module.getCompilationInfo()]);
  const said = messages.filter(({ type }) => type === "error").map(({ lineNum, message }) => `line ${lineNum}: ${message}`);
  if (!error && !said.length) taken += 1;
  else {
    const message = said[0] ?? error.message;
    const kind = `${file.replace(/-\d+\.wgsl$/, "")}: ${message.replace(/line \d+: /, "")}`;
    if (!refused.has(kind)) refused.set(kind, { file, message, count: 0 });
    refused.get(kind).count += 1;
  }
}
for (const { file, message, count } of refused.values()) console.log(`FAILED ${count} like ${file}: ${message}`);
const left = Object.entries(skipped).map(([word, count]) => `${count} with ${word}`).join(", ");
console.log(`shaders: Tint took ${taken} of ${files.length}; LEFT OUT, beyond WebGPU: ${left}; ${((performance.now() - start) / 1000).toFixed(0)} s`);
process.exit(refused.size || taken === 0 ? 1 : 0);
