"use strict";
// A chart as a file: as it looks on the screen, on light paper and with a legend.

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "opacity",
                "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];
const SAMPLE = 26, ROW = 20, MARGIN = 16; // pixels of a line in the legend, of its rows, and around it

function savePicture(source, lines, name, kind) {
  document.documentElement.classList.add("light");
  const legend = addLegend(d3.select(source), lines);
  const copy = source.cloneNode(true), from = source.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, n) => {
    const shown = getComputedStyle(from[n]);
    for (const style of STYLES) node.style.setProperty(style, shown.getPropertyValue(style));
  });
  const paper = getComputedStyle(document.body).backgroundColor;
  const width = Math.max(source.width.baseVal.value, legend.width), height = source.height.baseVal.value + legend.height;
  legend.node.remove();
  document.documentElement.classList.remove("light");
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.style.background = paper;
  const file = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  if (kind === "svg") return handOver(file, name);
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * width, 2 * height]; // for screens that are twice as fine
    const context = canvas.getContext("2d");
    context.fillStyle = paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(image.src);
    canvas.toBlob((blob) => handOver(blob, name));
  };
  image.src = URL.createObjectURL(file);
}

// Adds the lines and their names below a chart, in columns of one width.
function addLegend(svg, lines) {
  const [whole, top] = ["width", "height"].map((side) => svg.node()[side].baseVal.value);
  const group = svg.append("g").attr("class", "key"), named = new Map(lines.map((line) => [line.name, line]));
  const entries = [...named.values()].map((line) => {
    const entry = group.append("g"), color = `var(--arm${line.place})`;
    entry.append("path").attr("class", "line").style("stroke", color).attr("d", `M0,0H${SAMPLE}`)
      .attr("stroke-dasharray", data.lines[line.dash % data.lines.length]);
    drawMarker(entry, line, [SAMPLE / 2, 0]);
    entry.append("text").attr("x", SAMPLE + 8).attr("y", 4).text(line.name);
    return entry;
  });
  const column = MARGIN + Math.max(0, ...entries.map((entry) => entry.node().getBBox().width));
  const across = Math.max(1, Math.floor((whole - MARGIN) / column)), rows = Math.ceil(entries.length / across);
  entries.forEach((entry, n) => entry.attr("transform",
    `translate(${MARGIN + column * Math.floor(n / rows)},${top + ROW * (0.5 + (n % rows))})`));
  return { node: group.node(), width: column + MARGIN, height: ROW * rows + MARGIN };
}

function drawMarker(group, { place, hollow }, at) {
  group.append("path").attr("class", hollow ? "marker hollow" : "marker")
    .style(hollow ? "stroke" : "fill", `var(--arm${place})`)
    .attr("d", data.markers[place]).attr("transform", `translate(${at})`);
}

function handOver(file, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
