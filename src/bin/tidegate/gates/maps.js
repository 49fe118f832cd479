// Heat maps of gates and states: time along x, units along y, one canvas each. Plain JavaScript, nothing from outside; a page needs
// dom.js before this and maps.css beside it.

// Stops of colours as [r, g, b], from the low end of a scale to its high end.
const GATE_COLOURS = {
  light: {
    sequential: [[248, 250, 252], [196, 218, 239], [120, 173, 217], [52, 122, 186], [21, 76, 135], [8, 37, 74]],
    diverging: [[122, 56, 0], [203, 112, 27], [242, 187, 124], [248, 248, 246], [146, 190, 230], [44, 117, 183], [10, 56, 107]],
  },
  dark: {
    sequential: [[24, 29, 37], [20, 60, 102], [27, 103, 166], [66, 152, 211], [142, 203, 240], [233, 246, 255]],
    diverging: [[255, 221, 178], [240, 154, 62], [158, 86, 16], [26, 30, 37], [26, 88, 145], [79, 163, 224], [211, 235, 255]],
  },
};

// Draws a group of maps into `container` and returns { show, redraw }.
//
// group: { name, units, steps, first, rows: [{ number, active }], maps: [{ name, about, gate, low, high, bytes }], labels }
//   first: number of the first step shown; active: how many of the steps lie within the row's length.
//   gate: whether the map's values open and shut, from 0 to 1; else they are drawn around 0.
//   bytes: Uint8Array [rows, steps, units]; 0 stands for `low`, 255 for `high`.
//   labels: a character for each step, drawn below the maps; without them steps are numbered alone.
// show(row, sortBy): another row, by its place in `rows`; sortBy is the index of the map whose mean orders the units, or -1.
// redraw(): after `bytes` or the theme have changed. Number and names of the maps stay; all else of a group may change before show().
function gateMaps(container, group) {
  const view = { row: 0, sortBy: -1, order: [], cursor: null };
  const spoken = element("output", { className: "spoken" });
  const plots = group.maps.map((map) => new GatePlot(group, map, view, (t, place, aloud) => point(t, place, aloud)));
  container.replaceChildren(...plots.map((plot) => plot.figure), spoken);

  function point(t, place, aloud) {
    view.cursor = t === null ? null : { t, place };
    plots.forEach((plot) => plot.drawCursor());
    if (t !== null && aloud) {
      const values = plots.map((plot) => `${plot.map.name} ${plot.valueText(t, view.order[place])}`);
      spoken.value = `${stepName(group, t)}, unit ${view.order[place]}: ${values.join(", ")}`;
    }
  }

  function redraw() {
    view.order = unitOrder(group, view);
    plots.forEach((plot) => plot.draw());
  }

  function show(row, sortBy) {
    Object.assign(view, { row, sortBy, cursor: null });
    redraw();
  }

  new ResizeObserver(redraw).observe(container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  return { show, redraw };
}

function stepName(group, t) {
  const step = `step ${group.first + t}`;
  return group.labels ? `${group.labels[t]}, ${step}` : step;
}

// One map and the canvas that it is drawn on.
class GatePlot {
  constructor(group, map, view, point) {
    Object.assign(this, { group, map, view, point });
    this.canvas = element("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "heat map");
    this.bar = element("canvas", { className: "bar", width: 64, height: 1 });
    this.readout = element("span", { className: "readout" });
    this.ends = [element("span"), element("span")];
    this.sides = [element("span"), element("span")];
    const caption = element("figcaption", {}, element("b", { textContent: map.name }), element("span", { textContent: map.about }));
    const scale = element("div", { className: "scale" }, this.ends[0], this.bar, this.ends[1]);
    this.range = element("span", { className: "range", title: "smallest and largest value" });
    this.time = [element("span"), element("span")];
    this.labels = group.labels ? element("canvas", { className: "labels" }) : null;
    this.labels?.setAttribute("aria-hidden", "true");
    this.figure = element("figure", {},
      element("div", { className: "head" }, caption, element("div", { className: "key" }, scale, this.range)),
      element("div", { className: "side" }, ...this.sides), this.canvas, ...(this.labels ? [this.labels] : []),
      element("div", { className: "time" }, this.time[0], this.readout, this.time[1]));
    this.listen();
  }

  listen() {
    const { canvas, group } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (from, size, count) => Math.min(count - 1, Math.max(0, Math.floor((from / size) * count)));
      this.point(place(event.clientX - box.left, box.width, group.steps), place(event.clientY - box.top, box.height, group.units));
    };
    canvas.addEventListener("pointermove", at);
    canvas.addEventListener("pointerdown", at);
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.point(null));
    canvas.addEventListener("blur", () => this.point(null));
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const { t, place } = this.view.cursor ?? { t: 0, place: 0 };
      const stride = event.shiftKey ? 10 : 1;
      const within = (value, count) => Math.min(count - 1, Math.max(0, value));
      if (event.key === "Escape") {
        this.point(null);
      } else if (event.key === "Home" || event.key === "End") {
        this.point(event.key === "Home" ? 0 : group.steps - 1, place, true);
      } else if (move) {
        const start = this.view.cursor === null;
        this.point(start ? 0 : within(t + stride * move[0], group.steps), start ? 0 : within(place + stride * move[1], group.units), true);
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  // Whether a step of the row that is shown lies within its length.
  active(t) {
    return t < this.group.rows[this.view.row].active;
  }

  byte(t, unit) {
    return this.map.bytes[(this.view.row * this.group.steps + t) * this.group.units + unit];
  }

  valueText(t, unit) {
    if (!this.active(t)) return "past the length";
    return format(this.map.low + (this.byte(t, unit) / 255) * (this.map.high - this.map.low));
  }

  draw() {
    const { canvas, bar, map, group, view } = this;
    const pixels = window.devicePixelRatio || 1;
    const height = Math.min(256, Math.max(96, 12 * group.units));
    canvas.style.height = `${height}px`;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * pixels));
    canvas.height = Math.round(height * pixels);

    const scale = gateScale(map);
    const table = Array.from({ length: 256 }, (_, byte) => [...scale.colour(map.low + (byte / 255) * (map.high - map.low)), 255]);
    this.image = this.paint(table);
    this.lines = scale.line;
    const key = bar.getContext("2d");
    for (let x = 0; x < bar.width; x++) {
      key.fillStyle = `rgb(${scale.colour(scale.low + (x / (bar.width - 1)) * (scale.high - scale.low)).join()})`;
      key.fillRect(x, 0, 1, 1);
    }
    this.range.textContent = `${format(map.low)} to ${format(map.high)}`;
    this.time[0].textContent = `step ${group.first}`;
    this.time[1].textContent = `${group.first + group.steps - 1}`;
    if (this.labels) this.drawLabels(pixels);
    this.ends[0].textContent = format(scale.low);
    this.ends[1].textContent = format(scale.high);
    const sorted = view.sortBy >= 0;
    this.sides[0].textContent = sorted ? "most" : "unit 0";
    this.sides[1].textContent = sorted ? "least" : `${group.units - 1}`;
    const row = group.rows.length > 1 ? `, row ${group.rows[view.row].number}` : "";
    canvas.setAttribute("aria-label",
      `${map.name}, ${group.name}${row}: ${group.units} units over ${group.steps} steps, ${format(map.low)} to ${format(map.high)}. ` +
      "Arrow keys read values, with Shift ten at a time.");
    this.drawCursor();
  }

  // The characters of the steps, each below its column.
  drawLabels(pixels) {
    const { labels, group } = this;
    labels.width = this.canvas.width;
    labels.height = Math.round(16 * pixels);
    const context = labels.getContext("2d");
    context.fillStyle = getComputedStyle(labels).color;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const column = labels.width / group.steps;
    // A character of a monospaced font is as wide as 0.6 of its size.
    context.font = `${Math.min(13 * pixels, column / 0.6)}px ui-monospace, monospace`;
    group.labels.forEach((label, t) => context.fillText(label, (t + 0.5) * column, labels.height / 2));
  }

  // The map at one pixel a value; where there are more values than pixels, at the mean of those that share one.
  paint(table) {
    const { canvas, group, view } = this;
    const width = Math.min(group.steps, canvas.width);
    const height = Math.min(group.units, canvas.height);
    const image = new ImageData(width, height);
    const bounds = (at, count, of) => [Math.floor((at * of) / count), Math.floor(((at + 1) * of) / count)];
    for (let x = 0; x < width; x++) {
      const [from, to] = bounds(x, width, group.steps);
      const steps = [];
      for (let t = from; t < to; t++) if (this.active(t)) steps.push(t);
      for (let y = 0; steps.length > 0 && y < height; y++) {
        const [top, bottom] = bounds(y, height, group.units);
        let sum = 0;
        for (const t of steps) for (let k = top; k < bottom; k++) sum += this.byte(t, view.order[k]);
        image.data.set(table[Math.round(sum / (steps.length * (bottom - top)))], 4 * (y * width + x));
      }
    }
    const painted = element("canvas", { width, height });
    painted.getContext("2d").putImageData(image, 0, 0);
    return painted;
  }

  drawCursor() {
    const { canvas, image, view, group, readout } = this;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    readout.textContent = "";
    if (view.cursor === null) return;
    const { t, place } = view.cursor;
    const line = Math.max(1, Math.round(window.devicePixelRatio || 1));
    const x = Math.floor(((t + 0.5) / group.steps) * canvas.width);
    const y = Math.floor(((place + 0.5) / group.units) * canvas.height);
    context.fillStyle = this.lines;
    context.fillRect(x, 0, line, canvas.height);
    context.fillRect(0, y, canvas.width, line);
    const unit = view.order[place];
    readout.textContent = `${stepName(group, t)}, unit ${unit}: ${this.valueText(t, unit)}`;
  }
}

