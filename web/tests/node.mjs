// node.mjs DIST [cells|package]: the package under Node, on Dawn: its compiler is Chromium's, its driver is this machine's Vulkan.

import { readFile } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { resolve } from "node:path";
import { create, globals } from "webgpu";
import * as cells from "./cells.mjs";
import { run } from "./harness.mjs";
import { lazy } from "./lazy.mjs";
import * as packageTests from "./package.mjs";

const dist = resolve(process.argv[2] ?? "dist");
const fixtures = fileURLToPath(new URL("../../tests/fixtures/", import.meta.url));

// What nobody waits for is a failure as well.
for (const event of ["unhandledRejection", "uncaughtException"]) {
  process.on(event, (error) => {
    console.error(`FAILED by ${event}:`, error);
    process.exit(1);
  });
}

Object.assign(globalThis, globals, { Window: class {} });
// What the package fetches itself lies in a folder here, and Node's own fetch reads no files.
const { fetch } = globalThis;
globalThis.fetch = async (url, ...rest) => {
  if (new URL(url).protocol !== "file:") return fetch(url, ...rest);
  return readFile(url).then((bytes) => new Response(bytes), (error) => new Response(null, { status: 404, statusText: error.code }));
};
Object.defineProperty(globalThis, "navigator", { value: { gpu: create([]) }, configurable: true });
async function load(query = "") {
  const tidegate = await import(pathToFileURL(`${dist}/tidegate.js`) + query);
  await tidegate.default({ module_or_path: await readFile(`${dist}/tidegate_bg.wasm`) });
  return tidegate;
}
const tidegate = await load();

const host = { full: process.env.TIDEGATE_FULL === "1", all: true, half: true, fixture: (path) => readFile(fixtures + path) };
const parts = { cells: cells.tests, package: packageTests.tests };
const chosen = process.argv[3] ? [process.argv[3]] : Object.keys(parts);
const failed = await run([...lazy(tidegate, () => load("?another")), ...chosen.flatMap((part) => parts[part](tidegate, host))], console.log);
console.log(`node, ${chosen.join(" and ")}: ${failed ? `${failed} FAILED` : "all passed"}`);
// Dawn keeps the process alive.
process.exit(failed ? 1 : 0);
