"use strict";

// Tables: a click on a header sorts by the first number of each cell (else by text); the box filters rows.
function sortKey(text) {
  const number = text.replace(/−/g, "-").match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return number ? parseFloat(number[0]) : null;
}
function sortTable(table, column, header) {
  const descending = header.getAttribute("aria-sort") !== "descending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const textual = header.classList.contains("left");
  const rows = [...body.rows].map((row, i) => {
    const text = row.cells[column].textContent.trim();
    return { row, i, text, key: textual ? null : sortKey(text) };
  });
  rows.sort((a, b) => {
    const empty = (r) => r.text === "–" || r.text === "" || (!textual && r.key === null);
    if (empty(a) !== empty(b)) return empty(a) ? 1 : -1;
    const order = textual || empty(a) ? a.text.localeCompare(b.text) : a.key - b.key;
    return (descending ? -order : order) || a.i - b.i;
  });
  for (const { row } of rows) body.append(row);
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = header.querySelector("button");
    if (button) button.addEventListener("click", () => sortTable(table, column, header));
  });
}
for (const box of document.querySelectorAll("input.filter")) {
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    for (const table of document.getElementById(box.dataset.of).querySelectorAll("table")) {
      for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}

// Images: one canvas per chosen method; the bits of a code image say hit 1, false positive 2, missed 4, truth 8.
const COLOURS = { 1: [0, 245, 212], 2: [255, 221, 0], 4: [255, 40, 0], 8: [255, 255, 255] };
function loaded(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("an embedded image does not decode"));
    image.src = url;
  });
}
function pixels(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
function startGallery(root, panels) {
  const pick = (name) => root.querySelector(`[data-${name}]`);
  let index = 0, zoom = 1, centre = [0.5, 0.5], drawn = 0;
  const select = pick("image");
  panels.forEach((panel, i) => select.append(new Option(panel.title, i)));
  const chosen = (name) => [...root.querySelectorAll(`input[name="${CSS.escape(name)}"]:checked`)].map((box) => box.value);
  async function draw() {
    const turn = ++drawn;
    const panel = panels[index];
    select.value = index;
    pick("caption").textContent = `${index + 1} of ${panels.length}: ${panel.title}`;
    const base = pixels(await loaded(panel.image));
    const layers = chosen("layer-" + root.id).map(Number).reduce((a, b) => a | b, 0);
    const methods = chosen("method-" + root.id).filter((name) => panel.codes[name]);
    const codes = await Promise.all(methods.map(async (name) => pixels(await loaded(panel.codes[name]))));
    if (turn !== drawn) return; // a later choice overtook this one
    const views = pick("views");
    // new canvases replace the old ones: the focus stays where it was, or the next key would be lost
    const focused = [...views.querySelectorAll("canvas")].indexOf(document.activeElement);
    views.replaceChildren();
    (methods.length ? methods : [""]).forEach((name, k) => {
      const canvas = document.createElement("canvas");
      const [w, h] = [base.width, base.height];
      const side = [Math.max(1, Math.round(w / zoom)), Math.max(1, Math.round(h / zoom))];
      const from = [0, 1].map((a) => Math.round(Math.min(Math.max(centre[a] * [w, h][a] - side[a] / 2, 0), [w, h][a] - side[a])));
      const shown = new ImageData(new Uint8ClampedArray(base.data), w, h);
      if (name) {
        for (let i = 0; i < codes[k].data.length; i += 4) {
          for (const bit of [8, 4, 2, 1]) {
            if (codes[k].data[i] & bit & layers) shown.data.set(COLOURS[bit], i);
          }
        }
      }
      canvas.width = side[0];
      canvas.height = side[1];
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${panel.title}${name ? ", " + name : ""}`);
      canvas.getContext("2d").putImageData(shown, -from[0], -from[1]);
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        centre = [0, 1].map((a) => (from[a] + at[a] * side[a]) / [w, h][a]);
        setZoom(zoom >= 8 ? 1 : zoom * 2);
      });
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.textContent = name ? `${name}: ${panel.scores[name]}` : "image";
      figure.append(canvas, caption);
      views.append(figure);
    });
    const canvases = views.querySelectorAll("canvas");
    if (focused >= 0) canvases[Math.min(focused, canvases.length - 1)].focus({ preventScroll: true });
    root.dataset.shown = index;
  }
  function setZoom(value) {
    zoom = Math.min(8, Math.max(1, value));
    pick("zoom").value = zoom;
    draw();
  }
  function step(by) {
    index = (index + by + panels.length) % panels.length;
    centre = [0.5, 0.5];
    draw();
  }
  pick("previous").addEventListener("click", () => step(-1));
  pick("next").addEventListener("click", () => step(1));
  select.addEventListener("change", () => { index = Number(select.value); draw(); });
  pick("zoom").addEventListener("input", () => setZoom(Number(pick("zoom").value)));
  root.addEventListener("change", (event) => { if (event.target.type === "checkbox") draw(); });
  root.addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move && event.shiftKey) {
      event.preventDefault();
      const margin = 0.5 / zoom; // the centre stays where a whole view fits around it
      centre = centre.map((c, a) => Math.min(1 - margin, Math.max(margin, c + (0.25 * move[a]) / zoom)));
      draw();
      return;
    }
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      step(event.key === "ArrowLeft" ? -1 : 1);
    }
    if (event.key === "+" || event.key === "-") setZoom(event.key === "+" ? zoom * 2 : zoom / 2);
  });
  draw();
}
const galleries = JSON.parse(document.getElementById("gallery-data").textContent);
for (const [id, panels] of Object.entries(galleries)) startGallery(document.getElementById(id), panels);
