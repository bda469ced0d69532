"use strict";
// A chart of panels side by side: to hover, to walk through by keyboard and to zoom.

const NARROW = 720; // pixels of a chart, below which its panels stand one above the other
const PRINTED = 660; // pixels of a chart on paper
const FOOT = 16; // pixels below a logarithmic axis, at whose foot zeros lie
const NEAR = 40; // pixels from a point within which the tip describes it
const STEP = 0.25; // of what is shown: how far a key moves it
const coarse = matchMedia("(pointer: coarse)").matches;

const known = (number) => number !== null && number !== undefined;
const format = d3.format(".4~g"), short = d3.format(".3~s");
const tick = (value) => (value !== 0 && (Math.abs(value) >= 1e4 || Math.abs(value) < 1e-4)
  ? (Math.abs(value) >= 1e4 ? short(value) : value.toExponential(0)) : format(value));

// A scale from numbers to pixels. On a logarithmic axis, values of zero and less lie at `start`.
function makeScale(values, log, [start, end], zoom, room) {
  const finite = values.filter(Number.isFinite), positive = finite.filter((v) => v > 0);
  const logarithmic = log && positive.length > 0;
  const none = logarithmic && positive.length < finite.length;
  let domain = zoom;
  if (!domain || (logarithmic && domain[0] <= 0)) {
    domain = d3.extent(logarithmic ? positive : finite.concat(0));
    if (domain[0] === domain[1]) domain = logarithmic ? [domain[0] / 2, domain[0] * 2] : [domain[0], domain[0] + 1];
    else if (logarithmic) domain = [domain[0] / 1.15, domain[1] * 1.15];
    else domain = [domain[0], domain[1] + room * (domain[1] - domain[0])];
  }
  const foot = none ? start + FOOT * Math.sign(end - start) : start;
  const scale = (logarithmic ? d3.scaleLog() : d3.scaleLinear()).domain(domain).range([foot, end]);
  const count = Math.max(4, Math.abs(end - start) / 70);
  let ticks = scale.ticks(count);
  if (logarithmic) {
    const powers = ticks.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
    const decades = Math.log10(domain[1] / domain[0]);
    if (decades < 1) ticks = d3.ticks(...domain, count);
    else ticks = decades < 3 ? ticks.filter((v) => "125".includes(v.toExponential()[0])) : powers;
  }
  const at = (v) => (logarithmic && v <= 0 ? start : scale(v));
  return { at, domain, ticks, none, invert: scale.invert };
}

class Chart {
  // `make` gives what is drawn: { panels: [{ title, lines }], x: { title, log, ticks, room }, log }. A
  // line has a name, a place for colour and marker, dashes, and points { x, y, low, high, said }; it
  // may lie some pixels aside, so that none hides another. `room` is left to the right of all points,
  // as a share of the axis.
  constructor(node, make, follows) {
    this.node = node;
    this.make = make;
    this.key = `zoom.${node.id}`;
    this.drawn = false;
    this.walked = this.picked = null;
    this.svg = d3.select(node).append("svg").attr("aria-hidden", "true");
    this.tip = d3.select(node).append("div").attr("class", "tip").attr("role", "status");
    this.tools();
    this.svg.on("mousemove", () => this.hover(...d3.mouse(this.svg.node())))
      .on("mouseleave", () => this.describe(null))
      .on("click", () => {
        this.hover(...d3.mouse(this.svg.node()));
        this.picked = this.walked;
      })
      .on("dblclick", () => State.set(this.key, ""))
      .on("mousedown", () => this.drag(d3.event));
    node.addEventListener("keydown", (event) => this.press(event));
    node.addEventListener("blur", () => this.describe(null));
    State.follow((key) => {
      if (this.drawn && (key === null || key === this.key || follows(key))) this.draw();
    });
    Chart.all.push(this);
    Chart.near.observe(node);
  }

  tools() {
    const bar = document.createElement("div");
    bar.className = "tools";
    for (const [name, act] of [
      ["Zoom in", () => this.zoom(0.5)], ["Zoom out", () => this.zoom(2)], ["Show all", () => State.set(this.key, "")],
      ["SVG", () => this.save("svg")], ["PNG", () => this.save("png")],
    ]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", act);
      bar.append(button);
    }
    this.node.after(bar);
  }

