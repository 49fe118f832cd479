// What the charts of a report show, from the cases and columns of its data. A case has one row a column, null where it did not run.

function usPerStep(found, row) {
  return (row.ms_median * 1e3) / found.T;
}

function percent(part) {
  return part === null || part === undefined ? null : `${digits(100 * part)} %`;
}

// What is read out for a measurement.
function describe(data, found, column) {
  const row = found.rows[column];
  const parts = [`${digits(row.ms_median)} ms`, row.ms_median_spread !== null && `±${percent(row.ms_median_spread)}`,
    `${digits(usPerStep(found, row))} µs a step`, row.gflops && `${digits(row.gflops)} GFLOP/s`, row.strategy];
  return `${data.columns[column].label}: ${found.name}: ${parts.filter(Boolean).join(", ")}`;
}

// The columns that have a time of a case, by number.
function timed(found) {
  return found.rows.flatMap((row, column) => (row?.ms_median ? [column] : []));
}

// The cases that differ in one size alone, a panel for each set of them: { title, ticks, series }.
function panelsAlong(data, cases, axis) {
  const groups = new Map();
  for (const found of cases) {
    // Where a layer is as wide as its input, both grow together.
    const square = axis === "H" && found.I === found.H;
    const rest = ["cell", "I", "H", "L", "D", "T", "B"].filter((name) => name !== axis && !(square && name === "I"));
    const named = rest.filter((name) => !["L", "D"].includes(name) || found[name] !== 1);
    const title = named.map((name) => (name === "cell" ? found.cell : `${name}=${found[name]}`)).join(" ")
      + (square ? " I=H" : "") + ` ${found.stream ? "stream" : found.mode}`;
    if (!groups.has(title)) groups.set(title, []);
    groups.get(title).push(found);
  }
  return [...groups].flatMap(([title, members]) => {
    members.sort((a, b) => a[axis] - b[axis]);
    const series = data.columns.map(({ label }, index) => {
      const measured = members.filter((found) => found.rows[index]?.ms_median);
      const points = measured.map((found) => ({ x: found[axis], y: usPerStep(found, found.rows[index]), text: describe(data, found, index) }));
      return { name: label, index, points, line: true };
    });
    const shown = series.filter(({ points }) => points.length >= 2);
    return shown.length ? [{ title, ticks: [...new Set(members.map((found) => found[axis]))], series: shown }] : [];
  });
}

// Every case as a point: the time of a run over its FLOPs.
function overFlops(data, cases) {
  return data.columns.map(({ label }, index) => {
    const measured = cases.filter((found) => found.rows[index]?.ms_median && found.rows[index].flops);
    const points = measured.map((found) => ({ x: found.rows[index].flops * 1e-9, y: found.rows[index].ms_median, text: describe(data, found, index) }));
    return { name: label, index, points };
  }).filter(({ points }) => points.length);
}

// FLOP/s over FLOPs a byte, below the roofs of the devices that have measured theirs.
function roofline(data, cases) {
  const series = data.columns.map(({ label, peaks }, index) => {
    const measured = cases.filter(({ rows }) => peaks?.peak_gflops && peaks.peak_gbytes && rows[index]?.gflops && rows[index].bytes);
    const points = measured.map((found) => {
      const row = found.rows[index];
      const of = percent(row.roofline_fraction);
      return { x: row.flops / row.bytes, y: row.gflops, text: describe(data, found, index) + (of ? `, ${of} of what the peaks allow` : "") };
    });
    return { name: label, index, points };
  }).filter(({ points }) => points.length);
  const all = series.flatMap(({ points }) => points.map(({ x }) => x));
  const roofs = series.map(({ index, name }) => {
    const { peak_gflops: top, peak_gbytes: slope } = data.columns[index].peaks;
    const ridge = top / slope;
    const [low, high] = [Math.min(...all, ridge / 4), Math.max(...all, ridge * 4)];
    return { name, index, roof: true, points: [low, ridge, high].map((x) => ({ x, y: Math.min(top, slope * x) })) };
  });
  return [...roofs, ...series];
}

// What the first chart can show: its name, which way is faster, and the value of a measurement.
const MEASURES = {
  step: { name: "µs per step", faster: "less", value: (data, found, column) => usPerStep(found, found.rows[column]) },
  run: { name: "ms per run", faster: "less", value: (data, found, column) => found.rows[column].ms_median },
  rate: { name: "GFLOP/s", faster: "more", value: (data, found, column) => found.rows[column].gflops },
  ratio: {
    name: "time over the base's",
    faster: "less",
    value: (data, found, column) => found.rows[data.base]?.ms_median && found.rows[column].ms_median / found.rows[data.base].ms_median,
  },
};

function barGroups(data, cases, measure) {
  return cases.map((found) => {
    const bars = timed(found).map((index) => ({ index, value: MEASURES[measure].value(data, found, index), text: describe(data, found, index) }));
    return { name: found.name, bars: bars.filter(({ value }) => value) };
  }).filter(({ bars }) => bars.length);
}
