// page.mjs DIST: the page's three parts in headless Chromium, wide and narrow, light and dark. TIDEGATE names the command that
// reads the page's report; TIDEGATE_SCREENSHOTS a folder for pictures.

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { launch, serve, watch } from "./browser.mjs";
import { assert, equal, run } from "./harness.mjs";

const { TIDEGATE, TIDEGATE_SCREENSHOTS } = process.env;
const PATIENCE = { timeout: 50_000, polling: 200 };
const LOOKS = [[1280, "light"], [390, "dark"], [390, "light"], [1280, "dark"]];

const server = await serve({ dist: process.argv[2] ?? "dist" });
const downloads = await mkdtemp(join(tmpdir(), "tidegate-"));
if (TIDEGATE_SCREENSHOTS) await mkdir(TIDEGATE_SCREENSHOTS, { recursive: true });

const state = (page, part) => page.$eval(`#${part}-status`, (status) => `${status.dataset.state}: ${status.textContent}`);
// Until a part is as it should be; says what it is instead.
async function reaches(page, part, wanted) {
  const reached = (part, wanted) => [...wanted, "failed"].includes(document.querySelector(`#${part}-status`)?.dataset.state);
  await page.waitForFunction(reached, PATIENCE, part, wanted).catch(async (error) => {
    throw new Error(`#${part}-status: expected ${wanted.join(" or ")}, is ${await state(page, part).catch(String)}`, { cause: error });
  });
  const now = await state(page, part);
  assert(wanted.some((word) => now.startsWith(`${word}:`)), `#${part}-status: expected ${wanted.join(" or ")}, is ${now}`);
  return now;
}

