// What can be done with the page beyond reading it: sort, filter, hide and point out series, read values off the
// curves, copy, save. The page says everything without any of it. What is chosen is kept in the link.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const root = document.documentElement;
const collator = new Intl.Collator("en", { numeric: true });

// ---- Tables: sorting and filtering

// Numbers compare by their data-value; what has none goes last in either direction.
function compareCells(a, b, direction) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  const empty = (cell, other) => cell.textContent.trim() === "–" || (cell.dataset.value === undefined && other !== undefined);
  const [emptyA, emptyB] = [empty(a, y), empty(b, x)];
  if (emptyA || emptyB) return emptyA - emptyB;
  return direction * (x !== undefined ? x - y : collator.compare(a.textContent, b.textContent));
}

const tables = new Map(); // by id: what is set, and how to set it
for (const table of all("table.sortable, table.filtered")) {
  const body = table.tBodies[0];
  const asMade = [...body.rows];
  const headers = table.tHead ? [...table.tHead.rows].at(-1).cells : [];
  const control = { sorted: null, filter: "" };
  tables.set(table.id || `table ${tables.size}`, control);

  control.sort = (column, direction) => {
    const header = headers[column];
    for (const other of headers) other.removeAttribute("aria-sort");
    control.sorted = header?.sortable ? { column, direction } : null;
    if (control.sorted) header.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const by = (a, b) => compareCells(a.cells[column], b.cells[column], sign);
    body.append(...(control.sorted ? asMade.toSorted(by) : asMade));
  };
  if (table.classList.contains("sortable")) {
    [...headers].forEach((header, column) => {
      const button = make("button", { type: "button" }, ...header.childNodes);
      button.addEventListener("click", () => {
        control.sort(column, header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
        keep();
      });
      header.append(button);
      header.sortable = true;
    });
  }

  control.show = (text) => {
    control.filter = text;
    if (!control.input) return;
    if (control.input.value !== text) control.input.value = text;
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of asMade) {
      const said = row.textContent.toLowerCase();
      row.classList.toggle("filtered-out", !words.every((word) => said.includes(word)));
    }
    const shown = asMade.filter((row) => !row.classList.contains("filtered-out")).length;
    control.count.textContent = words.length ? `${shown} of ${asMade.length} rows` : "";
  };
  if (table.classList.contains("filtered")) {
    control.input = make("input", { type: "search", autocomplete: "off", spellcheck: false });
    control.count = make("span", { className: "count", role: "status" });
    control.count.setAttribute("aria-live", "polite");
    control.input.addEventListener("input", () => {
      control.show(control.input.value);
      keep();
    });
    const label = make("label", {}, "Filter rows ", control.input);
    table.parentElement.before(make("div", { className: "filter" }, label, control.count));
  }
}

// ---- Series: hidden, and pointed out

// The list stands in the page once; each section that draws the variants gets it before its first figure.
const made = document.querySelector("ul.series");
const keys = made ? all("[data-series]", made).map((button) => button.dataset.series) : [];
const lists = all("#finals, #curves").flatMap((section) => {
  const figure = section.querySelector(".pair, .views, figure");
  if (!made || !figure) return [];
  const list = made.cloneNode(true);
  figure.before(list);
  return [list];
});
const hidden = new Set();

// The groups of a figure are named figure-key-part; what belongs to a series is marked, the pretext figures' as well.
for (const figure of all("svg.figure")) {
  for (const group of all("g[id]", figure)) {
    const key = /-([vp]\d+)-[a-z]+\d*$/.exec(group.id)?.[1];
    if (key) group.dataset.series = key;
  }
}
// In a table it is the header that says which series a column is of.
for (const header of all("th[data-series]")) {
  for (const row of header.closest("table").tBodies[0].rows) row.cells[header.cellIndex].dataset.series = header.dataset.series;
}

function showSeries() {
  for (const button of all("ul.series button[data-series]")) {
    button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.series)));
  }
  for (const part of all("g[data-series], th[data-series], td[data-series]")) {
    part.classList.toggle("off", hidden.has(part.dataset.series));
  }
}

function hide(series) {
  hidden.clear();
  for (const key of series) if (keys.includes(key)) hidden.add(key);
  showSeries();
}

function toggle(key, alone) {
  if (alone) hide(keys.filter((other) => other !== key));
  else hide(hidden.has(key) ? [...hidden].filter((other) => other !== key) : [...hidden, key]);
  keep();
}

function showAll() {
  hide([]);
  keep();
}

let pointedOut = null;
function pointOut(key) {
  if (key === pointedOut) return;
  pointedOut = key;
  root.classList.toggle("pointing", key !== null);
  for (const part of all("[data-series]")) part.classList.toggle("pointed", part.dataset.series === key);
}

