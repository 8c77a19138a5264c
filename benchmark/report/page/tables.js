"use strict";

// Tables: a click on a header sorts by the first number of each cell (else by text); the box filters rows. Only one page
// of rows is in the document: a table with more has all of them in the page's data.
document.documentElement.classList.add("js");
const DATA = JSON.parse(document.getElementById("page-data").textContent);
const PRINTED = 500; // rows of a table that are put into the document for paper

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function sortKey(text) {
  const number = text.replace(/−/g, "-").match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return number ? parseFloat(number[0]) : null;
}
// Order of `items` by `of`, which gives { text, key }: what is missing comes last, equal ones keep their order.
function sorted(items, of, descending) {
  const rows = items.map((item, i) => ({ item, i, ...of(item) }));
  rows.sort((a, b) => {
    if (a.empty !== b.empty) return a.empty ? 1 : -1;
    const order = a.empty ? 0 : a.key === null ? a.text.localeCompare(b.text) : a.key - b.key;
    return (descending ? -order : order) || a.i - b.i;
  });
  return rows.map((row) => row.item);
}
function markSorted(headers, chosen, descending) {
  for (const header of headers) header.removeAttribute("aria-sort");
  if (chosen) chosen.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

// Buttons below a table, absent where all rows fit: show(page) is called with the page wanted.
function pager(place, count, page, show) {
  const pages = Math.ceil(count / DATA.window);
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.step : null;
  place.replaceChildren();
  if (pages < 2) return;
  const button = (text, by) => {
    const step = element("button", { type: "button", "data-step": by }, text);
    step.disabled = page + by < 0 || page + by >= pages;
    step.addEventListener("click", () => show(page + by));
    return step;
  };
  const last = Math.min(count, (page + 1) * DATA.window);
  const where = element("span", { "aria-live": "polite" }, `rows ${page * DATA.window + 1}–${last} of ${count}`);
  place.append(button("previous rows", -1), where, button("next rows", 1));
  if (focused) (place.querySelector(`[data-step="${focused}"]:enabled`) || place.querySelector("button:enabled")).focus();
}

// What lies to the right of a wide table: a shadow, and a line of text.
function watchWidth(region) {
  const hint = element("p", { class: "more", hidden: "" }, "More columns to the right: scroll sideways →");
  region.before(hint);
  const look = () => {
    const left = region.scrollWidth - region.clientWidth - region.scrollLeft;
    region.classList.toggle("more-right", left > 2);
    region.classList.toggle("more-left", region.scrollLeft > 2);
    hint.hidden = region.scrollWidth - region.clientWidth <= 2;
  };
  region.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(region);
  new ResizeObserver(look).observe(region.firstElementChild);
  look();
}

const tables = new Map(); // table -> { filter(text), print(whether) }
function startTable(table) {
  const body = table.tBodies[0], head = table.tHead.rows[0], stored = DATA.tables[table.dataset.key];
  const left = [...head.cells].filter((cell) => cell.classList.contains("left")).length;
  const place = element("p", { class: "pager live" });
  table.parentElement.after(place);
  let rows = null, shown = null, page = 0;
  function read() { // the first time that rows move
    if (rows) return;
    const kinds = ["", "best", "second"];
    rows = stored
      ? stored.rows.map((texts, i) => ({ texts, kinds: texts.map((_, j) => kinds[(stored.marks[i] || {})[j] || 0]) }))
      : [...body.rows].map((row) => ({ texts: [...row.cells].map((c) => c.textContent), node: row }));
    shown = rows;
  }
  function node(row) {
    if (row.node) return row.node;
    row.node = element("tr");
    row.texts.forEach((text, j) => {
      const kind = [j < left ? "left" : "", row.kinds[j]].filter(Boolean).join(" ");
      row.node.append(element("td", kind ? { class: kind } : {}, text));
    });
    return row.node;
  }
  function draw(to = 0, every = false) {
    page = to;
    const part = every ? shown.slice(0, PRINTED) : shown.slice(page * DATA.window, (page + 1) * DATA.window);
    body.replaceChildren(...part.map(node));
    pager(place, every ? 0 : shown.length, page, draw);
  }
  let order = (items) => items, wanted = "";
  function choose() {
    read();
    shown = order(rows.filter((row) => row.texts.join(" ").toLowerCase().includes(wanted)));
    draw();
  }
  [...head.cells].forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") !== "descending", textual = column < left;
      markSorted(head.cells, header, descending);
      const of = (row) => {
        const text = row.texts[column].trim(), key = textual ? null : sortKey(text);
        return { text, key, empty: text === "–" || text === "" || (!textual && key === null) };
      };
      order = (items) => sorted(items, of, descending);
      choose();
    });
  });
  if (stored) pager(place, stored.rows.length, 0, (to) => { read(); draw(to); });
  tables.set(table, {
    filter: (text) => { wanted = text; choose(); },
    print: (whole) => { if (stored) { read(); draw(0, whole); } },
  });
}
for (const table of document.querySelectorAll("table.sortable[data-key]")) startTable(table);
for (const box of document.querySelectorAll("input.filter[data-of]")) {
  box.addEventListener("input", () => {
    const text = box.value.trim().toLowerCase();
    for (const table of document.getElementById(box.dataset.of).querySelectorAll("table")) tables.get(table)?.filter(text);
  });
}
for (const region of document.querySelectorAll(".wide")) if (region.querySelector("table")) watchWidth(region);
window.addEventListener("beforeprint", () => { for (const table of tables.values()) table.print(true); });
window.addEventListener("afterprint", () => { for (const table of tables.values()) table.print(false); });

// Cards of runs: a folded one each, a page of them at a time.
function startCards(root, cards) {
  const list = element("div"), place = element("p", { class: "pager" });
  root.append(list, place);
  function draw(page = 0) {
    const part = cards.slice(page * DATA.window, (page + 1) * DATA.window);
    list.replaceChildren(...part.map((card) => {
      return element("details", { class: "card" }, element("summary", {}, card.title), element("pre", {}, card.text));
    }));
    pager(place, cards.length, page, draw);
  }
  draw();
}
for (const root of document.querySelectorAll("[data-cards]")) startCards(root, DATA.cards[root.dataset.cards]);
