// chromium.mjs DIST [cells|package]: the package in headless Chromium, on its own CPU adapter, SwiftShader.

import { fixtures, here, launch, serve, watch } from "./browser.mjs";
import { within } from "./harness.mjs";

const full = process.env.TIDEGATE_FULL === "1";
const LONGEST_MS = full ? 3_000_000 : 280_000;
const chosen = process.argv[3] ? [process.argv[3]] : ["cells", "package"];

const server = await serve({ dist: process.argv[2] ?? "dist", tests: here, fixtures });
const browser = await launch();
let failed = 1;
try {
  const page = await browser.newPage();
  const troubles = watch(page);
  await page.goto(`${server.address}/tests/blank.html`);
  await page.exposeFunction("say", (line) => console.log(line));
  console.log(await browser.version());
  failed = await within(LONGEST_MS, page.evaluate(async (chosen, full) => {
    const [tidegate, cells, packageTests, { lazy }, { run }] = await Promise.all(
      ["/dist/tidegate.js", "/tests/cells.mjs", "/tests/package.mjs", "/tests/lazy.mjs", "/tests/harness.mjs"].map((path) => import(path)),
    );
    await tidegate.default();
    const copy = async () => {
      const another = await import("/dist/tidegate.js?another");
      await another.default();
      return another;
    };
    const fixture = async (path) => (await fetch(`/fixtures/${path}`)).arrayBuffer();
    const host = { full, all: false, half: false, fixture, dist: `${location.origin}/dist` };
    const parts = { cells: cells.tests, package: packageTests.tests };
    return run([...lazy(tidegate, copy), ...chosen.flatMap((part) => parts[part](tidegate, host))], window.say);
  }, chosen, full), "Chromium");
  for (const trouble of troubles) console.log(`FAILED by the page's ${trouble}`);
  failed += troubles.length;
} catch (error) {
  console.log(`FAILED: ${error.stack ?? error}`);
} finally {
  await browser.close();
  server.close();
}
console.log(`chromium, ${chosen.join(" and ")}: ${failed ? `${failed} FAILED` : "all passed"}`);
process.exit(failed ? 1 : 0);
