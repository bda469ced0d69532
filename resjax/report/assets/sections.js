"use strict";
// The two charts of each section, and the buttons that hide and show their lines.

const SPLITS = [["train", "training"], ["test", "test"]];
const VIEW = ["measure", "scale"];
const measure = () => State.get("measure", "error");
const unit = () => (measure() === "error" ? " %" : "");
const titled = (name) => `${name} ${measure()}${measure() === "error" ? " (%)" : ""}`;
const logarithmic = (key) => State.get(key, USUAL[key]?.()) === "log";

// Exponential moving averages, divided by the sum of their weights, so that they start at the first value.
function smoothed(values) {
  const weight = Math.min(0.99, Number(State.get("smooth", "0")) || 0);
  if (!values || !weight) return values;
  let sum = 0, weights = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    weights = weight * weights + (1 - weight);
    return sum / weights;
  });
}

const number = (value) => (measure() === "error" ? value.toFixed(2) : format(value));

// Steps rarely end with an epoch: one evaluated after 4.008 epochs is meant for the fourth.
const epoch = (value) => (value < 1 ? d3.format(".2~r") : d3.format(".1~f"))(value);

// The line of a curve; if it is smoothed, a faint one of its own values comes before it. `steps` are
// those of an epoch.
function lineOf(style, { epochs, steps }, { y, low, high }, seeds) {
  const [mean, lowest, highest] = [y, low, high].map(smoothed);
  const points = epochs.map((x, n) => ({
    x, y: mean[n], low: lowest?.[n], high: highest?.[n],
    said: known(mean[n]) ? `epoch ${epoch(x)} (step ${Math.round(x * steps).toLocaleString("en")}): ${number(mean[n])}${unit()}` +
      (known(lowest?.[n]) ? `\n${seeds} seeds, ${number(lowest[n])} to ${number(highest[n])}` : "") : "",
  })).filter((p) => p.x > 0 || !logarithmic("epochs"));
  const raw = { ...style, faint: true, points: epochs.map((x, n) => ({ x, y: y[n] })).filter((p) => p.x > 0 || !logarithmic("epochs")) };
  return mean === y ? [{ ...style, points }] : [raw, { ...style, points }];
}

const follows = (...keys) => (key) => [...VIEW, ...keys].includes(key);

// The lines that are hidden in a section, as "arm:depth".
const hidden = (place) => new Set(State.get(`hide.${place + 1}`).split(",").filter(Boolean));

function cellsOf(place) {
  const away = hidden(place);
  return data.sections[place].cells.filter((cell) => !away.has(`${cell.arm}:${cell.depth}`));
}

function styleOf(place, cell) {
  const { name, place: color, hollow } = data.sections[place].arms[cell.arm];
  return { name: `${name}, ${cell.depth} layers`, place: color, hollow, dash: cell.dash };
}

function curvesOf(place) {
  return {
    panels: SPLITS.map(([split, name]) => ({
      title: titled(name),
      lines: cellsOf(place).filter((cell) => cell.curves[`${split}_${measure()}`]).flatMap((cell) =>
        lineOf(styleOf(place, cell), cell.curves, cell.curves[`${split}_${measure()}`], cell.seeds)),
    })),
    x: { title: "epoch", log: logarithmic("epochs") },
    log: logarithmic("scale"),
  };
}

const SIZES = { depth: "layers", multiply_adds: "multiply-adds", params: "parameters", seconds: "seconds of training" };

const ASIDE = 4; // pixels from a line to the next one
const APART = 16; // the same where all networks have one size, and so stand side by side

// Lines from depth to depth have no dashes, which would say a depth.
function sizesOf(place) {
  const size = State.get("size", "depth"), cells = cellsOf(place);
  const { arms } = data.sections[place];
  const sizes = [...new Set(cells.map((cell) => cell[size]))].sort((a, b) => a - b);
  const step = sizes.length === 1 ? APART : ASIDE;
  const lines = (split) => arms.map(({ name, place: color, hollow }, arm) => ({
    name, place: color, hollow, dash: 0, aside: step * (arm - (arms.length - 1) / 2),
    points: cells.filter((cell) => cell.arm === arm && cell.ends[`${split}_${measure()}`]).map((cell) => {
      const [y, low, high] = cell.ends[`${split}_${measure()}`];
      const seeds = cell.seeds > 1 ? `${cell.seeds} seeds` : "one seed";
      const interval = known(low) ? `, 95 % interval ${number(low)} to ${number(high)}` : "";
      const said = size === "depth" ? "" : `${SIZES[size]}: ${short(cell[size])}\n`;
      return { x: cell[size], y, low, high, said: `${cell.depth} layers: ${number(y)}${unit()}\n${said}${seeds}${interval}` };
    }).sort((a, b) => a.x - b.x),
  })).filter((line) => line.points.length);
  return {
    panels: SPLITS.map(([split, name]) => ({ title: titled(name), lines: lines(split) })),
    x: { title: SIZES[size], log: logarithmic("sizes"), room: sizes.length === 1 ? 1 : 0.02,
         ticks: size === "depth" || sizes.length === 1 ? sizes : null },
    log: logarithmic("scale"),
  };
}

for (const node of document.querySelectorAll(".chart[data-section]")) {
  const place = Number(node.dataset.section), hides = `hide.${place + 1}`;
  if (node.classList.contains("curves")) new Chart(node, () => curvesOf(place), follows("epochs", "smooth", hides));
  if (node.classList.contains("sizes")) new Chart(node, () => sizesOf(place), follows("size", "sizes", hides));
}

// The legend of a chart against size names what has a line there.
for (const list of document.querySelectorAll("ul.key")) {
  const place = Number(list.dataset.section), key = `hide.${place + 1}`;
  const show = () => {
    const shown = new Set(cellsOf(place).map((cell) => cell.arm));
    [...list.children].forEach((entry, arm) => { entry.hidden = !shown.has(arm); });
  };
  State.follow((changed) => { if (changed === key || changed === null) show(); });
  show();
}

for (const legend of document.querySelectorAll(".legend")) {
  const place = Number(legend.dataset.section), key = `hide.${place + 1}`;
  const buttons = [...legend.querySelectorAll("button")];
  const lines = ({ dataset: { arm, depth } }) => (depth ? [`${arm}:${depth}`]
    : buttons.filter((b) => b.dataset.arm === arm && b.dataset.depth).map((b) => `${arm}:${b.dataset.depth}`));
  const show = () => {
    const away = hidden(place);
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(lines(button).some((line) => !away.has(line))));
    }
  };
  legend.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const away = hidden(place), hide = button.getAttribute("aria-pressed") === "true";
    for (const line of lines(button)) away[hide ? "add" : "delete"](line);
    State.set(key, [...away].sort().join(","));
  });
  State.follow((changed) => { if (changed === key || changed === null) show(); });
  show();
}
