"use strict";
// The numbers of a figure as a file of CSV, which says of what run, part, step and stage they are.

const part = () => (report.part && view().name ? [[report.part, view().name]] : []);

// Names and values of the columns that tell where a figure stands.
function whereOf(isStaged, isOfView) {
  return [["run", run().name], ...(isOfView ? part() : []), [report.step, step()], ...(isStaged ? [["stage", state.stage]] : [])];
}

function fileName(name, parts) {
  const plain = (text) => String(text).normalize("NFKD").replace(/[^\w.=-]+/g, "_").replace(/^[_.]+|[_.]+$/g, "").slice(0, 60);
  return `${[...parts, name].map(plain).filter((text) => text).join("-")}.csv`;
}

function saveCsv(name, rows) {
  // A text that starts like a formula is one to a spreadsheet.
  const safe = (value) => (typeof value === "string" && /^[=+@\t\r-]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value);
  const cell = (value) => `"${String(safe(value) ?? "").replaceAll('"', '""')}"`;
  const text = rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  const link = html("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Curves, of all runs where several are compared: every row says of which run, stage and set of points it is.
function curveTable(lines, by, where) {
  const named = where.filter(([name]) => name !== "run");
  const head = ["run", ...named.map(([name]) => name), "stage", "points", by, "mean", "lowest", "highest", "seeds", "below_floor"];
  const fixed = named.map(([, value]) => value);
  const row = (l, i) => [l.run, ...fixed, l.stage, l.points, l.x[i], l.mean[i], l.low[i], l.high[i], l.seeds[i], l.below[i]];
  return [head, ...lines.flatMap((line) => line.x.map((_, i) => row(line, i)))];
}

function savedCurves(panel) {
  const where = panel.head ? [] : part();
  const stage = isComparison && linesOf(panel).some((line) => line.stage) ? [state.stage] : [];
  const names = [isComparison ? "comparison" : run().name, ...where.map(([, value]) => value), ...stage];
  return [fileName(panel.metric, names), curveTable(linesOf(panel), report.step, where)];
}

function savedFigure(figure) {
  const where = whereOf(figure.is_staged, figure.is_of_part), data = dataOf(figure);
  const names = where.map(([name, value]) => (name === report.step ? `${name}_${value}` : value));
  return [fileName(figure.name, names), data ? placed(figure, data, where) : [where.map(([name]) => name)]];
}

function placed(figure, data, where) {
  if (figure.kind === "lines") return curveTable(data.lines.map((line) => styled(line, {}, "")), "layer", where);
  const [head, ...rows] = figureTable(figure, data);
  return [[...where.map(([name]) => name), ...head], ...rows.map((row) => [...where.map(([, value]) => value), ...row])];
}

function figureTable(figure, data) {
  if (figure.kind === "simplex") return simplexTable(data);
  if (figure.kind === "spectrum") return [["index", "eigenvalue over largest"], ...data.values.map((v, i) => [indexOf(data, i), v])];
  if (figure.kind === "heat") return heatTable(data);
  const rows = figure.kind === "vectors" ? vectorRows(data) : imageRows(data);
  return [["picture", ...rows[0].slice(1).map((_, i) => i + 1)], ...rows];
}

// Class means, and the points that are drawn around them.
function simplexTable(data) {
  const means = data.means.map((mean, i) => ["mean", className((data.classes || [])[i] ?? i), ...mean]);
  const points = (data.points || []).map((point, i) => ["point", className(data.owners[i]), ...point]);
  return [["what", "class", "x", "y", "z"], ...means, ...points];
}

// Rows are of classes where these are marked, of that which has most of a row.
function heatTable(heat) {
  const full = unpacked(heat), size = heat.size, edges = heat.edges;
  const owner = (i) => edges.findLastIndex((edge) => edge <= i + 0.5);
  const named = (i) => (edges ? [i + 1, className(owner(i))] : [i + 1]);
  const numbers = Array.from({ length: size }, (_, i) => i);
  const head = ["row", ...(edges ? ["class"] : []), ...numbers.map((i) => i + 1)];
  return [head, ...numbers.map((i) => [...named(i), ...values(full.slice(i * size, (i + 1) * size))])];
}

function vectorRows(data) {
  const diagonal = data.diagonal ? [["diagonal of M", ...values(bytes(data.diagonal))]] : [];
  return [...data.vectors.map((vector, i) => [data.labels[i], ...values(bytes(vector))]), ...diagonal];
}

function imageRows(data) {
  return data.images.map((image, i) => [data.labels[i], ...bytes(image)]);
}

function values(packed) {
  return [...packed].map((byte) => signed(byte).toFixed(3));
}
