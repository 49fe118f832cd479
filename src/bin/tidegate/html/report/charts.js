// Charts of series in SVG, as wide as what holds them. They know nothing of networks: any page can use them with dom.js before this
// and charts.css beside it.
//
// A series is { name, index, points: [{ x, y, text }] }: `index` picks colour and mark, `text` is read out for the point. With
// `line` its points are joined, with `unmarked` only the point that is read has a mark, with `roof` they are a dashed line without
// marks and cannot be read out.

const SERIES_COLOURS = 8;

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    // A page may forbid styles in markup, to which the attribute counts.
    if (name === "style") made.style.cssText = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Three digits, all of those before the point.
function digits(value) {
  const size = Math.abs(value);
  return size < 1e-3 ? format(value) : size >= 1000 ? String(Math.round(value)) : value.toPrecision(3);
}

// For the lines of a grid, which are round.
function tickText(value) {
  if (value >= 1e6 || (value < 1e-3 && value > 0)) return value.toExponential(0).replace("+", "");
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(3)));
}

function seriesStyle(index) {
  return `--series: var(--series-${index % SERIES_COLOURS})`;
}

// A mark around (x, y): colours alone do not tell series apart for everyone.
function seriesMark(index, x, y, size = 4) {
  const style = seriesStyle(index);
  switch (index % 4) {
    case 0: return svg("circle", { class: "mark", style, cx: x, cy: y, r: size });
    case 1: return svg("rect", { class: "mark", style, x: x - size, y: y - size, width: 2 * size, height: 2 * size });
    case 2: return svg("path", { class: "mark", style, d: `M${x} ${y - 1.3 * size}l${1.3 * size} ${1.3 * size}l${-1.3 * size} ${1.3 * size}l${-1.3 * size} ${-1.3 * size}z` });
    default: return svg("path", { class: "mark", style, d: `M${x} ${y - 1.2 * size}l${1.2 * size} ${2.2 * size}h${-2.4 * size}z` });
  }
}

function seriesSwatch(index) {
  const swatch = svg("svg", { viewBox: "0 0 12 12", class: "swatch", "aria-hidden": "true" });
  swatch.append(seriesMark(index, 6, 6, 4.5));
  return swatch;
}

function chartLegend(series) {
  const items = series.map(({ name, index }) => element("li", {}, seriesSwatch(index), name));
  return element("ul", { className: "legend" }, ...items);
}

// Where lines of a grid stand between two ends above 0: powers of ten, then 1, 2 and 5, then equal steps.
function logTicks(low, high) {
  const decades = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) decades.push(10 ** power);
  const within = (ticks) => ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  if (high / low >= 1e3) {
    const stride = Math.ceil(within(decades).length / 7);
    return within(decades).filter((_, at) => at % stride === 0);
  }
  const finer = within(decades.flatMap((decade) => [decade, 2 * decade, 5 * decade]));
  return finer.length >= 3 ? finer : linearTicks(low, high);
}

function linearTicks(low, high) {
  const rough = (high - low) / 4 || high || 1;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * decade >= rough) * decade;
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high * 1.0001; at++) ticks.push(at * step);
  return ticks;
}