  save(kind) {
    if (!this.drawn) this.draw();
    const lines = this.make().panels.flatMap((panel) => panel.lines).filter((line) => !line.faint);
    savePicture(this.svg.node(), lines, `${this.node.id}.${kind}`, kind);
  }

  draw() {
    const described = this.walked;
    this.drawn = true;
    this.describe(null);
    const { panels, x, log } = this.make();
    const width = printing ? PRINTED : this.node.clientWidth;
    const stacked = width < NARROW && !printing;
    const left = 52, right = 16, top = 30, bottom = 44, gap = 62;
    const inner = stacked ? width - left - right : (width - left - right - gap * (panels.length - 1)) / panels.length;
    const height = printing ? 200 : stacked ? 230 : 320;
    const step = stacked ? [0, height + top + bottom] : [inner + gap, 0];
    const zoom = State.get(this.key).split(",").map(Number);
    const zoomed = zoom.length === 4 && zoom.every(Number.isFinite);
    const lines = panels.flatMap((panel) => panel.lines), points = lines.flatMap((line) => line.points);
    const aside = zoomed ? 0 : Math.max(0, ...lines.map((line) => Math.abs(line.aside || 0)));
    this.x = makeScale(points.map((p) => p.x), x.log, [aside, inner - aside], zoomed && zoom.slice(0, 2), x.room ?? 0.02);
    const heights = points.flatMap((p) => [p.y, p.low, p.high]).filter((v) => v !== undefined && v !== null);
    this.y = makeScale(heights, log, [height, 0], zoomed && zoom.slice(2), 0.05);
    this.size = [inner, height];
    this.marks = [];
    this.svg.attr("width", width)
      .attr("height", (stacked ? panels.length : 1) * (height + top + bottom))
      .selectAll("*").remove();
    this.origins = panels.map((_, n) => [left + n * step[0], top + n * step[1]]);
    panels.forEach((panel, n) => this.panel(panel, n, x));
    this.frame = this.svg.append("rect").attr("class", "zooming").attr("display", "none");
    this.ring = this.svg.append("circle").attr("class", "ring").attr("r", 7).attr("display", "none");
    this.describe(this.again(described));
  }

  // Where a point is that was drawn before; null if it is not shown now.
  again(mark) {
    const same = (other) => mark.panel === other.panel && mark.line.name === other.line.name && mark.point.x === other.point.x;
    return (mark && this.marks.find((other) => same(other) && this.within(other))) || null;
  }

  panel({ title, lines }, number, x) {
    const [inner, height] = this.size, [left, top] = this.origins[number];
    const group = this.svg.append("g").attr("transform", `translate(${left},${top})`);
    group.append("text").attr("class", "title").attr("y", -12).text(title);
    this.axes(group, x);
    const clip = `${this.node.id}-clip${number}`;
    group.append("clipPath").attr("id", clip).append("rect").attr("x", -6).attr("y", -6)
      .attr("width", inner + 12).attr("height", height + 12);
    const inside = group.append("g").attr("clip-path", `url(#${clip})`);
    const across = (line) => (p) => this.x.at(p.x) + (line.aside || 0);
    const at = (line, p) => [across(line)(p), this.y.at(p.y)];
    for (const line of lines) {
      const spread = line.points.filter((p) => known(p.low) && known(p.high));
      const color = `var(--arm${line.place})`;
      if (spread.length > 1) {
        inside.append("path").attr("class", "band").style("fill", color)
          .attr("d", d3.area().x(across(line)).y0((p) => this.y.at(p.low)).y1((p) => this.y.at(p.high))(spread));
      } else if (spread.length) {
        const [p] = spread;
        inside.append("path").attr("class", "bar").style("stroke", color)
          .attr("d", `M${across(line)(p)},${this.y.at(p.low)}V${this.y.at(p.high)}`);
      }
    }
    for (const line of lines) {
      const path = d3.line().defined((p) => known(p.y)).x(across(line)).y((p) => this.y.at(p.y));
      const color = `var(--arm${line.place})`;
      inside.append("path").attr("class", line.faint ? "line faint" : "line").style("stroke", color)
        .attr("data-name", line.name).attr("stroke-dasharray", data.lines[line.dash % data.lines.length])
        .attr("d", path(line.points));
      if (line.faint) continue;
      const seen = line.points.filter((p) => known(p.y));
      const every = Math.max(1, Math.ceil(seen.length / 8));
      for (const [n, p] of seen.entries()) {
        this.marks.push({ line, point: p, panel: number, place: at(line, p) });
        if ((seen.length - 1 - n) % every === 0) drawMarker(inside, line, at(line, p));
      }
    }
    this.labels(inside, lines.filter((line) => line.label && !line.faint && line.points.some((p) => known(p.y))), at);
    if (!lines.length) {
      group.append("text").attr("class", "none").attr("x", inner / 2).attr("y", height / 2).text("nothing to show");
    }
  }

