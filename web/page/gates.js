// Part three: what a character model's gates do while one types.

const $ = (id) => document.getElementById(id);
// Of a column of a map: room for its character.
const COLUMN = 7;
const FEWEST = 16;
const SPEAK_AFTER_MS = 900;

export function startGates(client) {
  const status = $("gates-status");
  let units = 0;
  let maps = null;
  let latest = null;
  let busy = false;
  let again = false;
  let speak = 0;

  function say(state, text) {
    status.dataset.state = state;
    status.textContent = text;
  }

  // One request at a time; of the keys meanwhile only the last counts.
  async function read() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      do {
        again = false;
        latest = await client.call("gates", $("gates-text").value);
        show();
      } while (again);
    } catch (error) {
      say("failed", `The gates cannot be shown: ${error.message}`);
    }
    busy = false;
  }

  function show() {
    showGuesses(latest.guesses);
    clearTimeout(speak);
    speak = setTimeout(() => say("done", summary(latest)), status.dataset.state === "done" ? SPEAK_AFTER_MS : 0);
    $("gates-maps").hidden = $("gates-table").hidden = latest.groups.length === 0;
    if (latest.groups.length === 0) return;
    $("gates-formula").textContent = `${latest.groups[0].cell}: ${latest.formula}`;
    drawMaps();
    showShares(latest.groups[0].maps);
  }

  // As many of the last characters as there is room for.
  function drawMaps() {
    maps ??= new Maps($("gates-maps"), latest.groups, units);
    maps.update(latest);
  }

  new ResizeObserver(() => maps && latest?.groups.length && maps.update(latest)).observe($("gates-maps"));
  $("gates-text").addEventListener("input", read);

  // Another model, as a file.
  async function use(file, name) {
    const model = await client.call("loadGates", file);
    units = model.units;
    maps = null;
    $("gates-model").textContent = `${name} reads what you type: ${model.cell}, ${model.units} units, ${model.characters} characters known.`;
    await read();
  }

  fetch("model.safetensors").then(async (response) => {
    if (!response.ok) throw new Error(`model.safetensors: ${response.status} ${response.statusText}`);
    await use(new Uint8Array(await response.arrayBuffer()), "A small LSTM that was trained on The Tempest");
  }).catch((error) => say("failed", `The model could not be loaded: ${error.message}`));

  return { use };
}

// Heat maps whose columns are characters.
class Maps {
  #container;
  #group;
  #view;

  constructor(outer, [group], units) {
    this.#container = element("div", { className: "maps" });
    outer.replaceChildren(this.#container);
    const maps = group.maps.map(({ name, about, gate }) => ({ name, about, gate }));
    this.#group = { name: group.name, units, rows: [{ number: 0, active: 0 }], maps, steps: 0, first: 0, labels: [] };
  }

  update({ shown, groups: [group] }) {
    const room = this.#container.querySelector("figure > canvas")?.clientWidth ?? Math.min(this.#container.clientWidth, 600) - 56;
    const steps = Math.min(shown.length, Math.max(FEWEST, Math.floor(room / COLUMN)));
    const first = shown.length - steps;
    const mine = this.#group;
    Object.assign(mine, { steps, first, labels: shown.slice(first).map(visible) });
    mine.rows[0].active = steps;
    group.maps.forEach(({ low, high, bytes }, at) => Object.assign(mine.maps[at], { low, high, bytes: bytes.subarray(first * mine.units) }));
    this.#view ??= gateMaps(this.#container, mine);
    this.#view.show(0, -1);
  }
}

function visible(character) {
  return { "\n": "↵", " ": "␣", "\t": "⇥" }[character] ?? character;
}

function spoken(character) {
  return { "\n": "line break", " ": "space", "\t": "tab" }[character] ?? character;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function summary({ shown, unknown, guesses }) {
  const left = unknown.length ? ` Left out, for the model does not know them: ${unknown.join(" ")}` : "";
  if (shown.length === 0) return `Type something that the model knows.${left}`;
  const likely = guesses.slice(0, 3).map(({ character, share }) => `${spoken(character)} ${percent(share)}`);
  return `${shown.length} characters read. Next, likely: ${likely.join(", ")}.${left}`;
}

function showGuesses(guesses) {
  $("gates-guesses").replaceChildren(...guesses.map(({ character, share }) => {
    const bar = element("span", { className: "bar" });
    bar.style.width = `${100 * share}%`;
    return element("li", {}, element("code", { textContent: spoken(character) }), element("span", { className: "share", textContent: percent(share) }), bar);
  }));
}

function showShares(maps) {
  const share = (part) => (part ? `${percent(part.share)}: ${part.meaning}` : "");
  $("gates-rows").tBodies[0].replaceChildren(...maps.map(({ name, mean, shut, open }) => element("tr", {},
    element("th", { scope: "row", textContent: name }),
    ...[mean.toFixed(3), share(shut), share(open)].map((text) => element("td", { textContent: text })))));
}