// The scale of a map: its ends, the colour of a value and that of the cursor's lines.
function gateScale(map) {
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const line = theme === "dark" ? "rgba(255, 255, 255, 0.75)" : "rgba(0, 0, 0, 0.65)";
  const diverging = map.low < 0 || !map.gate;
  const most = typicalSize(map);
  const high = diverging ? most || 1 : Math.max(1, map.high);
  const low = diverging ? -high : 0;
  const stops = GATE_COLOURS[theme][diverging ? "diverging" : "sequential"];
  const colour = (value) => {
    const at = Math.min(1, Math.max(0, (value - low) / (high - low))) * (stops.length - 1);
    const from = Math.min(stops.length - 2, Math.floor(at));
    return stops[from].map((channel, k) => Math.round(channel + (at - from) * (stops[from + 1][k] - channel)));
  };
  return { low, high, line, colour };
}

// The end of a scale around 0: the largest size, unless 95 of 100 values are below half of it; a few units would hide all others.
function typicalSize(map) {
  const value = (byte) => Math.abs(map.low + (byte / 255) * (map.high - map.low));
  const counts = new Float64Array(256);
  for (const byte of map.bytes) counts[byte] += 1;
  const levels = Array.from(counts.keys()).sort((a, b) => value(a) - value(b));
  let left = 0.95 * map.bytes.length;
  const usual = value(levels.find((byte) => (left -= counts[byte]) <= 0));
  const most = Math.max(Math.abs(map.low), Math.abs(map.high));
  return usual > 0 && usual < most / 2 ? usual : most;
}

// Units in the order in which they are drawn: as they are numbered, or from the highest mean of a map to the lowest.
function unitOrder(group, view) {
  const order = Array.from({ length: group.units }, (_, unit) => unit);
  if (view.sortBy < 0) return order;
  const bytes = group.maps[view.sortBy].bytes;
  const sums = new Float64Array(group.units);
  for (let t = 0; t < group.rows[view.row].active; t++) {
    const start = (view.row * group.steps + t) * group.units;
    for (let unit = 0; unit < group.units; unit++) sums[unit] += bytes[start + unit];
  }
  return order.sort((a, b) => sums[b] - sums[a] || a - b);
}
