"use strict";
// The page: one state (run, part, step, stage), set by the controls, drawn by every figure.

const report = JSON.parse(document.getElementById("report").textContent);
const START = { yaw: 0.5, pitch: 0.35 };
const state = { run: 0, view: 0, at: 0, stage: "nonlinear", ...START };
const isComparison = report.runs.length > 1;
const drawn = [];
let timer = null;

const by = (id) => document.getElementById(id);
const run = () => report.runs[state.run];
const view = () => run().views[state.view];
const step = () => run().steps[state.at];

// Figures of the chosen part, or those that all parts of a run share.
function framesOf(figure) {
  return figure.is_of_part ? view() : run().views[0];
}

function dataOf(figure) {
  const { frames: all, fixed } = framesOf(figure);
  const found = fixed[figure.name] ?? (all[step()] || {})[figure.name];
  return found && figure.is_staged ? found[state.stage] : found;
}

function place(isStaged, isOfView) {
  const parts = [`${report.step} ${step()} of ${run().last}`];
  if (isStaged) parts.push(`${state.stage} stage`);
  if (isOfView && view().name) parts.push(view().name);
  return parts.join(", ");
}

// The number of a class, and its name where that is known and says more.
function className(i) {
  const name = run().classes[i];
  return name === undefined || name === String(i) ? String(i) : `${i}: ${name}`;
}

const curvesOf = (each) => each.views.flatMap((part) => Object.values(part.curves).flat());
const hasStages = report.figures.some((figure) => figure.is_staged)
  || (isComparison && report.runs.some((each) => curvesOf(each).some((curve) => curve.stage)));

// The curves of a run that belong to a panel: of a network's head in whatever layer, of others in the chosen one.
function ofPanel(each, panel) {
  const part = panel.head ? each.views[0] : each.views.find((other) => other.name === view().name);
  return part?.curves[panel.metric] ?? [];
}

// Curves of the selected run by stage, or of all runs at the selected stage.
function linesOf(panel) {
  if (!isComparison) return ofPanel(run(), panel).map((curve) => styled(curve, STAGE[curve.stage], ""));
  return report.runs.flatMap((each, i) => {
    const curves = ofPanel(each, panel).filter((c) => !c.stage || c.stage === state.stage);
    const style = { color: CYCLE[i % CYCLE.length], shape: SHAPES[i % SHAPES.length] };
    return curves.map((curve) => styled(curve, style, each.name));
  });
}

function styled(curve, style, name) {
  const parts = [name, curve.stage, curve.points].filter((part) => part);
  return { ...curve, ...style, dash: DASH[curve.points], name: parts.join(", "), run: name || run().name };
}

function go(at) {
  state.at = Math.min(Math.max(at, 0), run().steps.length - 1);
  draw();
}

function goTo(where) {
  const steps = run().steps;
  const gap = (i) => Math.abs(steps[i] - where);
  go(steps.reduce((best, _, i) => (gap(i) < gap(best) ? i : best), 0));
}

// A figure with its title, its caption and a button that saves its numbers; saved() is the file's name and its rows.
function card(parent, title, name, saved) {
  const target = svg("svg", { role: "img", id: name });
  const caption = html("p", { class: "caption" });
  const save = html("button", { type: "button", class: "save", "aria-label": `Save ${title} as CSV` }, "CSV");
  save.addEventListener("click", () => saveCsv(...saved()));
  const head = html("div", { class: "head" }, html("h2", {}, title), save);
  const node = html("figure", {}, head, target, html("figcaption", {}, caption));
  parent.append(node);
  return { node, target, caption };
}

function drawFigure(figure, { target, caption }) {
  const data = dataOf(figure), notes = [data?.caption];
  if (!data) {
    target.setAttribute("viewBox", `0 0 ${SIDE} 60`);
    target.replaceChildren(svg("text", { x: SIDE / 2, y: 34, class: "absent" }, `nothing recorded at ${report.step} ${step()}`));
  } else if (figure.kind === "heat") drawHeat(target, data);
  else if (figure.kind === "simplex") drawSimplex(target, data, state);
  else if (figure.kind === "spectrum") notes.push(drawSpectrum(target, framesOf(figure).frames, step(), report.step));
  else if (figure.kind === "vectors") drawVectors(target, data);
  else if (figure.kind === "images") drawImages(target, data);
  else notes.push(drawLines(target, { ...data, lines: data.lines.map((line) => styled(line, STAGE[line.stage], "")), xLabel: "layer", box: NARROW }));
  caption.textContent = notes.filter((note) => note).join("; ");
  target.setAttribute("aria-label", [figure.title, place(figure.is_staged, figure.is_of_part), data ? caption.textContent : "nothing recorded"].filter((t) => t).join(": "));
}

