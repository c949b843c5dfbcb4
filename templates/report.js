// Sorting, filtering, the theme switch and the links to the data. The page says everything without any of it.
"use strict";

const collator = new Intl.Collator("en", { numeric: true });

// Numbers compare by their data-value; what has none goes last in either direction.
function compareCells(a, b, direction) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  const [emptyA, emptyB] = [a.textContent.trim() === "–", b.textContent.trim() === "–"];
  if (emptyA || emptyB) return emptyA - emptyB;
  return direction * (x !== undefined && y !== undefined ? x - y : collator.compare(a.textContent, b.textContent));
}

function sortBy(table, header, column) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compareCells(a.cells[column], b.cells[column], direction)));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, header, column));
    header.append(button);
  });
}

for (const table of document.querySelectorAll("table.filtered")) {
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = "Filter rows ";
  const input = document.createElement("input");
  input.type = "search";
  label.append(input);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.parentElement.before(label);
}

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  return document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : dark.matches;
}
function showTheme() {
  theme.setAttribute("aria-pressed", String(isDark()));
}
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
dark.addEventListener("change", showTheme);
theme.hidden = false;
showTheme();

// The page carries its results once; the links hold copies, made here, that can be saved from a file:// page too.
const results = JSON.parse(document.getElementById("results").textContent);
results.runs.forEach((run, place) => {
  if (!Array.isArray(run.history)) {
    const columns = Object.entries(run.history);
    run.history = columns[0][1].map((_, row) => Object.fromEntries(columns.map(([key, values]) => [key, values[row]])));
  }
  run.log = document.querySelector(`pre[data-log="${place}"]`)?.textContent ?? "";
});
function offer(id, mediaType, text) {
  const link = document.getElementById(id);
  link.href = `data:${mediaType};charset=utf-8,${encodeURIComponent(text)}`;
  link.hidden = false;
}
function quoted(value) {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
const columns = document.getElementById("csv-link").dataset.columns.split(",");
const rows = results.runs.flatMap((run) => run.history.map((entry) => ({ repeat: 0, ...run, ...entry })));
const lines = rows.map((row) => columns.map((column) => quoted(row[column])).join(","));
offer("csv-link", "text/csv", [columns.join(","), ...lines, ""].join("\n"));
offer("json-link", "application/json", JSON.stringify(results));
