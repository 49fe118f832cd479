// The page around the maps: its data, and the choices of row and order.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const views = data.groups.map((group, index) => {
    for (const map of group.maps) map.bytes = Uint8Array.from(atob(map.data), (letter) => letter.charCodeAt(0));
    const container = document.querySelector(`[data-group="${index}"]`);
    return gateMaps(container, { ...group, units: data.units, steps: data.steps, first: data.first, rows: data.rows });
  });

  function choice(label, options) {
    const select = element("select", {}, ...options.map(([value, text]) => element("option", { value, textContent: text })));
    select.addEventListener("change", show);
    form.append(element("label", {}, label, select));
    return select;
  }

  const form = document.getElementById("controls");
  const rows = data.rows.length > 1 ? choice("Row", data.rows.map((row, index) => [index, row.number])) : { value: 0 };
  const names = data.groups[0].maps.map((map, index) => [index, `by mean of ${map.name}`]);
  const order = choice("Units", [[-1, "as numbered"], ...names]);

  function show() {
    views.forEach((view) => view.show(Number(rows.value), Number(order.value)));
  }

  form.hidden = false;
  show();
})();
