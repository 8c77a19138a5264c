"use strict";

// Images: the truth, two methods, and the difference between them. The low bits of a code image say hit 1, false
// positive 2, missed 4, the high four the type of the nucleus; the truth image holds the id (red + 256 green) and the
// type (blue) of each pixel's nucleus.
const COLOURS = { 1: [0, 245, 212], 2: [255, 221, 0], 4: [255, 40, 0], 8: [255, 255, 255] };
const DIFFERENCE = { a: [0, 245, 212], b: [255, 221, 0], both: [200, 200, 200], none: [255, 40, 0] };
// of types, by Okabe and Ito; untyped is white
const TYPES = [
  [255, 255, 255], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167],
];
const VIEW = "#view?";

function loaded(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("an embedded image does not decode"));
    image.src = url;
  });
}
async function pixels(url) {
  const image = await loaded(url), canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
const typeColour = (type) => (type ? TYPES[1 + ((type - 1) % (TYPES.length - 1))] : TYPES[0]);

function paintTruth(shown, truth, colourOf, fill) {
  const { width, height, data } = truth;
  const id = (p) => data[4 * p] + 256 * data[4 * p + 1];
  for (let p = 0; p < width * height; p++) {
    const own = id(p), x = p % width;
    if (!own) continue;
    const sideways = (x > 0 && id(p - 1) !== own) || (x < width - 1 && id(p + 1) !== own);
    const edge = sideways || (p >= width && id(p - width) !== own) || (p < width * (height - 1) && id(p + width) !== own);
    const colour = edge || fill ? colourOf(own, data[4 * p + 2]) : null;
    if (!colour) continue;
    for (let k = 0; k < 3; k++) shown.data[4 * p + k] = edge ? colour[k] : 0.65 * shown.data[4 * p + k] + 0.35 * colour[k];
  }
}
function paintCodes(shown, codes, layers, typed) {
  for (let i = 0; i < codes.data.length; i += 4) {
    const bit = codes.data[i] & 7 & layers;
    if (bit) shown.data.set(typed ? typeColour(codes.data[i] >> 4) : COLOURS[bit], i);
  }
}

function startGallery(root, { panels, classes }) {
  const pick = (name) => root.querySelector(`[data-${name}]`);
  const state = { index: 0, zoom: 1, centre: [0.5, 0.5], jump: "", turn: 0 };
  const selects = { image: pick("image"), a: pick("a"), b: pick("b"), colour: pick("colour") };
  panels.forEach((panel, i) => selects.image.append(new Option(panel.title, i)));
  const layers = () => [...root.querySelectorAll("input[data-layer]:checked")].reduce((sum, box) => sum | Number(box.value), 0);
  const missedBy = (panel, name) => (panel.methods[name] ? panel.nuclei - panel.methods[name].matched.length : 0);
  const apart = (panel) => { // true nuclei that one of the two finds alone
    const [a, b] = [selects.a.value, selects.b.value].map((name) => new Set(panel.methods[name]?.matched || []));
    return [[...a].filter((id) => !b.has(id)), [...b].filter((id) => !a.has(id))];
  };
  const JUMPS = {
    disagreement: (panel) => (panel.methods[selects.a.value] && panel.methods[selects.b.value] ? apart(panel).flat().length : -1),
    small: (panel) => (panel.diameter === null ? -Infinity : -panel.diameter),
    missed: (panel) => missedBy(panel, selects.a.value) + missedBy(panel, selects.b.value),
  };

  function views(panel) {
    const names = [...new Set([selects.a.value, selects.b.value])].filter((name) => panel.methods[name]);
    const out = [{ title: "truth", truth: true }, ...names.map((name) => ({ title: name, name }))];
    if (names.length === 2) out.push({ title: "difference", difference: names });
    return out;
  }
  async function painted(view, panel, base, truth) {
    const shown = new ImageData(new Uint8ClampedArray(base.data), base.width, base.height);
    const bits = layers(), typed = selects.colour.value === "type";
    if (view.truth || (view.name && bits & 8)) {
      paintTruth(shown, truth, (_, type) => (typed ? typeColour(type) : COLOURS[8]), false);
    }
    if (view.name) paintCodes(shown, await pixels(panel.methods[view.name].code), bits, typed);
    if (view.difference) {
      const [a, b] = view.difference.map((name) => new Set(panel.methods[name].matched));
      paintTruth(shown, truth, (id) => DIFFERENCE[a.has(id) ? (b.has(id) ? "both" : "a") : b.has(id) ? "b" : "none"], true);
    }
    return shown;
  }
  function words(view, panel) {
    if (view.truth) return `truth: ${panel.nuclei} nuclei`;
    if (view.name) {
      const { score, matched, extra } = panel.methods[view.name];
      return `${view.name}: ${score}, ${matched.length} of ${panel.nuclei} found, ${extra} false positives`;
    }
    const [a, b] = apart(panel), [left, right] = view.difference;
    return `difference: ${a.length} found by ${left} alone, ${b.length} by ${right} alone`;
  }
  function keys() { // of the colours in use
    const entries = selects.colour.value === "type"
      ? classes.map((name, k) => [name, typeColour(k + 1)]).concat([["untyped", TYPES[0]]])
      : [["hit", COLOURS[1]], ["false positive", COLOURS[2]], ["missed", COLOURS[4]], ["truth", COLOURS[8]]];
    const texts = { a: "found by the first alone", b: "by the second alone", both: "by both", none: "by neither" };
    const pair = Object.entries(texts).map(([key, text]) => [text, DIFFERENCE[key]]);
    const patch = (colour) => element("span", { class: "key", style: `background:rgb(${colour})` });
    const list = (title, items) => {
      return element("p", {}, `${title} `, ...items.map(([name, colour]) => element("span", {}, patch(colour), name)));
    };
    const compared = views(panels[state.index]).some((view) => view.difference);
    pick("keys").replaceChildren(list("outlines:", entries), ...(compared ? [list("difference:", pair)] : []));
  }
  async function draw() {
    const turn = ++state.turn, panel = panels[state.index];
    selects.image.value = state.index;
    pick("caption").textContent = `${state.index + 1} of ${panels.length}: ${panel.title}${state.jump}`;
    const [base, truth] = await Promise.all([pixels(panel.image), pixels(panel.truth)]);
    const shown = views(panel);
    const pictures = await Promise.all(shown.map((view) => painted(view, panel, base, truth)));
    if (turn !== state.turn) return; // a later choice overtook this one
    const place = pick("views");
    // new canvases replace the old ones: the focus stays where it was, or the next key would be lost
    const focused = [...place.querySelectorAll("canvas")].indexOf(document.activeElement);
    place.replaceChildren(...shown.map((view, k) => drawn(pictures[k], words(view, panel), panel)));
    const canvases = place.querySelectorAll("canvas");
    if (focused >= 0) canvases[Math.min(focused, canvases.length - 1)].focus({ preventScroll: true });
    keys();
    pick("link").href = VIEW + address();
    root.dataset.shown = state.index;
  }
  function drawn(picture, text, panel) {
    const canvas = element("canvas", { tabindex: "0", role: "img", "aria-label": `${panel.title}, ${text}` });
    const size = [picture.width, picture.height];
    const side = size.map((length) => Math.max(1, Math.round(length / state.zoom)));
    const from = [0, 1].map((k) => Math.round(Math.min(Math.max(state.centre[k] * size[k] - side[k] / 2, 0), size[k] - side[k])));
    [canvas.width, canvas.height] = side;
    canvas.getContext("2d").putImageData(picture, -from[0], -from[1]);
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      state.centre = [0, 1].map((k) => (from[k] + at[k] * side[k]) / size[k]);
      setZoom(state.zoom >= 8 ? 1 : state.zoom * 2);
    });
    return element("figure", {}, canvas, element("figcaption", {}, text));
  }
  function setZoom(value) {
    state.zoom = Math.min(8, Math.max(1, value));
    pick("zoom").value = state.zoom;
    draw();
  }
  function show(index, jump = "") {
    Object.assign(state, { index: (index + panels.length) % panels.length, centre: [0.5, 0.5], jump });
    draw();
  }
  function jump(name, title) { // to the first by this measure, or from there on to the next
    const order = sorted(panels.map((_, i) => i), (i) => ({ key: JUMPS[name](panels[i]), text: "", empty: false }), true);
    const at = state.jump && state.jumped === name ? (order.indexOf(state.index) + 1) % order.length : 0;
    state.jumped = name;
    show(order[at], `; ${title}: ${at + 1} of ${order.length}`);
  }
  function address() {
    const { zoom, centre: [x, y] } = state;
    const shown = { of: root.id, image: panels[state.index].name, layers: layers(), zoom, x: x.toFixed(4), y: y.toFixed(4) };
    for (const key of ["a", "b", "colour"]) shown[key] = selects[key].value;
    return String(new URLSearchParams(shown));
  }
  function reopen(parts) { // what a link to a view says, as far as this page has it
    const index = panels.findIndex((panel) => panel.name === parts.get("image"));
    if (index >= 0) state.index = index;
    for (const key of ["a", "b", "colour"]) {
      const options = [...selects[key].options].map((option) => option.value);
      if (options.includes(parts.get(key))) selects[key].value = parts.get(key);
    }
    const bits = Number(parts.get("layers"));
    for (const box of root.querySelectorAll("input[data-layer]")) box.checked = Boolean(bits & box.value);
    state.centre = ["x", "y"].map((key) => Math.min(1, Math.max(0, Number(parts.get(key)) || 0)));
    state.jump = "";
    root.scrollIntoView();
    setZoom(Number(parts.get("zoom")) || 1);
  }
  pick("previous").addEventListener("click", () => show(state.index - 1));
  pick("next").addEventListener("click", () => show(state.index + 1));
  for (const button of root.querySelectorAll("[data-jump]")) {
    button.addEventListener("click", () => jump(button.dataset.jump, button.textContent));
  }
  selects.image.addEventListener("change", () => show(Number(selects.image.value)));
  pick("zoom").addEventListener("input", () => setZoom(Number(pick("zoom").value)));
  root.addEventListener("change", (event) => {
    if (event.target.type === "checkbox" || [selects.a, selects.b, selects.colour].includes(event.target)) draw();
  });
  root.addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move && event.shiftKey) {
      event.preventDefault();
      const margin = 0.5 / state.zoom; // the centre stays where a whole view fits around it
      state.centre = state.centre.map((c, k) => Math.min(1 - margin, Math.max(margin, c + (0.25 * move[k]) / state.zoom)));
      draw();
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      show(state.index + move[0]);
    } else if (event.key === "+" || event.key === "-") {
      setZoom(event.key === "+" ? state.zoom * 2 : state.zoom / 2);
    }
  });
  draw();
  return reopen;
}
const galleries = new Map();
for (const [id, content] of Object.entries(JSON.parse(document.getElementById("gallery-data").textContent))) {
  galleries.set(id, startGallery(document.getElementById(id), content));
}
function openView() {
  if (!location.hash.startsWith(VIEW)) return;
  const parts = new URLSearchParams(location.hash.slice(VIEW.length));
  galleries.get(parts.get("of"))?.(parts);
}
window.addEventListener("hashchange", openView);
openView();