function drawPanel(panel, { target, caption }) {
  const lines = linesOf(panel);
  const dropped = drawLines(target, { ...panel, lines, xLabel: report.step, mark: step(), onPick: goTo });
  const here = lines.filter((line) => line.x.includes(step())), at = (line) => line.x.indexOf(step());
  const values = here.map((line) => `${line.name} ${line.below[at(line)] ? "~" : ""}${number(line.mean[at(line)])}`);
  const shown = values.length && values.length <= 6 ? `${report.step} ${step()}: ${values.join("; ")}` : "";
  const isBelow = here.some((line) => line.below[at(line)]);
  const notes = [lines.length ? dropped : "not recorded here", isBelow ? `${report.step} ${step()}: ${BELOW}` : ""];
  caption.textContent = notes.filter((note) => note).join("; ");
  target.setAttribute("aria-label", `${panel.title}, ${panel.label} by ${report.step}. ${shown}`);
}

// Numbers at the slider's step, of the selected run.
function drawValues() {
  const texts = report.panels.flatMap((panel) => {
    const curves = ofPanel(run(), panel).filter((c) => !c.stage || c.stage === state.stage);
    const parts = curves.filter((c) => c.x.includes(step())).map((c) => {
      const i = c.x.indexOf(step()), value = c.mean[i];
      const text = panel.metric === "accuracy" ? `${number(100 * value)}%` : number(value);
      return `${c.below[i] ? "~" : ""}${text} ${c.points}`.trim();
    });
    return parts.length ? [[panel.short, parts.join(", ")]] : [];
  });
  by("values").replaceChildren(...texts.slice(0, 5).map(([name, text]) => html("span", {}, html("b", {}, name), ` ${text}`)));
}

function draw() {
  const slider = by("slider");
  slider.max = run().steps.length - 1;
  slider.value = state.at;
  slider.setAttribute("aria-valuetext", `${report.step} ${step()}`);
  by("where").textContent = place(hasStages, true);
  for (const stage of report.stages) by(`stage-${stage}`).checked = stage === state.stage;
  drawValues();
  for (const redraw of drawn) redraw();
}

function fill(select, names, chosen, onChange) {
  select.replaceChildren(...names.map((name, i) => html("option", { value: i }, name)));
  select.value = chosen;
  select.onchange = () => onChange(Number(select.value));
}

function fillViews() {
  const names = run().views.map((each) => each.name);
  by("view-name").textContent = report.part;
  by("views").hidden = names.length < 2;
  fill(by("view"), names, state.view, (chosen) => { state.view = chosen; draw(); });
}

function chooseRun(chosen) {
  const [where, name] = [step(), view().name];
  state.run = chosen;
  state.view = Math.max(run().views.findIndex((each) => each.name === name), 0);
  fillViews();
  fillTables();
  fillLegend();
  goTo(where);
}

function fillTables() {
  const tables = isComparison ? [report.differences, ...run().tables] : run().tables;
  by("tables").replaceChildren(...tables.filter((t) => t.rows.length).map((table) => {
    const isOfAll = table === report.differences;
    const name = isComparison && !isOfAll ? `${table.title}: ${run().name}` : table.title;
    const heads = table.columns.map((text) => html("th", { scope: "col" }, text));
    const rows = table.rows.map((cells) => html("tr", {}, ...cells.map((cell, c) => html(c ? "td" : "th", c ? {} : { scope: "row" }, cell))));
    const grid = html("table", {}, html("thead", {}, html("tr", {}, ...heads)), html("tbody", {}, ...rows));
    return html("section", { class: isOfAll ? "table whole" : "table" }, html("h2", {}, name), html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, grid));
  }));
}

function swatch({ color, shape, dash }) {
  const attributes = { x1: 1, x2: 33, y1: 7, y2: 7, stroke: color, "stroke-dasharray": dash || "none", class: "line" };
  const node = svg("svg", { viewBox: "0 0 34 14", class: "swatch", "aria-hidden": "true" }, svg("line", attributes));
  if (shape) node.append(marker(shape, 17, 7, 3.4, { fill: color, stroke: color }));
  return node;
}

function fillLegend() {
  const lines = report.runs.flatMap(curvesOf);
  const points = ["training", "validation", "held-out"].filter((name) => lines.some((line) => line.points === name));
  const colors = isComparison
    ? report.runs.map((each, i) => [each.name, { color: CYCLE[i % CYCLE.length], shape: SHAPES[i % SHAPES.length] }])
    : report.stages.filter((stage) => lines.some((line) => line.stage === stage)).map((stage) => [stage, STAGE[stage]]);
  const entries = [...colors, ...points.map((name) => [name, { color: "var(--ink)", dash: DASH[name] }])];
  by("legend").replaceChildren(...entries.map(([name, style]) => html("span", {}, swatch(style), name)));
  const notes = [`vertical line: the slider's ${report.step}`];
  const averaged = seedsText();
  if (averaged) notes.unshift(averaged);
  if (lines.some((line) => line.below.includes(true))) notes.push("hollow, and ~: below the floor of the precision");
  by("legend").append(html("span", { class: "note" }, `${notes.join("; ")}. ${report.note}`));
  const named = run().classes.map((name, i) => `${i} ${name}`);
  const isSaid = named.length <= 20 && run().classes.some((name, i) => name !== String(i));
  if (isSaid) by("legend").append(html("span", { class: "note" }, `classes: ${named.join(", ")}`));
}

