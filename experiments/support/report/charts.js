"use strict";
// Lines over steps or indices as SVG: axes, bands over seeds, markers, a line at the slider's step.

const SVG = "http://www.w3.org/2000/svg";
// Okabe and Ito's palette, as in the figures of a run.
const STAGE = {
  input: { color: "#0072B2", shape: "circle" },
  linear: { color: "#D55E00", shape: "square" },
  nonlinear: { color: "#009E73", shape: "triangle" },
  AGOP: { color: "#0072B2", shape: "circle" },
  "AGOP^½": { color: "#D55E00", shape: "square" },
  "": { color: "var(--ink)", shape: "diamond" },
};
const CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00"];
// Colors of classes are in the style, where dark mode has others.
const CLASSES = Array.from({ length: 10 }, (_, i) => `var(--class-${i})`);
const SHAPES = ["circle", "square", "triangle", "diamond"];
const DASH = { training: "", validation: "2 3", "held-out": "6 4" };
// The wide form of curves, and the narrow one of figures beside heat maps, in units of a page's pixels.
const WIDE = { width: 400, height: 250, left: 70, right: 14, top: 12, bottom: 46 };
const NARROW = { ...WIDE, width: 320, height: 320 };
const BELOW = "below the floor of the precision";
const MOST_MARKERS = 40;

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function power(exponent) {
  return "10" + [...String(exponent)].map((digit) => SUPERSCRIPT[digit]).join("");
}

function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(Number(value.toPrecision(3))).replace("-", "−");
  const [digits, exponent] = value.toExponential(2).split("e");
  const factor = String(Number(digits)).replace("-", "−");
  return factor === "1" ? power(Number(exponent)) : `${factor}·${power(Number(exponent))}`;
}

// Ticks and their labels; log axes of less than two decades are labeled at 1, 2 and 5.
function logTicks(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first >= 2) {
    const every = Math.ceil((last - first + 1) / 7);
    const ticks = [];
    for (let e = last; e >= first; e -= every) ticks.push([10 ** e, power(e)]);
    return ticks;
  }
  const ticks = [];
  for (let e = first - 1; e <= last; e += 1)
    for (const m of [1, 2, 5]) {
      const tick = m * 10 ** e;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push([tick, number(tick)]);
    }
  return ticks;
}

function linearTicks(low, high, most, whole) {
  let step = 10 ** Math.floor(Math.log10((high - low) / most || 1));
  for (const m of [1, 2, 5, 10]) if ((high - low) / (step * m) <= most) { step *= m; break; }
  if (whole) step = Math.max(1, Math.round(step));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) {
    const tick = Number((i * step).toPrecision(12));
    ticks.push([tick, number(tick)]);
  }
  return ticks;
}

function extent(values, log) {
  const usable = values.filter((v) => v !== null && Number.isFinite(v) && (!log || v > 0));
  if (!usable.length) return null;
  let low = usable.reduce((a, b) => Math.min(a, b)), high = usable.reduce((a, b) => Math.max(a, b));
  if (log) {
    // At least a factor of five, so that small changes look small.
    const widen = Math.max(1, Math.sqrt(5 / (high / low)));
    return [(low / widen) * 0.85, high * widen * 1.15];
  }
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - pad, high + pad];
}

function scale([low, high], [from, to], log) {
  const at = log ? Math.log10 : (v) => v;
  return (value) => from + ((at(value) - at(low)) / (at(high) - at(low))) * (to - from);
}

function marker(shape, x, y, r, attributes) {
  const paths = {
    square: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    triangle: `M${x} ${y - 1.2 * r}L${x + 1.15 * r} ${y + r}H${x - 1.15 * r}z`,
    diamond: `M${x} ${y - 1.3 * r}L${x + 1.3 * r} ${y}L${x} ${y + 1.3 * r}L${x - 1.3 * r} ${y}z`,
  };
  if (shape === "circle") return svg("circle", { cx: x, cy: y, r, ...attributes });
  return svg("path", { d: paths[shape], ...attributes });
}