  // Labels above the ends of lines, apart from each other.
  labels(group, lines, at) {
    const ends = lines.map((line) => ({ label: line.label, place: at(line, line.points.filter((p) => known(p.y)).pop()) }));
    let above = Infinity;
    for (const { label, place: [x, y] } of ends.sort((a, b) => b.place[1] - a.place[1])) {
      above = Math.min(y - 8, above - 14);
      group.append("text").attr("class", "end").attr("x", x - 4).attr("y", above).text(label);
    }
  }

  axes(group, { title, ticks, log }) {
    const [inner, height] = this.size;
    const rows = this.y.ticks.filter((v) => v >= this.y.domain[0] && v <= this.y.domain[1]).map((v) => [v, this.y.at(v)]);
    if (this.y.none) rows.push([0, height]);
    for (const [value, y] of rows) {
      group.append("line").attr("class", "grid").attr("x2", inner).attr("y1", y).attr("y2", y);
      group.append("text").attr("class", "ytick").attr("x", -8).attr("y", y + 4).text(tick(value));
    }
    let last = -Infinity;
    const own = ticks && !State.get(this.key) ? ticks : this.x.ticks;
    const columns = own.map((v) => [v, this.x.at(v)]);
    for (const [value, x] of columns.filter(([, place]) => place >= -1 && place <= inner + 1)) {
      group.append("line").attr("class", "grid").attr("y2", height).attr("x1", x).attr("x2", x);
      if (x - last < 34) continue;
      last = x;
      group.append("text").attr("class", "xtick").attr("x", x).attr("y", height + 18).text(tick(value));
    }
    group.append("text").attr("class", "axis").attr("x", inner / 2).attr("y", height + 38).text(title);
  }

  // ------------------------------------------------------------------ hovering, and walking by keys

  at(x, y) {
    const [inner, height] = this.size;
    const panel = this.origins.findIndex(([left, top]) =>
      x >= left - 8 && x <= left + inner + 8 && y >= top - 8 && y <= top + height + 8);
    return panel < 0 ? null : { panel, x: x - this.origins[panel][0], y: y - this.origins[panel][1] };
  }

  hover(x, y) {
    const found = this.at(x, y);
    if (!found || this.dragging) return this.describe(null);
    const own = this.marks.filter((mark) => mark.panel === found.panel && this.within(mark));
    const away = (mark) => Math.hypot(mark.place[0] - found.x, mark.place[1] - found.y);
    const nearest = own.reduce((best, mark) => (!best || away(mark) < away(best) ? mark : best), null);
    this.describe(nearest && away(nearest) < NEAR ? nearest : null);
  }

  within({ place: [x, y] }) {
    return x >= -1 && x <= this.size[0] + 1 && y >= -1 && y <= this.size[1] + 1;
  }

  // Shows the ring and the tip of a point; hides them if it is null.
  describe(mark) {
    this.walked = mark;
    this.tip.style("display", mark ? "block" : "none");
    if (this.ring) this.ring.attr("display", mark ? null : "none");
    if (!mark) return;
    const [left, top] = this.origins[mark.panel], x = left + mark.place[0], y = top + mark.place[1];
    this.ring.attr("cx", x).attr("cy", y).style("stroke", `var(--arm${mark.line.place})`);
    this.tip.text(`${mark.line.name}\n${mark.point.said}`);
    const { offsetWidth, offsetHeight } = this.tip.node();
    const most = this.node.clientWidth - offsetWidth;
    this.tip.style("left", `${Math.max(0, Math.min(most, x + 12 > most ? x - offsetWidth - 12 : x + 12))}px`)
      .style("top", `${Math.max(0, y - offsetHeight - 12)}px`);
  }