// Over how many seeds lines are averaged, of each run where they differ; nothing where all have one.
function seedsText() {
  const numbers = report.runs.map((each) => curvesOf(each).flatMap((curve) => curve.seeds).reduce((a, b) => Math.max(a, b), 1));
  if (Math.max(...numbers) === 1) return "";
  const isSame = numbers.every((number) => number === numbers[0]);
  const how = report.panels.some((panel) => panel.metric.startsWith("nc1")) ? " (geometric for NC1)" : "";
  const whose = isSame ? "" : `, in the order of the runs`;
  return `lines: mean of ${isSame ? numbers[0] : numbers.join(", ")} seeds${whose}${how}; bands: smallest to largest`;
}

function turnable({ node, target }, redraw) {
  target.classList.add("turn");
  target.setAttribute("tabindex", "0");
  const turn = (yaw, pitch) => {
    state.yaw += yaw;
    state.pitch = Math.min(Math.max(state.pitch + pitch, -1.57), 1.57);
    redraw();
  };
  const reset = () => { Object.assign(state, START); redraw(); };
  const moves = { ArrowLeft: ["←", "left", -0.2, 0], ArrowRight: ["→", "right", 0.2, 0], ArrowUp: ["↑", "up", 0, -0.2], ArrowDown: ["↓", "down", 0, 0.2] };
  const bar = html("div", { class: "turns", role: "group", "aria-label": "Turn the class means" });
  for (const [sign, name, ...angles] of Object.values(moves)) {
    const button = html("button", { type: "button", "aria-label": `Turn ${name}` }, sign);
    button.addEventListener("click", () => turn(...angles));
    bar.append(button);
  }
  const back = html("button", { type: "button" }, "reset");
  back.addEventListener("click", reset);
  bar.append(back);
  node.insertBefore(bar, target.nextSibling);
  target.addEventListener("keydown", (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    turn(...moves[event.key].slice(2));
  });
  target.addEventListener("pointerdown", (event) => target.setPointerCapture(event.pointerId));
  target.addEventListener("pointermove", (event) => {
    if (target.hasPointerCapture(event.pointerId)) turn(event.movementX / 90, event.movementY / 90);
  });
}

function play() {
  const stop = () => { clearInterval(timer); timer = null; by("play").textContent = "▶ play"; };
  if (timer) return stop();
  if (state.at === run().steps.length - 1) go(0);
  by("play").textContent = "■ stop";
  timer = setInterval(() => {
    go(state.at + 1);
    if (state.at === run().steps.length - 1) stop();
  }, 700);
}

function begin() {
  by("title").textContent = report.title;
  const stories = report.runs.map((each) => html("div", { class: "story" },
    ...(isComparison ? [html("h3", {}, each.name)] : []),
    html("p", { class: "lead" }, each.story.join(" ") || "No story yet: too little is recorded."),
    ...(each.unfinished ? [html("p", { class: "warning" }, each.unfinished)] : []),
    html("p", { class: "setting" }, each.setting)));
  by("stories").replaceChildren(...stories);
  state.view = run().views.length - 1;
  by("runs").hidden = !isComparison;
  fill(by("run"), report.runs.map((each) => each.name), 0, chooseRun);
  fillViews();
  fillTables();
  fillLegend();
  by("step-name").textContent = report.step;
  by("stages").hidden = !hasStages;
  for (const stage of report.stages) by(`stage-${stage}`).addEventListener("change", () => { state.stage = stage; draw(); });
  by("slider").addEventListener("input", () => go(Number(by("slider").value)));
  by("play").addEventListener("click", play);
  by("figures").classList.toggle("many", report.figures.length > 4);
  for (const figure of report.figures) {
    const parts = card(by("figures"), figure.title, figure.name, () => savedFigure(figure));
    const redraw = () => drawFigure(figure, parts);
    if (figure.kind === "simplex") turnable(parts, redraw);
    drawn.push(redraw);
  }
  for (const panel of report.panels) {
    const parts = card(by("curves"), panel.title, panel.metric, () => savedCurves(panel));
    drawn.push(() => drawPanel(panel, parts));
  }
  go(run().steps.length - 1);
  clearBar();
}

// What has the focus is not hidden behind the bar of controls, however many lines that has.
function clearBar() {
  const bar = by("controls");
  new ResizeObserver(() => {
    document.documentElement.style.scrollPaddingTop = `${Math.ceil(bar.getBoundingClientRect().height) + 8}px`;
  }).observe(bar);
}

begin();