function pathOf(points) {
  // A gap where a value cannot be drawn.
  let path = "", broken = true;
  for (const point of points) {
    if (point === null) { broken = true; continue; }
    path += `${broken ? "M" : "L"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    broken = false;
  }
  return path;
}

// spec: lines [{x, mean, low?, high?, below?, seeds?, color, shape, dash, name, faint?}], label, xLabel, log, xLog, box,
// mark (the slider's step), onPick(x). Returns what of the values cannot be drawn, in words, if anything.
function drawLines(target, spec) {
  const box = spec.box || WIDE;
  target.replaceChildren();
  target.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const right = box.width - box.right, bottom = box.height - box.bottom;
  const values = spec.lines.flatMap((line) => [...line.mean, ...(line.low || []), ...(line.high || [])]);
  const yRange = extent(values, spec.log), xs = spec.lines.flatMap((line) => line.x);
  if (!yRange) {
    target.append(svg("text", { x: box.width / 2, y: box.height / 2, class: "absent" }, "no value recorded"));
    return "";
  }
  const first = xs.reduce((a, b) => Math.min(a, b)), last = xs.reduce((a, b) => Math.max(a, b));
  const room = spec.xLog ? 0 : Math.max((last - first) * 0.03, first === last ? 0.5 : 0);
  // A single index is in the middle of its axis.
  const factor = spec.xLog && first === last ? 2 : 1;
  const x = scale([first / factor - room, last * factor + room], [box.left, right], spec.xLog);
  const y = scale(yRange, [bottom, box.top], spec.log);
  const drawable = (v) => v !== null && (!spec.log || v > 0);
  for (const [tick, text] of spec.log ? logTicks(...yRange) : linearTicks(...yRange, 6)) {
    target.append(svg("line", { x1: box.left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }));
    target.append(svg("text", { x: box.left - 7, y: y(tick) + 4, class: "tick end" }, text));
  }
  for (const [tick, text] of spec.xLog ? logTicks(first, last) : linearTicks(first, last, 8, true)) {
    target.append(svg("line", { x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4, class: "axis" }));
    target.append(svg("text", { x: x(tick), y: bottom + 17, class: "tick" }, text));
  }
  target.append(svg("path", { d: `M${box.left} ${box.top}V${bottom}H${right}`, class: "axis" }));
  target.append(svg("text", { x: (box.left + right) / 2, y: box.height - 6, class: "label" }, spec.xLabel));
  const turned = { x: -(box.top + bottom) / 2, y: 17, transform: "rotate(-90)", class: "label" };
  target.append(svg("text", turned, spec.label));
  if (spec.mark !== undefined && spec.mark >= first && spec.mark <= last)
    target.append(svg("line", { x1: x(spec.mark), x2: x(spec.mark), y1: box.top, y2: bottom, class: "mark" }));
  for (const line of spec.lines) {
    const points = line.x.map((at, i) => (drawable(line.mean[i]) ? [x(at), y(line.mean[i])] : null));
    if (line.low && line.seeds.some((n) => n > 1)) {
      const there = line.x.map((at, i) => i).filter((i) => drawable(line.low[i]));
      const up = there.map((i) => [x(line.x[i]), y(line.high[i])]);
      const down = there.map((i) => [x(line.x[i]), y(line.low[i])]).reverse();
      if (there.length) target.append(svg("path", { d: pathOf([...up, ...down]) + "z", fill: line.color, class: "band" }));
    }
    const style = line.faint ? { class: "faint" } : { stroke: line.color, "stroke-dasharray": line.dash || "none", class: "line" };
    const path = svg("path", { d: pathOf(points), ...style });
    for (const [name, color] of Object.entries(line.faint || {})) path.style.setProperty(name, color);
    target.append(path);
    if (line.faint || !line.shape) continue;
    points.forEach((point, i) => {
      const hollow = line.below && line.below[i];
      // Of long curves the markers that say more than the line.
      if (point === null || (points.length > MOST_MARKERS && !hollow)) return;
      const dot = marker(line.shape, ...point, line.dash ? 2.2 : 3.4, {
        fill: hollow ? "var(--paper)" : line.color, stroke: line.color,
      });
      const note = hollow ? `, ${BELOW}` : "";
      dot.append(svg("title", {}, `${line.name}: ${spec.xLabel} ${line.x[i]}, ${number(line.mean[i])}${note}`));
      target.append(dot);
    });
  }
  target.onclick = spec.onPick && ((event) => {
    // From the window's coordinates to the picture's own, wherever it lies in its element.
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(target.getScreenCTM().inverse()).x;
    const nearest = xs.reduce((a, b) => (Math.abs(x(b) - at) < Math.abs(x(a) - at) ? b : a));
    spec.onPick(nearest);
  });
  const dropped = spec.log ? spec.lines.flatMap((line) => line.mean).filter((v) => v !== null && v <= 0).length : 0;
  return dropped ? `not drawn, as a log axis has no 0: ${dropped} value${dropped > 1 ? "s" : ""}` : "";
}