async function downloaded(page, button, ending) {
  await page.click(button);
  for (let tries = 0; tries < 100; tries++) {
    const name = (await readdir(downloads)).find((name) => name.endsWith(ending));
    if (name) return join(downloads, name);
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${button}: no ${ending} within 10 s`);
}

// Presses Tab until `id` has the focus.
async function tabTo(page, id) {
  for (let presses = 0; presses < 60; presses++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((id) => document.activeElement?.id === id, id)) return;
  }
  throw new Error(`60 presses of Tab do not reach #${id}`);
}

async function fits(page, width) {
  const [wide, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  equal("the window's width", shown, width);
  assert(wide <= width, `the page is ${wide} wide in a window of ${width}: it scrolls sideways`);
}

async function open(browser, [width, scheme], query) {
  const context = await browser.createBrowserContext({ downloadBehavior: { policy: "allow", downloadPath: downloads } });
  const page = await context.newPage();
  const troubles = watch(page);
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(`${server.address}/dist/${query}`);
  return { page, troubles, context };
}

async function picture(page, name) {
  if (TIDEGATE_SCREENSHOTS) await page.screenshot({ path: join(TIDEGATE_SCREENSHOTS, `${name}.png`), fullPage: true });
}

/// A test on a page of its own, which fails by whatever the page complains of.
const on = (browser, look, query, test) => async () => {
  const { page, troubles, context } = await open(browser(), look, query);
  try {
    const note = await test(page);
    await fits(page, look[0]);
    assert(troubles.length === 0, troubles.join("; "));
    return note;
  } catch (error) {
    await picture(page, "failed");
    if (troubles.length) error.message += `\n(the page says: ${troubles.join("; ")})`;
    throw error;
  } finally {
    await context.close();
  }
};

async function measures(page) {
  await reaches(page, "measure", ["idle"]);
  // By the keyboard alone.
  await tabTo(page, "measure-start");
  await page.keyboard.press("Enter");
  const said = await reaches(page, "measure", ["done", "stopped"]);
  const rows = await page.$$eval("#measure-rows tbody tr", (rows) => rows.map((row) => [row.dataset.verified, row.textContent]));
  equal("rows", rows.length, 2);
  for (const [verified, text] of rows) equal(`verified: ${text}`, verified, "true");
  const bars = await page.$$eval("#measure-chart svg [tabindex], #measure-chart svg rect", (bars) => bars.length);
  assert(bars >= 2, `the chart has ${bars} bars`);
  const file = await downloaded(page, "#measure-download", ".json");
  const report = JSON.parse(await readFile(file, "utf8"));
  equal("rows of the file", report.results.length, 2);
  assert(report.results.every(({ verified, ms_median: median }) => verified && median > 0), JSON.stringify(report.results));
  if (!TIDEGATE) return `${said}; LEFT OUT: TIDEGATE is not set, the command has not read the file`;
  const { stdout } = await promisify(execFile)(TIDEGATE, ["compare", file]);
  const cells = report.results.map(({ cell }) => cell);
  assert(cells.every((cell) => stdout.includes(cell)), `tidegate compare: ${stdout}`);
}

async function trains(page) {
  await reaches(page, "train", ["idle"]);
  await tabTo(page, "train-start");
  await page.keyboard.press("Enter");
  await reaches(page, "train", ["done"]);
  const bits = Number((await page.$eval("#train-progress", (line) => line.textContent)).match(/([\d.]+) bits/)?.[1]);
  assert(bits > 1 && bits < 7, `${bits} bits a character after 30 steps`);
  const points = Math.max(...await page.$$eval("#train-loss path.line", (lines) => lines.map((line) => line.getAttribute("d").split(/[ML]/).length - 1)));
  assert(points >= 5, `the curve has ${points} points`);
  const sample = await page.$eval("#train-sample", (sample) => sample.textContent);
  assert(sample.length > 20, `the sample: ${sample}`);
  const before = await page.$eval("#gates-model", (line) => line.textContent);
  await page.click("#train-use");
  await page.waitForFunction((before) => document.querySelector("#gates-model").textContent !== before, PATIENCE, before);
  await reaches(page, "gates", ["done"]);
  assert((await drawn(page)).length > 0, "no maps of the trained model");
}

// What the maps show, as text; a canvas by its pixels.
function drawn(page) {
  return page.$$eval("#gates-maps canvas", (all) => all.map((canvas) => canvas.toDataURL()).join());
}

async function watches(page) {
  await reaches(page, "gates", ["done"]);
  const before = await drawn(page);
  assert(before.length > 0, "no maps at first");
  const guesses = () => page.$$eval("#gates-guesses li", (items) => items.map((item) => item.textContent));
  const first = await guesses();
  equal("guesses", first.length, 5);
  await page.focus("#gates-text");
  await page.keyboard.type("it o");
  await page.waitForFunction((before) => [...document.querySelectorAll("#gates-maps canvas")].map((canvas) => canvas.toDataURL()).join() !== before, PATIENCE, before);
  await reaches(page, "gates", ["done"]);
  assert((await guesses()).join() !== first.join(), `the same guesses after four keys: ${first}`);
}

async function hasNone(page) {
  await reaches(page, "measure", ["missing"]);
  await reaches(page, "train", ["missing"]);
  assert(await page.$eval("#no-webgpu", (box) => !box.hidden && box.offsetHeight > 0), "#no-webgpu is not shown");
  const reason = await page.$eval("#no-webgpu-reason", (line) => line.textContent);
  assert(reason.length > 10, `the reason: ${reason}`);
  for (const id of ["measure-start", "train-start"]) assert(await page.$eval(`#${id}`, (button) => button.disabled), `#${id} can be pressed`);
  await watches(page);
  return reason;
}

const browsers = {};
const failed = await (async () => {
  try {
    browsers.webgpu = await launch();
    browsers.plain = await launch({ webgpu: false });
    return await run([
      ["measures, wide", on(() => browsers.webgpu, LOOKS[0], "?cases=2", async (page) => {
        const note = await measures(page);
        await picture(page, "measured-wide-light");
        return note;
      })],
      ["trains, narrow", on(() => browsers.webgpu, LOOKS[1], "?steps=30", async (page) => {
        await trains(page);
        await picture(page, "trained-narrow-dark");
      })],
      ...LOOKS.map((look) => [`watches gates, ${look.join(" and ")}`, on(() => browsers.webgpu, look, "", async (page) => {
        await watches(page);
        await picture(page, `gates-${look.join("-")}`);
      })]),
      ["without WebGPU, narrow", on(() => browsers.plain, LOOKS[2], "", async (page) => {
        const note = await hasNone(page);
        await picture(page, "without-webgpu");
        return note;
      })],
    ], console.log);
  } catch (error) {
    console.log(`FAILED: ${error.stack ?? error}`);
    return 1;
  } finally {
    for (const browser of Object.values(browsers)) await browser.close();
    server.close();
    await rm(downloads, { recursive: true });
  }
})();
console.log(failed ? `page: ${failed} FAILED` : "page: all passed");
process.exit(failed ? 1 : 0);
