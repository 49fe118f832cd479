// Chromium and a server for it, on this machine alone.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm",
  ".svg": "image/svg+xml", ".json": "application/json", ".txt": "text/plain; charset=utf-8", ".safetensors": "application/octet-stream",
};
// Chromium has WebGPU on the CPU, by SwiftShader, where it is told that this is wanted.
const WEBGPU = ["--enable-unsafe-webgpu", "--enable-unsafe-swiftshader", "--use-webgpu-adapter=swiftshader"];
const QUIET = [
  "--no-sandbox", "--disable-background-networking", "--disable-quic", "--no-first-run", "--disable-component-update", "--disable-sync",
  "--disable-default-apps", "--disable-dev-shm-usage",
];

/// Serves folders by the first part of their paths; gives the server and its address.
export async function serve(folders) {
  const server = createServer(async (request, response) => {
    const [, mount, ...rest] = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)).split("/");
    const path = rest.join("/") || "index.html";
    try {
      if (!(mount in folders)) throw new Error("no such folder");
      // An empty page for modules to run in.
      const body = path === "blank.html" ? '<!doctype html><link rel="icon" href="data:,">' : await readFile(join(resolve(folders[mount]), path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream", "cache-control": "no-store" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { address: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

export function launch({ webgpu = true } = {}) {
  const executablePath = process.env.TIDEGATE_CHROMIUM ?? "/usr/bin/chromium";
  return puppeteer.launch({ executablePath, headless: true, args: [...QUIET, ...(webgpu ? WEBGPU : ["--disable-features=WebGPU"])], protocolTimeout: 0 });
}

/// Collects all that goes wrong in a page, or in its workers, without a word to the test.
export function watch(page) {
  const troubles = [];
  page.on("pageerror", (error) => troubles.push(`error: ${error?.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() === "error") troubles.push(`console: ${message.text()} (${message.location().url ?? ""})`);
  });
  page.on("error", (error) => troubles.push(`the page crashed: ${error}`));
  page.on("requestfailed", (request) => troubles.push(`request: ${request.url()}: ${request.failure()?.errorText}`));
  return troubles;
}

export const fixtures = fileURLToPath(new URL("../../tests/fixtures", import.meta.url));
export const here = fileURLToPath(new URL(".", import.meta.url));
