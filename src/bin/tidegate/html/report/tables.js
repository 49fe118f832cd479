// Tables that a press of a header sorts.
//
// columns: [{ name, about, number }]; rows: [[{ text, value, about, className }]], of which the first is the row's header. `value` sorts;
// what has none stays at the end.
function sortableTable(container, caption, columns, rows) {
  const body = element("tbody");
  const headers = columns.map(({ name, about = "", number }, at) => {
    const button = element("button", { type: "button", textContent: name, title: about });
    button.addEventListener("click", () => sort(at));
    const header = element("th", { scope: "col", className: number ? "number" : "" }, button);
    header.setAttribute("aria-sort", "none");
    return header;
  });

  function sort(at) {
    const down = headers[at].getAttribute("aria-sort") === "ascending";
    headers.forEach((header, other) => header.setAttribute("aria-sort", other !== at ? "none" : down ? "descending" : "ascending"));
    const compare = (a, b) => (columns[at].number ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    const missing = (row) => row[at].value === null || row[at].value === undefined;
    const sorted = [...rows].sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      return compare(a[at].value, b[at].value) * (down ? -1 : 1);
    });
    fill(sorted);
  }

  function fill(sorted) {
    const cell = ({ text, about = "", className = "" }, at) =>
      at === 0 ? element("th", { scope: "row", textContent: text }) : element("td", { textContent: text ?? "–", title: about, className });
    body.replaceChildren(...sorted.map((row) => element("tr", {}, ...row.map(cell))));
  }

  fill(rows);
  const table = element("table", { className: "sortable" }, element("caption", { className: "spoken", textContent: caption }),
    element("thead", {}, element("tr", {}, ...headers)), body);
  // Wider than a phone: it scrolls, by keys too.
  const scroller = element("div", { className: "table", tabIndex: 0 }, table);
  scroller.setAttribute("role", "region");
  scroller.setAttribute("aria-label", caption);
  container.replaceChildren(scroller);
}
