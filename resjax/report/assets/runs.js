"use strict";
// The table of runs: a filter, and runs that are chosen to compare them.

const MOST_ROWS = 100; // rows that are shown before somebody asks for all
const MOST_VALUES = 12; // values that are named where a filter asks for one that there is not

const Runs = (() => {
  const table = document.getElementById("every-run");
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows].map((row, number) => ({
    row, number, name: data.runs[number].name, texts: [...row.cells].map((cell) => cell.textContent.trim()),
  }));
  const columns = heads.map(({ dataset: { filter, kind } }, place) => ({ filter, kind, place })).filter((c) => c.filter);

  // ----------------------------------------------------------------------------------- the filter

  // A function from a run to its text in a column, or of a key that all runs share, and other names of
  // such texts. The name may be the last part of a dotted one.
  function find(name) {
    const same = (known) => known === name || known.split(".").pop() === name;
    const column = columns.find((c) => c.filter === name || heads[c.place].textContent === name) ||
      columns.find((c) => same(c.filter));
    if (column) return [(run) => run.texts[column.place], data.labels[column.filter]];
    const key = data.shared[name] !== undefined ? name : Object.keys(data.shared).find(same);
    return key ? [() => data.shared[key], data.labels[key]] : [];
  }

  const COMPARE = {
    "=": (text, wanted) => text.toLowerCase() === wanted.toLowerCase() || (isNumber(wanted) && value(text) === value(wanted)),
    "<": (text, wanted) => value(text) < value(wanted), ">": (text, wanted) => value(text) > value(wanted),
    "<=": (text, wanted) => value(text) <= value(wanted), ">=": (text, wanted) => value(text) >= value(wanted),
  };

  const distinct = (texts) => [...new Set(texts)].filter((text) => text !== "-")
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

  // What a reader may write instead of a value that no run has.
  function valuesOf(get) {
    const texts = distinct(rows.map(get)).map((text) => (/[\s,]/.test(text) ? `"${text}"` : text));
    const left = texts.length - MOST_VALUES;
    return `${texts.length === 1 ? "all have" : "there are"} ${texts.slice(0, MOST_VALUES).join(", ") || "none"}${left > 0 ? ` and ${left} more` : ""}`;
  }

  // Tests a run for one word of the filter, and what to say of the word; throws an error for a reader
  // to see.
  function testOf(word) {
    const [, name, sign, text] = word.match(/^([^=<>!]+)(!=|<=|>=|=|<|>)(.*)$/) || [];
    const plain = (quoted) => quoted.replace(/"/g, "").replace(/(^|,)'([^']*)'?(?=,|$)/g, "$1$2");
    if (!name) {
      const test = (run) => run.texts.some((shown) => shown.toLowerCase().includes(plain(word).toLowerCase()));
      return { test, said: rows.some(test) ? "" : `No run has "${plain(word)}"; a value with spaces needs quotes, such as train.duration="15 epochs".` };
    }
    const [get, labels] = find(plain(name));
    if (!get) throw new Error(`No column or key "${plain(name)}"; there are ${columns.map((c) => c.filter).join(", ")}, and the keys of a config.`);
    if (!text) throw new Error(`A value is missing after "${name}${sign}".`);
    const wanted = plain(text).split(",").map((one) => labels?.[one] ?? one);
    if (/[<>]/.test(sign)) {
      const odd = wanted.find((one) => !isNumber(one));
      if (odd !== undefined) throw new Error(`"${odd}" after "${name}${sign}" is not a number.`);
      if (!rows.map(get).some(isNumber)) throw new Error(`${name} has no numbers to compare by "${sign}"; ${valuesOf(get)}.`);
      return { test: (run) => wanted.some((one) => COMPARE[sign](get(run), one)), said: "" };
    }
    const has = (one) => (run) => COMPARE["="](get(run), one);
    const unknown = wanted.filter((one) => !rows.some(has(one)));
    const said = unknown.length ? `No run has ${name}=${unknown.join(",")}; ${valuesOf(get)}.` : "";
    return { test: (run) => (sign === "=") === wanted.some((one) => has(one)(run)), said };
  }

  // Quotes are double, or single where a value begins: there are names with an apostrophe.
  const words = () => State.get("filter").match(/(?:"[^"]*"?|(?<=^|[\s=<>,])'[^']*'?|[^\s"])+/g) || [];
  let kept = rows;

  function filter() {
    let said = "", wrong = false;
    try {
      const tests = words().map(testOf);
      kept = rows.filter((run) => tests.every(({ test }) => test(run)));
      if (tests.length) {
        said = [`${kept.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} runs`,
          ...tests.map((each) => each.said).filter(Boolean)].join(". ");
      }
    } catch (error) {
      [kept, said, wrong] = [rows, error.message, true];
    }
    const line = document.getElementById("filter-said");
    line.textContent = said;
    line.classList.toggle("bad", wrong);
    document.getElementById("filter").setAttribute("aria-invalid", String(wrong));
    page();
  }

  // Shows the first of the rows that are kept, in the order of the table.
  function page() {
    const keep = new Set(kept.map((run) => run.row)), all = State.get("rows") === "all";
    let shown = 0;
    for (const row of table.tBodies[0].rows) row.hidden = !(keep.has(row) && (all || ++shown <= MOST_ROWS));
    const more = document.getElementById("show-all");
    more.hidden = kept.length <= MOST_ROWS;
    more.textContent = all ? `Show the first ${MOST_ROWS}` : `Show all ${kept.length.toLocaleString("en")}`;
  }

  document.getElementById("show-all").addEventListener("click", () =>
    State.set("rows", State.get("rows") === "all" ? "" : "all"));

  // ------------------------------------------------------------------------- runs that are chosen

  const chosen = () => {
    const names = new Set(JSON.parse(State.get("chosen", "[]")));
    return rows.filter((run) => names.has(run.name));
  };
  const choose = (names) => State.set("chosen", names.length ? JSON.stringify(names) : "");

  function toggle(name) {
    const names = chosen().map((run) => run.name);
    choose(names.includes(name) ? names.filter((other) => other !== name) : [...names, name]);
  }

  for (const run of rows) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.setAttribute("aria-label", `choose ${run.name}`);
    box.addEventListener("change", () => toggle(run.name));
    run.row.cells[0].append(box);
    run.box = box;
  }
  document.getElementById("choose-none").addEventListener("click", () => choose([]));

  function linesOf(split) {
    return chosen().flatMap((run, n) => {
      const { place, hollow, dash, [`${split}_${measure()}`]: y } = data.runs[run.number];
      return y ? lineOf({ name: `${n + 1}: ${run.name}`, label: `${n + 1}`, place, hollow, dash }, data.runs[run.number], { y }, 1) : [];
    });
  }

  const chart = new Chart(document.getElementById("chosen-curves"), () => ({
    panels: SPLITS.map(([split, name]) => ({ title: titled(name), lines: linesOf(split) })),
    x: { title: "epoch", log: logarithmic("epochs") },
    log: logarithmic("scale"),
  }), follows("epochs", "smooth", "chosen"));

  const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });

  function showDifferences(runs) {
    const body = document.querySelector("#differences tbody"), head = document.querySelector("#differences thead");
    const row = (name, texts, kind) => {
      const made = document.createElement("tr");
      made.append(Object.assign(cell("th", name), { scope: "row" }), ...texts.map((text) => cell(kind, text)));
      return made;
    };
    head.replaceChildren(row("", runs.map((run, n) => `${n + 1}: ${run.name}`), "th"));
    const apart = columns.filter((c) => c.kind === "key" && new Set(runs.map((run) => run.texts[c.place])).size > 1);
    const results = columns.filter((c) => c.kind === "result");
    body.replaceChildren(...[...apart, ...results].map((c) =>
      row(c.kind === "key" ? c.filter : heads[c.place].textContent, runs.map((run) => run.texts[c.place]), "td")));
    document.getElementById("differences-note").textContent = runs.length < 2 ? "One run is chosen."
      : apart.length ? `Their configs differ in ${apart.map((c) => c.filter).join(", ")}; all other keys that decide a result are equal.`
        : "Their configs are equal in all keys that decide a result.";
  }

  // A word of a command as a shell takes it.
  function quoted(text) {
    if (/^[\w@%+=:,./-]+$/.test(text)) return text;
    const unseen = /[\p{C}\p{Zl}\p{Zp}]/gu;
    if (!text.match(unseen)) return `'${text.replace(/'/g, `'"'"'`)}'`;
    const escaped = (letter) => `\\U${letter.codePointAt(0).toString(16).padStart(8, "0")}`;
    return `$'${text.replace(/[\\']/g, "\\$&").replace(unseen, escaped)}'`;
  }
  // Where the page is a file, the sweep is two directories above it.
  const sweep = location.protocol === "file:"
    ? decodeURIComponent(location.pathname).split("/").slice(0, -2).join("/") : data.sweep;

  function commandOf(run) {
    const directory = new URL(run.row.querySelector("a").getAttribute("href"), `file://${sweep.startsWith("/") ? "" : "/"}${encodeURI(sweep)}/report/`);
    const place = decodeURIComponent(directory.pathname).slice(sweep.startsWith("/") ? 0 : 1);
    return `resjax train --config=${quoted(`${place}config.json`)} --workdir=${quoted(`${place.slice(0, -1)}-again`)}`;
  }

  function showCommands(runs) {
    document.getElementById("commands").replaceChildren(...runs.map((run) => {
      const line = document.createElement("div"), text = cell("code", commandOf(run)), copy = cell("button", "Copy");
      line.className = "command";
      copy.type = "button";
      copy.setAttribute("aria-label", `copy the command of ${run.name}`);
      copy.addEventListener("click", async () => {
        getSelection().selectAllChildren(text);
        try {
          await navigator.clipboard.writeText(text.textContent);
          copy.textContent = "Copied";
        } catch {
          copy.textContent = "Selected"; // no browser lets every page write to the clipboard
        }
      });
      line.append(text, copy);
      return line;
    }));
  }

  function showChosen() {
    const runs = chosen();
    for (const run of rows) {
      run.box.checked = runs.includes(run);
      run.row.classList.toggle("chosen", run.box.checked);
    }
    document.getElementById("choose-none").hidden = !runs.length;
    document.getElementById("chosen").hidden = !runs.length;
    if (!runs.length) return;
    showDifferences(runs);
    showCommands(runs);
    if (!chart.drawn) chart.draw();
  }

  State.follow((key) => {
    if (key === "filter" || key === null) filter();
    if (key === "rows" || key === `sort.${table.id}`) page();
    if (key === "chosen" || key === null) showChosen();
  });
  filter();
  showChosen();
  return { rows, columns, kept: () => kept, chosen, toggle, words };
})();
