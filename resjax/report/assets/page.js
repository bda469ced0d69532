"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const NARROW = 720; // pixels of a screen, below which the two panels of a chart stand one above the other
  const PRINTED = 660; // pixels of a chart on paper
  const SPLITS = [["train", "training error (%)"], ["test", "test error (%)"]];
  let printing = false;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads a kind of HTML in names.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const color = (arm) => {
    const colors = dark.matches && !printing ? data.dark : data.light;
    return colors[arm % colors.length];
  };
  const faded = (hex) => hex + "2e";

  // What is hidden in each section: "arm:depth".
  const hidden = data.sections.map(() => new Set());
  const shown = (section, arm, depth) => !hidden[section].has(`${arm}:${depth}`);

  function band(x, low, high) {
    const kept = x.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null);
    const back = [...kept].reverse();
    return { x: [...kept, ...back].map((i) => x[i]),
             y: [...kept.map((i) => high[i]), ...back.map((i) => low[i])] };
  }

  function curves(place) {
    const section = data.sections[place];
    const bands = [], lines = [];
    for (const line of section.curves) {
      const name = `${plain(section.arms[line.arm])}, ${line.depth} layers`;
      SPLITS.forEach(([split], panel) => {
        const drawn = line[split];
        if (!drawn || !shown(place, line.arm, line.depth)) return;
        const axes = panel ? { xaxis: "x2", yaxis: "y2" } : {};
        if (drawn.low) {
          bands.push({ ...axes, ...band(drawn.x, drawn.low, drawn.high), type: "scatter", mode: "lines",
                       line: { width: 0 }, fill: "toself", fillcolor: faded(color(line.arm)),
                       hoverinfo: "skip", showlegend: false });
        }
        const range = drawn.low ? drawn.low.map((low, i) => [low, drawn.high[i]]) : undefined;
        lines.push({ ...axes, x: drawn.x, y: drawn.y, customdata: range, name, type: "scatter",
                     mode: "lines+markers",
                     line: { color: color(line.arm), width: 2,
                             dash: data.lines[line.dash % data.lines.length] },
                     marker: { color: color(line.arm), size: 7, maxdisplayed: 8,
                               symbol: data.markers[line.arm % data.markers.length] },
                     hovertemplate: `<b>${name}</b><br>epoch %{x:.4~g}: %{y:.2f} %` +
                       (range ? `<br>${line.seeds} seeds, %{customdata[0]:.2f} to %{customdata[1]:.2f}` : "") +
                       "<extra></extra>" });
      });
    }
    return [...bands, ...lines];
  }

  function depths(place) {
    const section = data.sections[place];
    const traces = [];
    section.points.forEach((arm, index) => {
      const name = plain(section.arms[index]);
      SPLITS.forEach(([split], panel) => {
        const found = arm[split];
        const kept = found.x.map((_, i) => i).filter((i) => shown(place, index, found.x[i]));
        const of = (values) => kept.map((i) => values[i]);
        const x = of(found.x), y = of(found.y), low = of(found.low), high = of(found.high);
        if (!x.length) return;
        traces.push({ ...(panel ? { xaxis: "x2", yaxis: "y2" } : {}), x, y, name, type: "scatter",
          mode: "lines+markers",
          customdata: of(found.n).map((n, i) => n > 1
            ? `${n} seeds, 95 % interval ${low[i].toFixed(2)} to ${high[i].toFixed(2)}` : "one seed"),
          line: { color: color(index), width: 2, dash: data.lines[index % data.lines.length] },
          marker: { color: color(index), size: 8, symbol: data.markers[index % data.markers.length] },
          error_y: { type: "data", symmetric: false, array: high.map((v, i) => v - y[i]),
                     arrayminus: low.map((v, i) => y[i] - v), visible: true, thickness: 1.2,
                     width: 4, color: color(index) },
          hovertemplate: `<b>${name}, %{x} layers</b><br>%{y:.2f} %<br>%{customdata}<extra></extra>` });
      });
    });
    return traces;
  }

  function layout(width, xtitle, ticks) {
    const narrow = width < NARROW && !printing;
    const ink = style("--ink"), line = style("--line"), panel = style("--panel");
    const x = { title: { text: xtitle, standoff: 6 }, gridcolor: line, zeroline: false,
                linecolor: line, rangemode: "tozero", ...(ticks ? { tickvals: ticks } : {}) };
    const y = { gridcolor: line, zerolinecolor: line, rangemode: "tozero", automargin: true };
    const domains = narrow ? [[0.57, 1], [0, 0.43]] : [[0, 1], [0, 1]];
    const columns = narrow ? [[0, 1], [0, 1]] : [[0, 0.47], [0.53, 1]];
    return {
      width, height: narrow ? 670 : printing ? 280 : 400, autosize: false, showlegend: false,
      hovermode: "closest", dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: printing ? 10 : 13, color: ink },
      hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: ink } },
      modebar: { color: style("--faint"), activecolor: ink, bgcolor: "rgba(0,0,0,0)" },
      margin: { l: 44, r: 8, t: narrow ? 58 : 30, b: 44 },
      xaxis: { ...x, domain: columns[0], anchor: "y" },
      xaxis2: { ...x, domain: columns[1], anchor: "y2", matches: "x" },
      yaxis: { ...y, domain: domains[0], anchor: "x" },
      yaxis2: { ...y, domain: domains[1], anchor: "x2" },
      annotations: SPLITS.map(([, name], i) => ({
        text: `<b>${name}</b>`, showarrow: false, xref: "paper", yref: "paper", x: columns[i][0],
        y: domains[i][1], xanchor: "left", yanchor: "bottom", yshift: 6 })),
    };
  }

  const KINDS = {
    curves: { traces: curves, axis: () => ["epoch"] },
    depths: { traces: depths, axis: (place) => ["layers", data.sections[place].depths] },
  };
  const charts = [...document.querySelectorAll(".chart")];
  // Named one by one: by default there is a button that sends a chart away.
  const BUTTONS = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const CONFIG = { displaylogo: false, plotlyServerURL: "", modeBarButtons: BUTTONS };

  function draw(chart) {
    const place = Number(chart.dataset.section);
    const kind = KINDS[chart.classList.contains("curves") ? "curves" : "depths"];
    const width = printing ? PRINTED : chart.clientWidth;
    return Plotly.react(chart, kind.traces(place), layout(width, ...kind.axis(place)), CONFIG);
  }

  // A chart is first drawn when it is near the screen: a page may have very many.
  const drawn = new Set();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target)) {
        drawn.add(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "600px" });
  charts.forEach((chart) => near.observe(chart));
  const again = (every) => (every ? charts : charts.filter((chart) => drawn.has(chart))).forEach(draw);

  let waiting, width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width || printing) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(again, 100, false);
  });
  dark.addEventListener("change", () => again(false));
  addEventListener("beforeprint", () => { printing = true; again(true); });
  addEventListener("afterprint", () => { printing = false; again(false); });

  document.querySelectorAll(".legend").forEach((legend) => {
    const place = Number(legend.dataset.section);
    const buttons = [...legend.querySelectorAll("button")];
    const update = () => {
      for (const button of buttons) {
        const { arm, depth } = button.dataset;
        const own = depth ? [depth] : buttons.filter((b) => b.dataset.arm === arm && b.dataset.depth)
          .map((b) => b.dataset.depth);
        button.setAttribute("aria-pressed", String(own.some((d) => shown(place, arm, d))));
      }
      charts.filter((chart) => Number(chart.dataset.section) === place && drawn.has(chart)).forEach(draw);
    };
    legend.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const { arm, depth } = button.dataset;
      const hide = button.getAttribute("aria-pressed") === "true";
      const own = depth ? [depth] : buttons.filter((b) => b.dataset.arm === arm && b.dataset.depth)
        .map((b) => b.dataset.depth);
      own.forEach((d) => hidden[place][hide ? "add" : "delete"](`${arm}:${d}`));
      update();
    });
  });

  // "30 ± 26", "1,000", "+0.3 to 0.5" and "< 0.0001" sort by their first number.
  const value = (text) => parseFloat(text.replace(/^< /, "").replace(/,/g, "").replace("inf", "Infinity"));
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => {
        const text = row.cells[column].textContent.trim();
        return { row, text, number: value(text), none: text === "-" };
      });
      const numbers = keyed.every((key) => key.none || !Number.isNaN(key.number));
      keyed.sort((a, b) => a.none - b.none ||
        (up ? 1 : -1) * (numbers ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true })));
      body.append(...keyed.map((key) => key.row));
    }));
  });
})();