for (const list of lists) {
  for (const button of all("button[data-series]", list)) {
    button.addEventListener("click", (event) => toggle(button.dataset.series, event.shiftKey));
    button.addEventListener("dblclick", () => toggle(button.dataset.series, true));
  }
  list.querySelector("button.all").addEventListener("click", showAll);
  list.hidden = false;
}
const own = (target) => keys.find((key) => key === target.closest?.("button[data-series], tr[data-series], g[data-series]")?.dataset.series) ?? null;
for (const event of ["pointerover", "focusin"]) document.addEventListener(event, ({ target }) => pointOut(own(target)));
document.addEventListener("focusout", () => pointOut(null));

// ---- Reading values off the curves, by pointer or arrow keys; the numbers are those of the table under the figure

const SVG = "http://www.w3.org/2000/svg";
const vertices = (path) => [...path.getAttribute("d").matchAll(/[ML]\s*([-\d.e]+)[\s,]+([-\d.e]+)/g)].map(([, x, y]) => [+x, +y]);

function frameOf(axes) {
  const corners = vertices(axes.querySelector('[id*="-patch_"] path'));
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

function readable(region) {
  const svg = region.querySelector("svg.figure");
  const name = svg?.getAttribute("aria-labelledby")?.replace(/-title$/, "");
  const table = document.querySelector(`table[data-figure~="${name}"]`);
  const columns = table ? all("thead th[data-series]", table) : [];
  const series = columns.flatMap((header) => {
    const path = svg.querySelector(`[id="${name}-${header.dataset.series}-mean"] path`);
    if (!path) return [];
    const axes = path.closest('[id*="-axes_"]');
    return [{ key: header.dataset.series, label: header.textContent, cell: header.cellIndex, points: vertices(path), axes, frame: frameOf(axes) }];
  });
  if (!series.length) return;

  const rows = [...table.tBodies[0].rows];
  const first = make("b");
  const values = make("span");
  const reading = make("p", { className: "reading" }, first, values);
  reading.setAttribute("aria-live", "polite");
  region.after(reading);
  const invite = () => {
    first.textContent = "";
    values.textContent = "Values at an epoch: point at a curve, or focus the figure and use the arrow keys.";
  };
  invite();

  const last = Math.max(...series.map(({ points }) => points.length)) - 1;
  const marks = document.createElementNS(SVG, "g");
  marks.setAttribute("class", "marks");
  svg.append(marks);
  const mark = (shape, attributes) => {
    const element = document.createElementNS(SVG, shape);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    marks.append(element);
  };

  let epoch = null;
  function read(at) {
    epoch = at;
    marks.replaceChildren();
    if (at === null) return invite();
    const lines = new Map();
    const words = [];
    for (const { key, label, cell, points, axes, frame } of series) {
      if (hidden.has(key) || !points[at]) continue;
      const [x, y] = points[at];
      if (!lines.has(axes)) mark("line", { x1: x, x2: x, y1: frame.top, y2: frame.bottom });
      lines.set(axes, x);
      mark("circle", { cx: x, cy: y, r: 3.2 });
      words.push(make("span", {}, `${label} `, make("strong", {}, rows[at].cells[cell].textContent.trim())));
    }
    first.textContent = `epoch ${rows[at].cells[0].textContent.trim()} `;
    values.replaceChildren(...words.flatMap((word, place) => (place ? ["; ", word] : [word])));
  }

  const shown = () => series.filter(({ key }) => !hidden.has(key));
  region.addEventListener("pointermove", (event) => {
    const matrix = svg.getScreenCTM();
    if (!matrix) return;
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    const outside = ({ frame }) => Math.hypot(Math.max(frame.left - x, 0, x - frame.right), Math.max(frame.top - y, 0, y - frame.bottom));
    const panel = shown().sort((a, b) => outside(a) - outside(b))[0];
    if (!panel || outside(panel) > 12) return read(null);
    const there = shown().filter(({ axes }) => axes === panel.axes);
    const [, at] = there
      .flatMap(({ points }) => points.map(([px], place) => [Math.abs(px - x), place]))
      .reduce((best, some) => (some[0] < best[0] ? some : best));
    if (at !== epoch) read(at);
    const [near, distance] = there
      .filter(({ points }) => points[at])
      .map(({ key, points }) => [key, Math.hypot(points[at][1] - y)])
      .reduce((best, some) => (some[1] < best[1] ? some : best), [null, 9]);
    pointOut(keys.includes(near) && distance < 9 ? near : own(event.target));
  });
  region.addEventListener("pointerleave", () => {
    pointOut(null);
    if (document.activeElement !== region) read(null);
  });
  region.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: (epoch ?? last + 1) - 1, ArrowRight: (epoch ?? -1) + 1, Home: 0, End: last }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") read(null);
    if (step === undefined) return;
    event.preventDefault();
    read(Math.min(Math.max(step, 0), last));
  });
  region.addEventListener("blur", () => read(null));
}
all(".drawing").forEach(readable);

// ---- The theme, and the kind of curves

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
function showTheme(chosen) {
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
  theme.setAttribute("aria-pressed", String(isDark()));
}
function switchTheme() {
  showTheme(isDark() ? "light" : "dark");
  keep();
}
theme.addEventListener("click", switchTheme);
dark.addEventListener("change", () => showTheme(root.dataset.theme));
theme.hidden = false;
showTheme();

