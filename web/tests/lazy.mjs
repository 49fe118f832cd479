// What few pages need is a module of its own: nothing fetches it before it is asked for, and a fetch that fails is told and tried again.
// These run first, before anything else asks for it. `copy` imports the package by another address and gives it ready for use.

import { assert, equal, fails, numbers } from "./harness.mjs";

const TOOLS = "split_tools.wasm";

export function lazy({ Device, Reference }, copy) {
  const sizes = { inputSize: 3, hiddenSize: 4 };
  const call = { seqLen: 3, batchSize: 2 };

  // Answers with 404 as often as `failures` says; gives how many fetches of that module there were.
  async function watched(failures, work) {
    const { fetch } = globalThis;
    const { error } = console;
    const said = [];
    let fetches = 0;
    globalThis.fetch = async (url, ...rest) => {
      if (!String(url).endsWith(`/${TOOLS}`)) return fetch(url, ...rest);
      fetches += 1;
      return fetches <= failures ? new Response("<!doctype html>", { status: 404, statusText: "Not Found" }) : fetch(url, ...rest);
    };
    console.error = (what) => said.push(String(what));
    try {
      await work();
    } finally {
      Object.assign(globalThis, { fetch });
      console.error = error;
    }
    return { fetches, said };
  }

  async function unasked() {
    const { fetches } = await watched(0, async () => {
      const device = await Device.open();
      const lstm = device.lstm(sizes);
      const { output } = await lstm.forward(numbers(3 * 2 * 3), call);
      equal("output", output.length, 3 * 2 * 4);
      await lstm.session().step(numbers(3));
      const trainer = device.trainer("lstm", { ...sizes, outputs: 2, ...call });
      await trainer.step({ features: numbers(3 * 2 * 3), labels: new Uint32Array(6) }, 0.1);
      equal("losses", (await trainer.losses()).length, 1);
      new Reference("lstm", sizes).gates(numbers(3 * 2 * 3), call);
      assert(device.bench("quick").cases.length > 3, "a suite without cases");
    });
    equal("fetches", fetches, 0);
  }

  async function asked() {
    const device = await Device.open();
    const { fetches, said } = await watched(1, async () => {
      await fails("a module that is not there", () => device.check("gru", { ...sizes, ...call }), /^split_tools\.wasm could not be loaded: /);
      // Both wait for one fetch.
      const all = await Promise.all([device.check("gru", { ...sizes, ...call }), device.check("lstm", { ...sizes, ...call })]);
      for (const { maxRelErr } of all) assert(maxRelErr > 0 && maxRelErr < 1e-4, `largest relative error ${maxRelErr}`);
      JSON.parse(await device.gru(sizes).tune(call));
      JSON.parse(await device.bench("quick").report());
    });
    equal("fetches", fetches, 2);
    assert(said.length === 1 && said[0].includes("404 Not Found"), `the console: ${said}`);
  }

  // By an address with a query, as pages name versions: it shares nothing with the first, whose tools are there already.
  async function another() {
    const { Device } = await copy();
    const { fetches } = await watched(0, async () => {
      const { maxRelErr } = await (await Device.open()).check("lstm", { ...sizes, ...call });
      assert(maxRelErr > 0 && maxRelErr < 1e-4, `largest relative error ${maxRelErr}`);
    });
    equal("fetches", fetches, 1);
  }

  return [
    ["nothing is fetched that was not asked for", unasked],
    ["tools are fetched once, and again where that failed", asked],
    ["another copy of the package fetches its own", another],
  ];
}
