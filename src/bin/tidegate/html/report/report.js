// The page: a verdict, controls, charts and tables, drawn anew when a control changes; what is known of the devices at the end.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const MOST_BARS = 40;
  const MOST_PANELS = 12;

  function section(title, ...children) {
    return element("section", {}, element("h2", { textContent: title }), ...children);
  }

  function facts(column) {
    const { host, peaks } = column;
    const known = (number, unit) => (number === null || number === undefined ? null : `${digits(number)} ${unit}`);
    const costs = peaks && [known(peaks.submit_us, "µs a submit and wait"), known(peaks.dispatch_us, "µs a dispatch"),
      peaks.round_trip_us !== null && `${digits(peaks.round_trip_us)} µs a round trip of ${peaks.round_trip_workgroups} workgroups`];
    const limits = peaks && [known(peaks.peak_gflops, "GFLOP/s in registers"), known(peaks.peak_gflops_f16, "in f16"),
      known(peaks.peak_gflops_cooperative, "by cooperative matrices"), known(peaks.peak_gbytes, "GB/s copying"), known(peaks.peak_gbytes_read, "reading"),
      known(peaks.peak_gbytes_write, "writing"), known(peaks.load_latency_ns, "ns a load from memory"), known(peaks.cached_load_latency_ns, "from a cache")];
    const join = (parts) => (parts || []).filter(Boolean).join(", ");
    return [
      ["device", join([column.device_type, [column.backend, column.api_version].filter(Boolean).join(" ")])], ["driver", column.driver], ["stored as", column.dtype],
      ["score", join(CLASSES.map(([name, text]) => column.score[name] !== null && `${text} ${scored(column.score[name])}`))], ["peaks", join(limits)], ["costs", join(costs)],
      ["machine", join([host.cpu, host.cpus && `${host.cpus} CPUs`, host.os, host.arch])],
      ["load before", host.load_average === null ? "" : digits(host.load_average)],
      ["by", join([host.version, host.commit && `commit ${host.commit}`])],
      ["when", host.unix_time === null ? "" : new Date(host.unix_time * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC"],
      ["file", column.file],
    ].filter(([, text]) => text);
  }

  function device(column, index) {
    const list = facts(column).flatMap(([name, text]) => [element("dt", { textContent: name }), element("dd", { textContent: text })]);
    const warning = column.device_type === "software"
      ? [element("p", { className: "warning", textContent: "A software adapter: it runs on the CPU and tells nothing of a GPU." })] : [];
    return element("article", { className: "device" }, element("h3", {}, seriesSwatch(index), column.label), ...warning, element("dl", {}, ...list));
  }

  function control(label, input) {
    input.addEventListener("input", show);
    form.append(element("label", {}, label, input));
    return input;
  }

  function select(options) {
    return element("select", {}, ...options.map(([value, text]) => element("option", { value, textContent: text })));
  }

  const main = document.getElementById("report");
  if (data.columns.length === 0) {
    main.append(element("p", { textContent: "Nothing was measured." }));
    return;
  }
  const several = data.columns.length > 1;
  // On a phone what can be chosen waits behind its heading, so that something is to be seen first.
  const chosen = element("details", { className: "choose", open: innerWidth > 640 }, element("summary", { textContent: "Choose" }));
  const form = element("form", { className: "controls" });
  form.addEventListener("submit", (event) => event.preventDefault());
  const bases = data.columns.map(({ label }, index) => [index, label]);
  const base = several ? control("Base", select(bases)) : null;
  if (base) base.value = data.base;
  const modes = [...new Set(data.cases.map((found) => (found.stream ? "stream" : found.mode)))];
  const mode = modes.length > 1 ? control("Mode", select([["", "all"], ...modes.map((name) => [name, name])])) : { value: "" };
  const filter = control("Cases with", element("input", { type: "search", placeholder: "lstm, T=64 ..", autocomplete: "off" }));
  const measure = control("Show", select(Object.entries(MEASURES).filter(([key]) => several || key !== "ratio").map(([key, { name }]) => [key, name])));

  const slots = {};
  const sections = {};
  // Nothing stands above nothing: a section is hidden while there is nothing to show in it.
  function slot(name, title, ...before) {
    slots[name] = element("div");
    sections[name] = section(title, ...before, slots[name]);
    return sections[name];
  }
  const crossover = data.crossover.map((text) => element("li", { textContent: text }));
  chosen.append(form);
  main.append(
    element("section", { className: "verdict" }),
    chosen,
    slot("bars", "Times"),
    slot("side", "Side by side"),
    slot("lines", "Time per step"),
    slot("work", "Time over work", ...(crossover.length ? [element("ul", {}, ...crossover)] : [])),
    slot("roofline", "Roofline"),
    slot("all", "All measurements"),
    section("Devices", element("div", { className: "devices" }, ...data.columns.map(device))),
  );
  const short = main.querySelector(".verdict");

  function show() {
    data.base = base ? Number(base.value) : 0;
    const wanted = filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    const cases = data.cases.filter((found) => {
      const name = found.name.toLowerCase().split(" ");
      return (!mode.value || name.at(-1) === mode.value) && wanted.every((word) => name.some((part) => part.startsWith(word)));
    });
    short.replaceChildren(...verdict(data, cases));
    const drawn = { bars: bars(cases), side: several && sideBySide(cases), lines: lines(cases), work: work(cases), roofline: roofs(cases), all: measurements(cases) };
    for (const [name, is] of Object.entries(drawn)) sections[name].hidden = !is;
    if (cases.length === 0) {
      sections.bars.hidden = false;
      slots.bars.replaceChildren(element("p", { className: "note", textContent: "No case has all of these words." }));
    }
  }

  function doubt(mark) {
    return data.doubts.find((known) => known.mark === mark) ?? { name: mark };
  }

  // As `Comparison::is_noise` has it.
  function isNoise(row, base) {
    const ratio = row.ms_median / base.ms_median;
    return Math.max(ratio, 1 / ratio) <= (1 + (row.ms_median_spread ?? 0)) * (1 + (base.ms_median_spread ?? 0));
  }

  // Each of these says whether there is anything to see.
  function sideBySide(cases) {
    if (cases.length === 0) return false;
    const columns = data.columns.flatMap(({ label }, index) => [
      { name: `${label}, ms`, number: true },
      ...(index === data.base ? [] : [{ name: "ratio", about: `time of ${label} over the base's`, number: true }]),
    ]);
    // What several have in common is what there is to compare.
    const timed = (found) => found.rows.filter((row) => row?.ms_median).length;
    const rows = [...cases].sort((a, b) => (timed(b) > 1) - (timed(a) > 1)).map((found) => {
      const times = found.rows.map((row) => row?.ms_median ?? null);
      const fastest = Math.min(...times.filter((ms) => ms !== null));
      const cells = times.flatMap((ms, index) => {
        const ratio = ms !== null && times[data.base] !== null ? ms / times[data.base] : null;
        const failed = found.rows[index] && ms === null;
        const text = failed ? "failed" : ms === null ? null : digits(ms);
        const time = { text, value: ms, about: failed ? found.rows[index].note ?? "" : "", className: failed ? "failed" : ms === fastest ? "fastest" : "" };
        const text_of = (ratio) => (isNoise(found.rows[index], found.rows[data.base]) ? "equal" : `×${digits(ratio)}`);
        return index === data.base ? [time] : [time, { text: ratio === null ? null : text_of(ratio), value: ratio, className: "ratio" }];
      });
      return [{ text: found.name, value: found.name }, ...cells];
    });
    sortableTable(slots.side, "Medians of each case and device, and ratios to the base", [{ name: "case" }, ...columns], rows);
    slots.side.prepend(element("p", { className: "note", textContent: `ratio: a median over that of ${data.columns[data.base].label}; above 1 is slower; equal: they differ by no more than both vary. The fastest is bold.` }));
    return true;
  }

  function bars(cases) {
    const groups = barGroups(data, cases, measure.value);
    if (groups.length === 0) return false;
    const shown = groups.slice(0, MOST_BARS);
    const used = new Set(shown.flatMap((group) => group.bars.map(({ index }) => index)));
    const series = data.columns.map(({ label }, index) => ({ name: label, index })).filter(({ index }) => used.has(index));
    const { name, faster } = MEASURES[measure.value];
    const title = shown.length < groups.length ? `${name}, the first ${shown.length} of ${groups.length} cases` : name;
    barChart(slots.bars, { title, unit: name, hint: `${faster} is faster`, series, groups: shown });
    return true;
  }

  function lines(cases) {
    const parts = [["H", "units"], ["B", "rows"], ["T", "steps"]].flatMap(([axis, what]) => {
      const panels = panelsAlong(data, cases, axis);
      if (panels.length === 0) return [];
      const grid = element("div", { className: "panels" });
      for (const panel of panels.slice(0, MOST_PANELS)) {
        const place = element("div");
        grid.append(place);
        lineChart(place, { ...panel, x: `${axis}, ${what}`, y: "µs per step" });
      }
      const more = panels.length > MOST_PANELS ? `, ${MOST_PANELS} of ${panels.length} sets of cases` : "";
      return [element("h3", { textContent: `Over ${axis}${more}` }), grid];
    });
    slots.lines.replaceChildren(...parts);
    return parts.length > 0;
  }

  function work(cases) {
    const series = overFlops(data, cases);
    if (series.length === 0) return false;
    lineChart(slots.work, { title: "Every case by its work", x: "GFLOP of a run", y: "ms per run", series });
    return true;
  }

  function roofs(cases) {
    const series = roofline(data, cases);
    if (series.length === 0) return false;
    lineChart(slots.roofline, { title: "What the peaks allow, and what was reached", x: "FLOPs per byte of parameters, input and output", y: "GFLOP/s", series });
    return true;
  }

  function measurements(cases) {
    const number = (name, text, about) => ({ name, about, number: true, text });
    const columns = [
      { name: "device", text: (row, found, index) => data.columns[index].label },
      { name: "strategy", text: (row) => row.strategy },
      number("median ms", (row) => row.ms_median),
      number("error", (row) => (row.max_rel_err ? row.max_rel_err : null), "largest relative error of any tensor against the reference"),
      { ...number("dispatches", (row) => row.dispatches || null, "of a run"), whole: true },
      { ...number("runs", (row) => row.runs || null, "that the median is of"), whole: true },
      number("± %", (row) => row.ms_median_spread !== null ? 100 * row.ms_median_spread : null, "half the 95 % confidence interval of the median"),
      number("min ms", (row) => row.ms_min),
      number("first ms", (row) => row.first_ms, "the first run, with the building of pipelines"),
      number("GPU ms", (row) => row.gpu_ms_median, "by the GPU's own clock"),
      number("µs per step", (row, found) => row.ms_median && usPerStep(found, row)),
      number("p99", (row) => row.us_per_step_p99, "µs per step that 99 % of runs do not exceed"),
      number("GFLOP/s", (row) => row.gflops),
      number("of peak %", (row) => row.roofline_fraction !== null ? 100 * row.roofline_fraction : null, "the time that the device's peaks allow, over the median"),
      number("launches %", (row) => row.launch_fraction !== null ? 100 * row.launch_fraction : null, "what a submit and as many empty dispatches cost, over the median"),
      { name: "bound by", about: "launches, round trips, memory or arithmetic: whichever takes the most time at best, over the median",
        text: (row) => (row.bound_by ? `${row.bound_by} ${digits(100 * row.bound_fraction)} %` : null) },
      { name: "doubts", about: "why a row's times are to be doubted", text: (row) => row.marks.map(doubt).map(({ name }) => name).join(", ") || null },
    ];
    const found = data.doubts.filter(({ mark }) => cases.some(({ rows }) => rows.some((row) => row?.marks.includes(mark))));
    const rows = cases.flatMap((found) => found.rows.flatMap((row, index) => {
      if (!row) return [];
      const cells = columns.map(({ number, whole, text }) => {
        const value = text(row, found, index) ?? null;
        return { text: value === null ? null : number && !whole ? digits(value) : String(value), value, className: number ? "" : "text" };
      });
      if (row.ms_median === null) cells[2] = { text: row.note ?? "failed", value: null, className: "failed" };
      return [[{ text: found.name + (row.recurrence ? ", recurrence alone" : ""), value: found.name }, ...cells]];
    }));
    const shown = columns.map((_, at) => at < 3 || rows.some((row) => row[at + 1].value !== null));
    const keep = (row) => row.filter((_, at) => at === 0 || shown[at - 1]);
    if (rows.length === 0) return false;
    sortableTable(slots.all, "All measurements", keep([{ name: "case" }, ...columns]), rows.map(keep));
    for (const { name, sentence } of found.reverse()) slots.all.prepend(element("p", { className: "warning", textContent: `${name}: ${sentence}.` }));
    return true;
  }

  show();
})();