// What all charts share: a caption, a line that reads values, an SVG that is drawn anew when its width changes, and a cursor that
// pointer and arrow keys move over `spots`, which `draw` returns as [{ x, y, text, mark }] in pixels. Returns { redraw }, for after what
// is drawn has changed.
function chartFrame(container, { title, hint, label, legend }, draw) {
  const readout = element("output", { className: "readout", textContent: hint });
  const picture = svg("svg", { role: "application", "aria-roledescription": "chart", "aria-label": `${label} Arrow keys read values.`, tabindex: 0 });
  const parts = [element("figcaption", { textContent: title }), ...(legend.length > 1 ? [chartLegend(legend)] : []), readout, picture];
  container.replaceChildren(element("figure", { className: "chart" }, ...parts));
  let spots = [];
  let current = -1;

  function point(at) {
    spots[current]?.mark.classList.remove("current");
    current = at;
    spots[current]?.mark.classList.add("current");
    readout.textContent = spots[current]?.text ?? hint;
    readout.classList.toggle("live", current >= 0);
  }

  function nearest(event) {
    const box = picture.getBoundingClientRect();
    const distance = ({ x, y }) => Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
    let best = -1;
    spots.forEach((spot, at) => { if (best < 0 || distance(spot) < distance(spots[best])) best = at; });
    return best;
  }

  picture.addEventListener("pointermove", (event) => point(nearest(event)));
  picture.addEventListener("pointerdown", (event) => point(nearest(event)));
  picture.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && point(-1));
  picture.addEventListener("blur", () => point(-1));
  picture.addEventListener("keydown", (event) => {
    const last = spots.length - 1;
    const moves = { ArrowRight: current + 1, ArrowDown: current + 1, ArrowLeft: current - 1, ArrowUp: current - 1, Home: 0, End: last };
    if (event.key === "Escape") point(-1);
    else if (event.key in moves && last >= 0) point(Math.min(last, Math.max(0, moves[event.key])));
    else return;
    event.preventDefault();
  });

  let width = 0;
  function fit(now) {
    if (now === width || now === 0) return;
    width = now;
    current = -1;
    redraw();
  }
  function redraw() {
    if (width === 0) return;
    const reading = current;
    picture.replaceChildren();
    current = -1;
    spots = draw(picture, width);
    if (reading >= 0) point(Math.min(reading, spots.length - 1));
  }
  // As soon as it stands in the page, without waiting for a frame.
  setTimeout(() => fit(picture.parentElement.clientWidth));
  // A frame later: the picture's new height would otherwise be news to the observer in the same one.
  new ResizeObserver(([entry]) => requestAnimationFrame(() => fit(Math.floor(entry.contentRect.width)))).observe(picture.parentElement);
  return { redraw };
}

