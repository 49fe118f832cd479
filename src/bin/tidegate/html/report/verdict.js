// What a report comes to, read first and so short: a sentence or two of one device, a table of several.

const CLASSES = [["streaming", "streaming"], ["batch_inference", "batch inference"], ["training", "training"]];

function scored(value) {
  return value === null ? null : value < 0.1 ? digits(value) : value.toFixed(2);
}

function verdict(data, cases) {
  const parts = data.columns.length > 1 ? [besideBase(data, cases)] : [];
  const scores = CLASSES.filter(([name]) => data.columns.some(({ score }) => score[name] !== null));
  if (data.columns.length === 1 && scores.length) {
    const [{ score }] = data.columns;
    const named = scores.map(([name, text]) => `${text} ${scored(score[name])}`);
    parts.push(element("p", { textContent: `Score: ${named.join(", ")}.` }));
  }
  const rows = cases.flatMap((found) => found.rows).filter(Boolean);
  const failed = rows.filter((row) => row.ms_median === null).length;
  const doubted = rows.filter((row) => row.marks.length).length;
  const checked = rows.filter((row) => row.verified).length;
  parts.push(element("p", { textContent: `${checked} of ${rows.length} measurements were verified against the float64 reference`
    + `${failed ? `, ${failed} failed or did not run` : ""}${doubted ? `; ${doubted} are doubted, see the last table` : ""}.` }));
  if (scores.length) parts.push(element("p", { className: "note", textContent: `Score: how fast by class of work; 1 is the ${data.reference}, higher is faster.` }));
  return parts;
}

// Of each column the geometric mean of its times over the base's, and its score.
function besideBase(data, cases) {
  const mean = (column) => {
    const shared = cases.filter((found) => found.rows[column]?.ms_median && found.rows[data.base]?.ms_median);
    const logs = shared.map((found) => Math.log(found.rows[column].ms_median / found.rows[data.base].ms_median));
    return logs.length ? Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length) : null;
  };
  const scores = CLASSES.filter(([name]) => data.columns.some(({ score }) => score[name] !== null));
  const head = ["time", ...scores.map(([, text]) => text)].map((textContent) => element("th", { scope: "col", textContent }));
  const rows = data.columns.map(({ label, score }, column) => {
    const ratio = mean(column);
    const time = column === data.base ? "base" : ratio === null ? "–" : `×${digits(ratio)}`;
    const cells = [time, ...scores.map(([name]) => scored(score[name]) ?? "–")];
    return element("tr", {}, element("th", { scope: "row" }, seriesSwatch(column), label), ...cells.map((textContent) => element("td", { textContent })));
  });
  const caption = element("caption", { textContent: "time: the geometric mean over the base's in the cases that both ran" });
  return element("table", {}, caption, element("thead", {}, element("tr", {}, element("td"), ...head)), element("tbody", {}, ...rows));
}
