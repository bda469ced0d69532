"use strict";
// A chart as a file, as it looks on the screen.

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "opacity",
                "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];

function savePicture(source, name, kind) {
  const copy = source.cloneNode(true), from = source.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, n) => {
    const shown = getComputedStyle(from[n]);
    for (const style of STYLES) node.style.setProperty(style, shown.getPropertyValue(style));
  });
  const paper = getComputedStyle(document.body).backgroundColor;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.style.background = paper;
  const file = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  if (kind === "svg") return handOver(file, name);
  const image = new Image(), { width, height } = source.getBoundingClientRect();
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

function handOver(file, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
