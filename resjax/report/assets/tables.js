"use strict";
// Tables that are sorted by a column, up and down.

// "30 ± 26", "1,000", "+0.3 to 0.5" and "< 0.0001" sort by their first number.
const value = (text) => parseFloat(text.replace(/^< /, "").replace(/,/g, "").replace(/^([-+]?)inf.*/, "$1Infinity"));
const isNumber = (text) => /^(< )?[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf)( .*)?$/i.test(text);

function sort(table) {
  const [, column, way] = State.get(`sort.${table.id}`).match(/^(\d+)(up|down)$/) || [];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  const body = table.tBodies[0], place = Number(column);
  table.written ||= [...body.rows];
  if (column === undefined || !heads[place]) return void body.append(...table.written);
  heads[place].setAttribute("aria-sort", `${way === "up" ? "as" : "des"}cending`);
  const keyed = table.written.map((row) => {
    const text = row.cells[place].textContent.trim();
    return { row, text, none: text === "-" };
  });
  const numbers = keyed.every((key) => key.none || isNumber(key.text));
  const compare = numbers ? (a, b) => value(a.text) - value(b.text)
    : (a, b) => a.text.localeCompare(b.text, "en", { numeric: true });
  const sign = way === "up" ? 1 : -1;
  keyed.sort((a, b) => a.none - b.none || sign * (a.none ? 0 : compare(a, b)));
  body.append(...keyed.map((key) => key.row));
}

// The depth stays in sight beside the network.
for (const table of document.querySelectorAll("table.sortable")) {
  const [first, second] = table.tHead.rows[0].cells;
  if (first.textContent !== "network" || second.textContent !== "depth") continue;
  table.classList.add("beside");
  new ResizeObserver(() => table.style.setProperty("--beside", `${first.offsetWidth}px`)).observe(first);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const key = `sort.${table.id}`;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = head.querySelector("button");
    if (button) button.addEventListener("click", () =>
      State.set(key, `${column}${head.getAttribute("aria-sort") === "ascending" ? "down" : "up"}`));
  });
  State.follow((changed) => { if (changed === key || changed === null) sort(table); });
  if (State.get(key)) sort(table);
}