// Series over two logarithmic axes, or with `linear` over two plain ones, of which that of x starts at 0. chart: { title, x: label,
// y: label, series, linear, ticks: values of x that shall be named, if they fit }. Returns { redraw }, for after points have changed.
function lineChart(container, chart) {
  const legend = chart.series.filter((series) => !series.roof);
  const label = `${chart.title}. ${chart.y} over ${chart.x}, ${legend.map((series) => series.name).join("; ")}.`;
  const hint = `${chart.y} over ${chart.x}${chart.linear ? "" : ", both logarithmic"}`;
  const axisTicks = chart.linear ? linearTicks : logTicks;
  return chartFrame(container, { title: chart.title, hint, label, legend }, (picture, width) => {
    const [left, right, top, bottom] = [48, 12, 8, 38];
    const height = Math.round(Math.min(340, Math.max(220, width * 0.6)));
    picture.setAttribute("height", height);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const points = chart.series.flatMap((series) => series.points);
    if (points.length === 0) return [];
    const ends = (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      if (chart.linear) return low === high ? [low - 0.5, high + 0.5] : [low - (high - low) * 0.04, high + (high - low) * 0.04];
      return low === high ? [low / 1.5, high * 1.5] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
    };
    const [xs, ys] = [points.map((point) => point.x), points.map((point) => point.y)];
    const [x, y] = [chart.linear ? [0, Math.max(...xs)] : ends(xs), ends(ys)];
    const along = ([low, high], value) => (chart.linear ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low));
    const place = (point) => [left + along(x, point.x) * (width - left - right), top + (1 - along(y, point.y)) * (height - top - bottom)];

    const named = chart.ticks && chart.ticks.length * 44 < width - left ? chart.ticks : axisTicks(...x);
    for (const tick of named) {
      const [at] = place({ x: tick, y: y[0] });
      picture.append(svg("line", { class: "grid", x1: at, x2: at, y1: top, y2: height - bottom }));
      picture.append(svg("text", { x: at, y: height - bottom + 15, "text-anchor": "middle" }, tickText(tick)));
    }
    for (const tick of axisTicks(...y)) {
      const [, at] = place({ x: x[0], y: tick });
      picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
      picture.append(svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, tickText(tick)));
    }
    picture.append(svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, chart.x));

    const spots = [];
    for (const series of chart.series) {
      const places = series.points.map(place);
      if (series.line || series.roof) {
        const path = places.map(([px, py], at) => `${at ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
        picture.append(svg("path", { class: series.roof ? "line roof" : "line", style: seriesStyle(series.index), d: path }));
      }
      if (series.roof) continue;
      places.forEach(([px, py], at) => {
        const mark = seriesMark(series.index, px, py);
        if (series.unmarked) mark.classList.add("unmarked");
        picture.append(mark);
        spots.push({ x: px, y: py, text: series.points[at].text, mark });
      });
    }
    return spots;
  });
}

// One value or several of each of some groups: as bars from 0 where they compare, or where sizes differ by more than a hundred times as
// dots over a logarithmic axis, of which a length would tell nothing. chart: { title, unit, series: [{ name, index }],
// groups: [{ name, bars: [{ index, value, text }] }], hint: what stands below the title, if not the unit }.
function barChart(container, chart) {
  const values = chart.groups.flatMap((group) => group.bars.map((bar) => bar.value));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = high / low > 100;
  const hint = [chart.hint ?? chart.unit, log && "logarithmic"].filter(Boolean).join("; ");
  const label = `${chart.title}: ${chart.unit} of ${chart.groups.length} cases.`;
  const drawn = log ? (picture, width) => dots(picture, width, chart, [low, high]) : (picture, width) => bars(picture, width, chart, high);
  chartFrame(container, { title: chart.title, hint, label, legend: chart.series }, drawn);
}

function bars(picture, width, chart, high) {
  const [bar, name, gap, right] = [13, 17, 9, 56];
  const rows = chart.groups.map((group) => name + group.bars.length * bar + gap);
  const height = rows.reduce((sum, row) => sum + row, 4);
  picture.setAttribute("height", height);
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const length = (value) => (value / high) * (width - right);
  const spots = [];
  let y = 0;
  for (const group of chart.groups) {
    picture.append(svg("text", { class: "name", x: 0, y: y + name - 4 }, group.name));
    y += name;
    for (const { index, value, text } of group.bars) {
      const mark = svg("rect", { class: "mark", style: seriesStyle(index), x: 0, y: y + 1, width: Math.max(1, length(value)).toFixed(1), height: bar - 2 });
      picture.append(mark, svg("text", { x: length(value) + 5, y: y + bar - 3 }, digits(value)));
      spots.push({ x: length(value) / 2, y: y + bar / 2, text, mark });
      y += bar;
    }
    y += gap;
  }
  return spots;
}

// A row a group, with its name before it, or above it where there is little room.
function dots(picture, width, chart, [low, high]) {
  const longest = Math.max(...chart.groups.map((group) => group.name.length)) * 6.6 + 12;
  const beside = width - longest > 320;
  const [name, row, top] = [beside ? 0 : 17, beside ? 20 : 16, 20];
  const height = top + chart.groups.length * (name + row) + 4;
  picture.setAttribute("height", height);
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const one = chart.groups.every((group) => group.bars.length === 1);
  const [left, right] = [beside ? longest : 6, width - (one ? 52 : 8)];
  const [start, end] = [low / (high / low) ** 0.03, high * (high / low) ** 0.03];
  const across = (value) => left + (Math.log(value / start) / Math.log(end / start)) * (right - left);
  for (const tick of logTicks(start, end)) {
    const x = across(tick);
    picture.append(svg("line", { class: "grid", x1: x, x2: x, y1: top - 4, y2: height }));
    picture.append(svg("text", { x, y: top - 8, "text-anchor": "middle" }, tickText(tick)));
  }
  const spots = [];
  chart.groups.forEach((group, at) => {
    const y = top + at * (name + row) + name + row / 2;
    picture.append(svg("text", { class: "name", x: 0, y: beside ? y + 4 : y - row / 2 - 3 }, group.name));
    picture.append(svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
    for (const { index, value, text } of group.bars) {
      const x = across(value);
      const mark = seriesMark(index, x, y);
      picture.append(mark);
      if (one) picture.append(svg("text", { x: x + 9, y: y + 4 }, digits(value)));
      spots.push({ x, y, text, mark });
    }
  });
  return spots;
}
