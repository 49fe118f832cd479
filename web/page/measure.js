// Part one: the suites of `tidegate bench` on this device.

import { download, slug, today } from "./files.js";

const $ = (id) => document.getElementById(id);

export function startMeasure(device, most) {
  const { client } = device;
  const status = $("measure-status");
  const body = $("measure-rows").tBodies[0];
  let report = null;
  let bars = [];
  let count = 0;
  let started = 0;

  function say(state, text) {
    status.dataset.state = state;
    status.textContent = text;
  }

  device.addEventListener("change", () => {
    const mine = device.user === "measure";
    $("measure-start").disabled = device.state !== "open" || device.user !== null;
    $("measure-stop").disabled = !mine;
    $("measure-settings").disabled = mine;
    $("measure-download").disabled = mine || report === null;
    if (mine) return;
    if (device.state === "open") {
      showDevice(device.facts);
      const state = status.dataset.state;
      if (["waiting", "missing"].includes(state)) say("idle", "Ready.");
    } else if (status.dataset.state !== "failed") {
      say(device.state, device.why);
    }
  });

  client.on("cases", (cases) => {
    count = cases.length;
    $("measure-bar").max = count;
  });
  client.on("peaks", (peaks) => showPeaks(peaks));
  client.on("case", ({ index, name }) => {
    const spent = (performance.now() - started) / 1000;
    const left = index > 0 ? `, about ${seconds((spent / index) * (count - index))} left` : "";
    $("measure-bar").value = index;
    $("measure-case").textContent = `${index + 1} of ${count}: ${name}${left}`;
  });
  client.on("row", ({ name, row }) => {
    body.append(tableRow(name, row));
    if (row.ms_median === null || row.error) return;
    bars.push({ name, bars: [{ index: 0, value: row.ms_median, text: `${name}: ${digits(row.ms_median)} ms, ${row.strategy}` }] });
    // Whoever reads the chart by keys keeps it.
    if (!$("measure-chart").contains(document.activeElement)) drawBars();
  });

  function drawBars() {
    barChart($("measure-chart"), { title: "Median of a run", unit: "ms", series: [{ name: "ms", index: 0 }], groups: bars });
  }

  async function run() {
    [report, bars, count, started] = [null, [], 0, performance.now()];
    body.replaceChildren();
    $("measure-chart").replaceChildren();
    $("measure-bar").value = 0;
    $("measure-case").textContent = "Measuring what the device reaches at most …";
    $("measure-table").hidden = false;
    $("measure-progress").hidden = false;
    say("running", "Measuring. The device should do nothing else meanwhile.");
    try {
      const options = { suite: $("measure-suite").value, strategy: $("measure-strategy").value, most };
      const outcome = await device.use("measure", () => client.call("measure", options));
      report = outcome.report;
      finish(outcome);
    } catch (error) {
      say("failed", `Measuring failed: ${error.message}`);
    }
    if (bars.length) drawBars();
    $("measure-progress").hidden = true;
    $("measure-download").disabled = report === null;
  }

  function finish({ done, of, lost }) {
    const failed = body.querySelectorAll("[data-verified=false]").length;
    const cases = `${done} of ${of} cases, ${failed ? `${failed} failed` : "all verified"}`;
    if (lost) say("failed", `The device was lost after ${cases}.`);
    else say(done < of ? "stopped" : "done", `${done < of ? "Stopped" : "Done"}: ${cases}.`);
  }

  $("measure-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  $("measure-stop").addEventListener("click", () => {
    $("measure-stop").disabled = true;
    say("running", "Stopping after this case …");
    client.call("stopMeasure").catch(() => {});
  });
  $("measure-download").addEventListener("click", () => {
    download(`tidegate-${slug(device.facts.name)}-${today()}.json`, "application/json", report);
  });
}

function seconds(value) {
  return value < 90 ? `${Math.ceil(value)} s` : `${Math.round(value / 60)} min`;
}

function showDevice({ name, type, features }) {
  $("device").hidden = false;
  $("device-name").textContent = name || "A device that does not tell its name";
  $("device-software").hidden = type !== "software";
  showFacts([["type", type], ["features", features.join(", ") || "none of those used"]]);
}

function showPeaks({ peak_gflops, peak_gbytes, submit_us, dispatch_us }) {
  showFacts([
    ["peaks", `${digits(peak_gflops)} GFLOP/s in registers, ${digits(peak_gbytes)} GB/s copying`],
    ["costs", `${digits(submit_us)} µs a submit and wait, ${digits(dispatch_us)} µs a dispatch`],
  ]);
}

// Adds facts, or replaces those that are there.
function showFacts(facts) {
  for (const [name, text] of facts) {
    const id = `device-${name}`;
    if (!$(id)) $("device-facts").append(element("dt", { textContent: name }), element("dd", { id }));
    $(id).textContent = text;
  }
}

function tableRow(name, row) {
  const made = element("tr", {}, element("th", { scope: "row", textContent: name }));
  made.dataset.verified = row.verified && !row.error;
  if (row.error) {
    made.append(element("td", { className: "error failed", colSpan: 6, textContent: row.error }));
    return made;
  }
  const number = (value) => (value === null ? "–" : digits(value));
  const speed = row.us_per_step_p50 !== null ? `${digits(row.us_per_step_p50)} µs/step`
    : row.gflops !== null ? `${digits(row.gflops)} GFLOP/s` : "–";
  const cells = [row.dispatches ?? "–", number(row.ms_median), speed, number(row.max_rel_err)];
  made.append(element("td", { textContent: row.strategy }), ...cells.map((text) => element("td", { className: "number", textContent: text })),
    element("td", { className: row.verified ? "yes" : "failed", textContent: row.verified ? "yes" : "no" }));
  return made;
}