  // To the next point of the line, or to the same place of the next line.
  walk(along, across) {
    const marks = this.marks.filter((mark) => this.within(mark));
    if (!marks.length) return;
    const place = marks.indexOf(this.walked);
    const lines = [...new Set(marks.map((mark) => mark.line))];
    const from = (line) => marks.filter((mark) => mark.line === line);
    if (place < 0) {
      this.describe(marks[0]);
    } else {
      const own = from(lines[(lines.indexOf(this.walked.line) + across + lines.length) % lines.length]);
      this.describe(own[Math.max(0, Math.min(own.length - 1, from(this.walked.line).indexOf(this.walked) + along))]);
    }
    this.picked = this.walked;
  }

  press(event) {
    const { key, shiftKey } = event;
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] || [0, 0];
    if (event.target !== this.node || event.ctrlKey || event.altKey || event.metaKey) return;
    if ((x || y) && shiftKey) this.move(x * STEP * this.size[0], y * STEP * this.size[1]);
    else if (x || y) this.walk(x, y);
    else if (key === "+" || key === "=") this.zoom(0.5);
    else if (key === "-") this.zoom(2);
    else if (key === "0" || key === "Escape") State.set(this.key, "");
    else return;
    event.preventDefault();
  }

  // --------------------------------------------------------------------------- zooming, and moving

  // Shows what lies between pixels of a panel.
  show([x0, x1], [y0, y1]) {
    const ends = [x0, x1].map(this.x.invert).concat([y1, y0].map(this.y.invert));
    State.set(this.key, ends.map((v) => Number(v.toPrecision(6))).join(","));
  }

  // Keeps the point in its place that is described, or was walked to or clicked; else the middle.
  zoom(factor) {
    const kept = this.walked || this.again(this.picked);
    const place = kept ? kept.place : this.size.map((length) => length / 2);
    this.show(...place.map((at, n) => [at - factor * at, at + factor * (this.size[n] - at)]));
  }

  move(x, y) {
    this.show([x, this.size[0] + x], [y, this.size[1] + y]);
  }

  drag(event) {
    const svg = this.svg.node(), place = (e) => this.at(...d3.clientPoint(svg, e));
    const start = place(event);
    if (!start || event.button || coarse) return;
    event.preventDefault();
    this.node.focus({ preventScroll: true });
    const [left, top] = this.origins[start.panel];
    const inside = (e) => {
      const [x, y] = d3.clientPoint(svg, e);
      return [Math.max(0, Math.min(this.size[0], x - left)), Math.max(0, Math.min(this.size[1], y - top))];
    };
    const [x0, y0] = inside(event);
    this.dragging = true;
    this.describe(null);
    const moved = (e) => {
      if (event.shiftKey) return;
      const [x, y] = inside(e);
      this.frame.attr("display", null).attr("x", left + Math.min(x, x0)).attr("y", top + Math.min(y, y0))
        .attr("width", Math.abs(x - x0)).attr("height", Math.abs(y - y0));
    };
    const ended = (e) => {
      removeEventListener("mousemove", moved);
      this.dragging = false;
      this.frame.attr("display", "none");
      const [x, y] = inside(e);
      if (event.shiftKey) this.move(x0 - x, y0 - y);
      else if (Math.abs(x - x0) > 8 && Math.abs(y - y0) > 8) this.show(d3.extent([x, x0]), d3.extent([y, y0]));
    };
    addEventListener("mousemove", moved);
    addEventListener("mouseup", ended, { once: true });
  }
}

Chart.all = [];
// A chart is first drawn when it is near the screen: a page may have very many.
Chart.near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = Chart.all.find((each) => each.node === entry.target);
    if (entry.isIntersecting && !chart.drawn) chart.draw();
  }
}, { rootMargin: "600px" });
Chart.again = (every) => Chart.all.filter((chart) => chart.node.clientWidth && (every || chart.drawn))
  .forEach((chart) => chart.draw());

let waiting, width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width || printing) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(Chart.again, 100, false);
});
addEventListener("beforeprint", () => { printing = true; Chart.again(true); });
addEventListener("afterprint", () => { printing = false; Chart.again(false); });
