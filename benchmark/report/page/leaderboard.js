"use strict";

// The leaderboard of a group; its facets reach the rows of all groups. One page of rows is in the document.
const FACETS = DATA.facets, ALL = "all";
const GROUP_FACETS = ["dataset", "experiment", "preset"];
const SVG = "http://www.w3.org/2000/svg", BAR = 64; // px wide
const SPAN = 0.01; // the least that a bar's width stands for: equal printed digits make no wide bars

function bar(cell, domain) {
  const picture = document.createElementNS(SVG, "svg");
  const span = Math.max(domain[1] - domain[0], SPAN), start = (domain[0] + domain[1] - span) / 2;
  const at = (value) => (3 + ((value - start) / span) * (BAR - 6)).toFixed(1);
  const size = { viewBox: `0 0 ${BAR} 12`, width: BAR, height: 12 };
  for (const [key, value] of Object.entries({ class: "bar", ...size, role: "img", "aria-label": cell[4] })) {
    picture.setAttribute(key, value);
  }
  const line = document.createElementNS(SVG, "path"), dot = document.createElementNS(SVG, "circle");
  line.setAttribute("d", `M${at(cell[2])} 6H${at(cell[3])}M${at(cell[2])} 3V9M${at(cell[3])} 3V9`);
  for (const [key, value] of Object.entries({ cx: at(cell[1]), cy: 6, r: 2.6 })) dot.setAttribute(key, value);
  const title = document.createElementNS(SVG, "title");
  title.textContent = cell[4];
  picture.append(title, line, dot);
  return picture;
}