const views = all('input[type="radio"][name="view"]');
const viewAtFirst = views.find((view) => view.defaultChecked);
for (const view of views) view.addEventListener("change", keep);

// ---- The link: #section?theme=dark&sort=table.column.direction&filter=table.text&hide=v1,v3&view=curves-seconds

const sections = all("main > section[id]");
function currentSection() {
  // Several short ones share a window: the one that a key went to counts while its head is in sight.
  const wentTo = sections.find((section) => section === document.activeElement);
  if (wentTo?.getBoundingClientRect().top >= 0 && wentTo.getBoundingClientRect().top < innerHeight) return wentTo;
  if (scrollY && scrollY + innerHeight >= root.scrollHeight - 2) return sections.at(-1);
  return sections.findLast((section) => section.getBoundingClientRect().top < innerHeight / 3) ?? sections[0];
}

let waiting = null;
function keep() {
  // Browsers allow so many changes of the address in a time, and a filter is typed faster than that.
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const link = new URLSearchParams();
    if (root.dataset.theme) link.append("theme", root.dataset.theme);
    for (const [name, { sorted, filter }] of tables) {
      if (sorted) link.append("sort", [name, sorted.column, sorted.direction].join("."));
      if (filter) link.append("filter", `${name}.${filter}`);
    }
    if (hidden.size) link.append("hide", keys.filter((key) => hidden.has(key)).join(","));
    const view = views.find(({ checked }) => checked);
    if (view && view !== viewAtFirst) link.append("view", view.value);
    if (!link.size && !location.hash.includes("?")) return; // a plain link stays as it is
    history.replaceState(null, "", `#${currentSection()?.id ?? ""}${link.size ? `?${link}` : ""}`);
  }, 150);
}

// Only names that the page has change anything: a link comes from anywhere.
function restore() {
  const [id, said] = location.hash.slice(1).split(/\?(.*)/s);
  if (said !== undefined) {
    const link = new URLSearchParams(said);
    const chosen = link.get("theme");
    showTheme(["light", "dark"].includes(chosen) ? chosen : undefined);
    const sorts = new Map(link.getAll("sort").map((text) => text.split(".")).map(([name, ...how]) => [name, how]));
    const filters = new Map(link.getAll("filter").map((text) => text.split(/\.(.*)/s)));
    for (const [name, control] of tables) {
      const [column, direction] = sorts.get(name) ?? [];
      const known = /^\d+$/.test(column) && ["ascending", "descending"].includes(direction);
      control.sort(known ? Number(column) : -1, direction);
      control.show(filters.get(name) ?? "");
    }
    hide((link.get("hide") ?? "").split(","));
    const view = views.find(({ value }) => value === link.get("view")) ?? viewAtFirst;
    if (view) view.checked = true;
    sections.find((section) => section.id === id)?.scrollIntoView();
  } else keep();
}

function go(step) {
  const place = sections.indexOf(currentSection());
  const section = sections[Math.min(Math.max(place + step, 0), sections.length - 1)];
  section?.scrollIntoView();
  section?.setAttribute("tabindex", "-1");
  section?.focus({ preventScroll: true });
  keep();
}

// ---- Keys

const help = document.getElementById("keys");
const helpButton = document.getElementById("keys-button");
const useKeys = document.getElementById("use-keys");
helpButton.addEventListener("click", () => help.showModal());
helpButton.hidden = false;

function focusFilter() {
  const near = currentSection()?.querySelector(".filter input") ?? document.querySelector(".filter input");
  near?.focus();
  near?.select();
}
const deeds = {
  "?": () => help.showModal(),
  "/": focusFilter,
  t: switchTheme,
  n: () => go(1),
  p: () => go(-1),
  a: showAll,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open || !useKeys.checked) return;
  if (event.target.matches?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const digit = /^[1-9]$/.test(event.key) ? keys[event.key - 1] : undefined;
  const deed = Object.hasOwn(deeds, event.key) ? deeds[event.key] : digit && (() => toggle(digit, false));
  if (!deed) return;
  event.preventDefault();
  deed();
});

// ---- Copies and downloads

async function copy(pre) {
  try {
    await navigator.clipboard.writeText(pre.textContent);
    return true;
  } catch {
    // No clipboard outside of secure pages: the text is selected and copied as by hand.
    getSelection().selectAllChildren(pre);
    return document.execCommand("copy");
  }
}
for (const pre of all("pre[data-copy]")) {
  const said = make("span", { className: "count", role: "status" });
  const button = make("button", { type: "button", className: "copy" }, "Copy");
  button.setAttribute("aria-label", `Copy as ${pre.getAttribute("aria-label") ?? pre.dataset.copy}`);
  button.addEventListener("click", async () => {
    said.textContent = (await copy(pre)) ? "copied" : "selected: copy it with Ctrl+C";
    setTimeout(() => (said.textContent = ""), 4000);
  });
  pre.before(make("p", { className: "copying" }, button, " ", said));
}

addEventListener("hashchange", restore);
restore();
