"use strict";
// The state of all controls, which is in the address, and what has to follow it.

document.documentElement.classList.remove("without-js");
const data = JSON.parse(document.getElementById("data").textContent);

let printing = false; // whether the page is laid out for paper

const PAUSE = 250; // milliseconds after the last change until the address has it

const State = (() => {
  const values = new Map(), listeners = [];

  // An address that only names a place on the page leaves the state as it is.
  function read() {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) return void values.set("at", decodeURIComponent(text));
    values.clear();
    for (const [key, value] of new URLSearchParams(text)) values.set(key, value);
  }

  // Some browsers stop a page that writes its address more often.
  let waits;
  function write() {
    clearTimeout(waits);
    waits = setTimeout(writeNow, PAUSE);
  }

  function writeNow() {
    const text = new URLSearchParams([...values].sort(([a], [b]) => (a < b ? -1 : 1))).toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function jump() {
    const place = document.getElementById(values.get("at") || "");
    if (place) place.scrollIntoView();
  }

  addEventListener("hashchange", () => {
    clearTimeout(waits);
    read();
    writeNow();
    listeners.forEach((listener) => listener(null));
    jump();
  });
  addEventListener("load", () => {
    if (location.hash) writeNow();
    jump();
  });
  read();

  return {
    get: (key, otherwise = "") => values.get(key) ?? otherwise,
    // What has its default, an empty text, is not in the address.
    set(key, value) {
      if (value === "") values.delete(key);
      else values.set(key, String(value));
      write();
      listeners.forEach((listener) => listener(key));
    },
    // Calls a function with the key that was changed, and with null if all may have been.
    follow: (listener) => listeners.push(listener),
  };
})();

for (const part of document.querySelectorAll("details")) {
  const show = () => { part.open = State.get(part.id) === "open"; };
  addEventListener("beforeprint", () => { part.open = true; }); // paper cannot be opened
  addEventListener("afterprint", show);
  part.addEventListener("toggle", () => {
    if (!printing && part.open !== (State.get(part.id) === "open")) State.set(part.id, part.open ? "open" : "");
  });
  State.follow((changed) => { if (changed === null) show(); });
  show();
}

// Losses span decades, so that their axis is logarithmic unless somebody wants another.
const USUAL = { scale: () => (State.get("measure") === "loss" ? "log" : "linear") };

// Selects, sliders and fields are bound to the key that they name; their first value is the default
// where `USUAL` has none.
for (const control of document.querySelectorAll("[data-state]")) {
  const key = control.dataset.state;
  const first = control.options ? control.options[0].value : control.defaultValue;
  const usual = USUAL[key] || (() => first);
  const show = () => {
    control.value = State.get(key, usual());
    for (const text of document.querySelectorAll(`[data-shows="${key}"]`)) text.textContent = control.value;
  };
  control.addEventListener("input", () => State.set(key, control.value === usual() ? "" : control.value));
  State.follow((changed) => { if (changed === key || changed === null || key in USUAL) show(); });
  show();
}
