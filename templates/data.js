// The page carries its results once: a history by column, and what is seen on the page where it is seen.
const results = JSON.parse(document.getElementById("results").textContent);
const png = (image) => image.getAttribute("src").split(",")[1];
// What all lines of a log share is told once, with # for each of the numbers in the rows below it.
function wholeLog(text) {
  const [shared, ...rows] = text.split("\n");
  const lines = rows.map((row) => {
    const numbers = row.split(" ");
    return shared.replace(/#/g, () => numbers.shift());
  });
  return lines.map((line) => `${line}\n`).join("");
}
// What many runs have in common stands in a list of its own, and a run has its place there.
const shared = results.shared ?? [];
delete results.shared;
const putBack = (holder, key) => {
  if (typeof holder?.[key] === "number") holder[key] = shared[holder[key]];
};
// A column of a history that repeats itself is told shorter: how far it counts, or how often each value stands.
function wholeColumn(column) {
  if (typeof column === "number") return Array.from({ length: column }, (_, at) => at + 1);
  return Array.isArray(column) ? column : column.of.flatMap((value, at) => Array(column.times[at]).fill(value));
}
results.runs.forEach((run, place) => {
  for (const key of ["variant", "settings", "versions"]) putBack(run, key);
  for (const key of ["data", "cost"]) putBack(run.provenance, key);
  if (!Array.isArray(run.history)) {
    const columns = Object.entries(run.history).map(([key, column]) => [key, wholeColumn(column)]);
    run.history = (columns[0]?.[1] ?? []).map((_, at) => Object.fromEntries(columns.map(([key, values]) => [key, values[at]])));
  }
  const log = document.querySelector(`pre[data-log="${place}"]`);
  run.log = log && "slim" in log.dataset ? wholeLog(log.textContent) : (log?.textContent ?? "");
  const pictures = all(`img[data-run="${place}"]`);
  if (pictures.length) run.pictures = pictures.map((image) => ({ png: png(image), caption: image.dataset.caption }));
});
results.error_images?.forEach((error, place) => {
  const image = document.querySelector(`img[data-error="${place}"]`);
  if (image) error.png = png(image);
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
// As Python writes a float, so that this file is the one that rotbench writes from this page.
function float(value) {
  if (typeof value !== "number") return value;
  const [digits, exponent] = value.toExponential().split("e");
  if (value && (exponent < -4 || exponent >= 16)) return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  return Number.isInteger(value) ? `${value}.0` : String(value);
}
const counted = ["id", "kind", "seed", "repeat", "epoch"];
const columns = document.getElementById("csv-link").dataset.columns.split(",");
const rows = results.runs.flatMap((run) => run.history.map((entry) => ({ repeat: 0, ...run, ...entry })));
const field = (row, column) => quoted(counted.includes(column) ? row[column] : float(row[column]));
offer("csv-link", "text/csv", [columns.join(","), ...rows.map((row) => columns.map((column) => field(row, column)).join(",")), ""].join("\n"));
offer("json-link", "application/json", JSON.stringify(results));
