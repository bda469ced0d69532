"use strict";
// Parallel coordinates: a line for each run across the axes of a sweep and its errors.

(() => {
  const node = document.getElementById("parallel");
  if (!node) return;
  const MOST_STEPS = 12; // values of an axis up to which they stand at equal distances
  const MARGIN = { top: 48, bottom: 26, side: 70 }, HEIGHT = 300, LEAST = 110; // pixels, also between axes
  const names = [...data.axes, "train_error", "test_error"];
  const axes = names.map((name) => Runs.columns.find((column) => column.filter === name)).filter(Boolean);
  const svg = d3.select(node).append("svg").attr("height", HEIGHT + MARGIN.top + MARGIN.bottom);
  const tip = d3.select(node).append("div").attr("class", "tip");
  let lines = [];

  // From the texts of an axis to pixels: in equal steps if they are few, else as numbers.
  function scaleOf(column) {
    const texts = [...new Set(Runs.rows.map((run) => run.texts[column.place]).filter((text) => text !== "-"))];
    const numbers = texts.every(isNumber);
    if (numbers && (column.kind === "result" || texts.length > MOST_STEPS)) {
      const values = texts.map(value).filter(Number.isFinite);
      const { at, ticks, none, invert } = makeScale(values, State.get("scale") === "log", [HEIGHT, 0], null, 0);
      const marks = ticks.map((v) => [tick(v), at(v)]).concat(none ? [["0", HEIGHT]] : []);
      return { at: (text) => at(value(text)), marks, invert };
    }
    texts.sort(numbers ? (a, b) => value(a) - value(b) : (a, b) => (a < b ? -1 : 1));
    const scale = d3.scalePoint().domain(texts).range([HEIGHT, 0]).padding(0.5);
    const every = Math.ceil(texts.length / 16);
    return { at: scale, marks: texts.filter((_, n) => n % every === 0).map((text) => [text, scale(text)]), texts };
  }

  // From low to high along the first axis of errors.
  function colorOf(run, scales) {
    const place = axes.findIndex((column) => column.kind === "result");
    const y = place < 0 ? NaN : scales[place].at(run.texts[axes[place].place]);
    return Number.isFinite(y) ? `color-mix(in oklab, var(--bad) ${(100 * (1 - y / HEIGHT)).toFixed(0)}%, var(--accent))` : "var(--edge)";
  }

  function draw() {
    const width = printing ? PRINTED : Math.max(node.parentElement.clientWidth, 2 * MARGIN.side + LEAST * (axes.length - 1));
    const x = d3.scalePoint().domain(d3.range(axes.length)).range([MARGIN.side, width - MARGIN.side]);
    const scales = axes.map(scaleOf);
    svg.attr("width", width).selectAll("*").remove();
    const group = svg.append("g").attr("transform", `translate(0,${MARGIN.top})`);
    const kept = new Set(Runs.kept()), chosen = new Set(Runs.chosen());
    const done = Runs.rows.filter((run) => data.runs[run.number].place !== undefined);
    lines = done.map((run) => ({
      run, kept: kept.has(run),
      points: axes.map((column, n) => [x(n), scales[n].at(run.texts[column.place])]).filter(([, y]) => Number.isFinite(y)),
    })).sort((a, b) => a.kept - b.kept || chosen.has(a.run) - chosen.has(b.run));
    for (const { run, kept: own, points } of lines) {
      const color = colorOf(run, scales);
      group.append("path").attr("class", `run${own ? "" : " away"}${chosen.has(run) ? " chosen" : ""}`)
        .attr("d", d3.line()(points)).style("stroke", own ? color : null)
        .style("opacity", own && !chosen.has(run) ? Math.max(0.15, Math.min(0.8, 30 / kept.size)) : null);
    }
    axes.forEach((column, n) => axis(group, column, scales[n], x(n)));
    svg.on("mousemove", hover).on("mouseleave", () => tip.style("display", "none")).on("click", () => {
      const found = nearest();
      if (found) Runs.toggle(found.run.name);
    });
  }

  function axis(group, column, scale, x) {
    const own = group.append("g").attr("class", "upright").attr("transform", `translate(${x},0)`);
    const [name, section] = column.filter.replace(/_/g, " ").split(".").reverse();
    own.append("text").attr("class", "title").attr("y", -14).text(/_error$/.test(column.filter) ? `${name} %` : name);
    own.append("text").attr("class", "section").attr("y", -31).text(section || "");
    own.append("line").attr("y2", HEIGHT);
    for (const [text, y] of scale.marks) {
      const label = own.append("text").attr("class", "mark").attr("x", -6).attr("y", y + 4)
        .text(text.length > 12 ? `${text.slice(0, 11)}…` : text);
      const box = label.node().getBBox(); // lines run behind it
      own.insert("rect", ".mark").attr("class", "behind").attr("x", box.x - 2).attr("y", box.y)
        .attr("width", box.width + 4).attr("height", box.height);
    }
    const brush = d3.brushY().extent([[-14, 0], [14, HEIGHT]]).on("end", () => {
      const picked = d3.event.selection;
      if (!picked) return;
      const word = wordOf(column, scale, picked);
      const others = Runs.words().filter((other) => !other.match(new RegExp(`^${column.filter.replace(/\./g, "\\.")}(=|<|>)`)));
      State.set("filter", [...others, word].join(" ").trim());
    });
    if (!coarse) own.append("g").attr("class", "brush").call(brush);
  }

  // The words of a filter that keep what lies between two pixels of an axis.
  function wordOf(column, scale, [top, bottom]) {
    if (scale.invert) {
      const [low, high] = [bottom, top].map((y) => Number(scale.invert(y).toPrecision(3)));
      return `${column.filter}>=${low} ${column.filter}<=${high}`;
    }
    const inside = scale.texts.filter((text) => scale.at(text) >= top && scale.at(text) <= bottom);
    const quote = (text) => (/[\s"]/.test(text) ? `"${text}"` : text);
    return inside.length ? `${column.filter}=${inside.map(quote).join(",")}` : "";
  }

  function nearest() {
    const [mx, my] = d3.mouse(svg.node());
    let best = null, least = 12;
    for (const line of lines.filter((each) => each.kept)) {
      const after = line.points.findIndex(([px]) => px >= mx);
      if (after < 1) continue;
      const [[x0, y0], [x1, y1]] = [line.points[after - 1], line.points[after]];
      const away = Math.abs(y0 + ((y1 - y0) * (mx - x0)) / (x1 - x0) + MARGIN.top - my);
      if (away < least) [best, least] = [line, away];
    }
    return best;
  }

  function hover() {
    const found = nearest(), [mx, my] = d3.mouse(svg.node());
    tip.style("display", found ? "block" : "none");
    if (!found) return;
    tip.text([found.run.name, ...axes.map((c) => `${c.filter}: ${found.run.texts[c.place]}`)].join("\n"));
    tip.style("left", `${Math.min(mx + 14, svg.node().clientWidth - tip.node().offsetWidth)}px`).style("top", `${my + 14}px`);
  }

  let near = false;
  new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting || near) return;
    near = true;
    draw();
  }, { rootMargin: "600px" }).observe(node);
  State.follow((key) => {
    if (near && ["filter", "chosen", "scale", null].includes(key)) draw();
  });
  addEventListener("resize", () => { if (near) draw(); });
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
})();