function startBoard(root) {
  const own = DATA.boards[root.dataset.board];
  const everyRow = Object.entries(DATA.boards).flatMap(([anchor, board]) => board.rows.map((row) => ({ anchor, ...row })));
  const columns = new Map(own.columns.map((column) => [column.key, { ...column }]));
  for (const board of Object.values(DATA.boards)) {
    for (const column of board.columns) if (!columns.has(column.key)) columns.set(column.key, { ...column, shown: false });
  }
  const chosen = Object.fromEntries(Object.keys(FACETS).map((key) => [key, ALL]));
  for (const key of GROUP_FACETS) chosen[key] = own.rows[0].facets[key];
  let sortBy = "bPQ", descending = true, page = 0, words = "";

  const table = element("table", { class: "sortable board" });
  const caption = element("caption", {}), head = element("thead"), body = element("tbody");
  table.append(caption, head, body);
  const region = element("div", { class: "wide board", tabindex: "0", role: "region", "aria-label": "leaderboard" }, table);
  const tools = element("div", { class: "tools" }), place = element("p", { class: "pager" });

  const matches = (row) => Object.entries(chosen).every(([key, value]) => value === ALL || row.facets[key] === value);
  const visible = () => [...columns.values()].filter((column) => column.shown);
  const text = (row, key) => (row.cells[key] || ["–"])[0];

  function facets() {
    for (const [key, title] of Object.entries(FACETS)) {
      const values = [...new Set((GROUP_FACETS.includes(key) ? everyRow : own.rows).map((row) => row.facets[key]))];
      if (values.length < 2) continue;
      const select = element("select", { "data-facet": key });
      for (const value of [ALL, ...values]) select.append(new Option(value, value, false, value === chosen[key]));
      select.addEventListener("change", () => { chosen[key] = select.value; page = 0; draw(); });
      tools.append(element("label", {}, `${title} `, select));
    }
    const box = element("input", { type: "search", class: "filter" });
    box.addEventListener("input", () => { words = box.value.trim().toLowerCase(); page = 0; draw(); });
    tools.append(element("label", {}, "filter rows ", box));
    const list = element("fieldset", {}, element("legend", {}, "columns of the leaderboard"));
    for (const column of columns.values()) {
      if (column.key === "method") continue;
      const tick = element("input", { type: "checkbox", "data-column": column.key });
      tick.checked = column.shown;
      tick.addEventListener("change", () => { column.shown = tick.checked; draw(); });
      list.append(element("label", {}, tick, ` ${column.title}`));
    }
    tools.append(element("details", { class: "chooser" }, element("summary", {}, "columns"), list));
  }
  function order(rows) {
    const column = columns.get(sortBy);
    const of = (row) => {
      const cell = row.cells[sortBy];
      return { empty: !cell, text: cell ? cell[0] : "", key: column.left || !cell ? null : cell[1] };
    };
    const isPublished = (row) => row.facets.origin === DATA.published; // below what was measured, however many there are
    const measured = rows.filter((row) => !isPublished(row));
    return [...sorted(measured, of, descending), ...sorted(rows.filter(isPublished), of, descending)];
  }
  function header() {
    const line = element("tr");
    for (const column of visible()) {
      const button = element("button", { type: "button" }, column.title);
      const cell = element("th", { scope: "col", "data-key": column.key, ...(column.left ? { class: "left" } : {}) }, button);
      if (column.key === sortBy) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      button.addEventListener("click", () => {
        descending = sortBy === column.key ? !descending : true;
        sortBy = column.key;
        page = 0;
        draw();
        head.querySelector(`[data-key="${column.key}"] button`).focus();
      });
      line.append(cell);
    }
    head.replaceChildren(line);
  }
  function domains(rows) { // one scale for all intervals of a column
    const out = {};
    for (const { key } of visible()) {
      const ends = rows.map((row) => row.cells[key]).filter((cell) => cell && typeof cell[2] === "number");
      if (ends.length) out[key] = [Math.min(...ends.map((cell) => cell[2])), Math.max(...ends.map((cell) => cell[3]))];
    }
    return out;
  }
  function drawn(row, scale) {
    const published = row.facets.origin === DATA.published;
    const line = element("tr", published ? { class: "published" } : {});
    for (const column of visible()) {
      const cell = row.cells[column.key], first = column.key === "method";
      const node = element(first ? "th" : "td", first ? { scope: "row" } : {});
      node.classList.toggle("left", column.left);
      node.append(text(row, column.key));
      if (first && published) node.append(element("span", { class: "tag" }, "published"));
      if (cell && typeof cell[2] === "number") node.append(bar(cell, scale[column.key]));
      else if (cell && cell[4]) node.title = cell[4];
      line.append(node);
    }
    return line;
  }
  function draw(to = page, every = false) {
    page = to;
    const holds = (row) => visible().some(({ key }) => text(row, key).toLowerCase().includes(words));
    const rows = everyRow.filter((row) => matches(row) && (!words || holds(row)));
    const groups = new Map();
    for (const row of rows) groups.set(row.anchor, [...(groups.get(row.anchor) || []), row]);
    const listed = [...groups].flatMap(([anchor, members]) => order(members).map((row) => ({ row, anchor })));
    const part = every ? listed.slice(0, PRINTED) : listed.slice(page * DATA.window, (page + 1) * DATA.window);
    const scale = domains(rows);
    header();
    body.replaceChildren();
    let last = null;
    for (const { row, anchor } of part) {
      if (groups.size > 1 && anchor !== last) {
        const title = element("span", {}, DATA.boards[anchor].title);
        const attributes = { colspan: visible().length, scope: "rowgroup", class: "left group" };
        body.append(element("tr", {}, element("th", attributes, title)));
      }
      last = anchor;
      body.append(drawn(row, scale));
    }
    const [anchor] = groups.keys();
    caption.textContent = groups.size === 1 ? DATA.boards[anchor].title : `${listed.length} rows of ${groups.size} groups`;
    pager(place, every ? 0 : listed.length, page, (next) => draw(next));
  }
  facets();
  root.replaceChildren(tools, region, place);
  draw(0);
  watchWidth(region);
  tables.set(table, { filter: () => {}, print: (whole) => draw(0, whole) });
}
for (const root of document.querySelectorAll("[data-board]")) startBoard(root);
