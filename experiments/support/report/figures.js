"use strict";
// The figures that the slider moves: heat maps, class means in 3 dimensions, spectra, eigenvectors, images.

// Blue, white, red: told apart under the common color vision deficiencies.
const DIVERGING = [
  [5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31],
];
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const SIDE = 320;

function mix(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((low, c) => Math.round(low + (at - i) * (stops[i + 1][c] - low)));
}

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// Bytes 0..254 stand for -1..1.
function signed(byte) {
  return (byte - 127) / 127;
}

function rgb(share) {
  return `rgb(${mix(VIRIDIS, share)})`;
}

// color(i) gives the red, green and blue of pixel i.
function picture(width, height, color) {
  const canvas = html("canvas", { width, height }), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i += 1) pixels.data.set([...color(i), 255], 4 * i);
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

function unpacked(heat) {
  const packed = bytes(heat.data), size = heat.size, full = new Uint8Array(size * size);
  let at = 0;
  for (let i = 0; i < size; i += 1)
    for (let j = i; j < size; j += 1, at += 1) full[i * size + j] = full[j * size + i] = packed[at];
  return full;
}

function drawHeat(target, heat) {
  const left = heat.edges ? 30 : 8, top = heat.edges ? 24 : 8, side = SIDE - left - 8, size = heat.size;
  const full = unpacked(heat);
  target.setAttribute("viewBox", `0 0 ${SIDE} ${top + side + 50}`);
  const href = picture(size, size, (i) => mix(DIVERGING, full[i] / 254));
  target.replaceChildren(svg("image", { href, x: left, y: top, width: side, height: side, class: "pixels" }));
  target.append(svg("rect", { x: left, y: top, width: side, height: side, class: "frame" }));
  const edges = heat.edges || [], unit = side / size, all = edges.length <= 21;
  edges.forEach((edge, i) => {
    const at = edge * unit;
    target.append(svg("path", { d: `M${left - 4} ${top + at}h4M${left + at} ${top - 4}v4`, class: "axis" }));
    if (i + 1 === edges.length || (!all && i % Math.ceil(edges.length / 10))) return;
    const middle = ((edge + edges[i + 1]) / 2) * unit;
    const name = () => svg("title", {}, className(i));
    target.append(svg("text", { x: left - 8, y: top + middle + 4, class: "tick end" }, String(i), name()));
    target.append(svg("text", { x: left + middle, y: top - 7, class: "tick" }, String(i), name()));
  });
  const bar = picture(128, 1, (i) => mix(DIVERGING, i / 127)), y = top + side + 8;
  target.append(svg("image", { href: bar, x: left, y, width: side, height: 9, preserveAspectRatio: "none" }));
  for (const [share, text, anchor] of [[0, "−1", "start"], [0.5, "0", ""], [1, "1", "end"]])
    target.append(svg("text", { x: left + share * side, y: y + 22, class: `tick ${anchor}` }, text));
  target.append(svg("text", { x: left + side / 2, y: y + 38, class: "label" }, heat.scale));
}

function rotated([x, y, z], { yaw, pitch }) {
  const [a, b] = [Math.cos(yaw) * x + Math.sin(yaw) * z, -Math.sin(yaw) * x + Math.cos(yaw) * z];
  return [a, Math.cos(pitch) * y - Math.sin(pitch) * b, Math.sin(pitch) * y + Math.cos(pitch) * b];
}

function drawSimplex(target, data, angles) {
  const middle = SIDE / 2, radius = 128;
  target.setAttribute("viewBox", `0 0 ${SIDE} ${SIDE}`);
  target.replaceChildren();
  const place = (point) => {
    const [x, y, z] = rotated(point, angles);
    return { x: middle + radius * x, y: middle - radius * y, z };
  };
  const means = data.means.map(place), number = means.length, classes = data.classes || means.map((_, i) => i);
  const near = (z) => (0.35 + 0.65 * Math.min(Math.max((z + 1) / 2, 0), 1)).toFixed(2);
  if (number <= 12)
    for (let i = 0; i < number; i += 1)
      for (let j = 0; j < i; j += 1) {
        const [a, b] = [means[i], means[j]];
        const ends = { x1: a.x, y1: a.y, x2: b.x, y2: b.y };
        target.append(svg("line", { ...ends, class: "edge", "stroke-opacity": near((a.z + b.z) / 2) }));
      }
  target.append(svg("circle", { cx: middle, cy: middle, r: 2.5, class: "center" }));
  (data.points || []).map(place).forEach((point, i) => {
    const color = CLASSES[classes.indexOf(data.owners[i]) % CLASSES.length];
    target.append(svg("circle", { cx: point.x, cy: point.y, r: 2.4, fill: color, "fill-opacity": 0.5 }));
  });
  const order = means.map((mean, i) => [mean, i]).sort((a, b) => a[0].z - b[0].z), r = number > 20 ? 4 : 10;
  for (const [mean, i] of order) {
    const dot = { cx: mean.x, cy: mean.y, r, fill: CLASSES[i % CLASSES.length], "fill-opacity": near(mean.z), class: "mean" };
    target.append(svg("circle", dot, svg("title", {}, `class ${className(classes[i])}`)));
    if (number <= 20) target.append(svg("text", { x: mean.x, y: mean.y + 4, class: "class" }, String(classes[i])));
  }
}

// The index of an eigenvalue, from 1: of long spectra not all are kept.
function indexOf(spectrum, i) {
  return spectrum.index ? spectrum.index[i] : i + 1;
}

// Returns how many eigenvalues are not drawn, in words, if any.
function drawSpectrum(target, frames, step, name) {
  const lines = [], colors = Object.keys(frames).map(Number);
  const least = 1e-16;
  for (const at of [...colors.filter((c) => c !== step), step]) {
    const values = frames[at] && frames[at].spectrum ? frames[at].spectrum.values : [];
    const kept = values.map((value) => (value >= least ? value : null)), share = colors.indexOf(at) / Math.max(colors.length - 1, 1);
    // The ends of the colors that stand out from a light ground, and from a dark one.
    const faint = at !== step && { "--on-light": rgb(0.9 * share), "--on-dark": rgb(0.45 + 0.55 * share) };
    const dots = values.length <= 40 && !faint ? "circle" : "";
    lines.push({ x: values.map((_, i) => indexOf(frames[at].spectrum, i)), mean: kept, color: "var(--ink)", faint, shape: dots, name: `${name} ${at}` });
  }
  const shown = lines.filter((line) => line.x.length);
  const dropped = (frames[step]?.spectrum?.values ?? []).filter((value) => value < least).length;
  drawLines(target, { lines: shown, log: true, xLog: true, label: "eigenvalue / largest", xLabel: "index of the eigenvalue", box: NARROW });
  return dropped ? `not drawn: ${dropped} below ${power(-16)} of the largest` : "";
}

function drawVectors(target, data) {
  const names = [...data.labels], vectors = data.vectors.map(bytes);
  if (!data.shape) {
    const left = 82, height = 24 * vectors.length, length = data.length;
    target.setAttribute("viewBox", `0 0 ${SIDE} ${height + 30}`);
    target.replaceChildren();
    vectors.forEach((vector, i) => {
      const href = picture(length, 1, (at) => mix(DIVERGING, vector[at] / 254));
      const box = { x: left, y: 24 * i, width: SIDE - left - 4, height: 19, preserveAspectRatio: "none" };
      target.append(svg("image", { href, ...box, class: "pixels" }), svg("rect", { ...box, class: "frame" }));
      target.append(svg("text", { x: left - 5, y: 24 * i + 14, class: "tick end" }, names[i]));
    });
    target.append(svg("text", { x: (left + SIDE) / 2, y: height + 16, class: "label" }, `${length} coordinates`));
    return;
  }
  const [rows, columns, channels] = data.shape, cell = SIDE / 3 - 4, images = vectors;
  if (data.diagonal) { images.push(bytes(data.diagonal)); names.push("diagonal of M"); }
  const tall = Math.min(cell, (cell * rows) / columns) + 20;
  target.setAttribute("viewBox", `0 0 ${SIDE} ${Math.ceil(images.length / 3) * tall}`);
  target.replaceChildren();
  images.forEach((image, i) => {
    const isLast = Boolean(data.diagonal) && i + 1 === images.length;
    const color = (at) => {
      const pixel = image.slice(at * channels, (at + 1) * channels);
      if (channels === 3 && !isLast) return [...pixel];
      const mean = pixel.reduce((a, b) => a + b, 0) / channels;
      return isLast ? mix(VIRIDIS, signed(mean)) : mix(DIVERGING, mean / 254);
    };
    const box = { x: (i % 3) * (cell + 6), y: Math.floor(i / 3) * tall, width: cell, height: tall - 20 };
    target.append(svg("image", { href: picture(columns, rows, color), ...box, class: "pixels" }));
    target.append(svg("text", { x: box.x + cell / 2, y: box.y + tall - 6, class: "tick" }, names[i]));
  });
}

function drawImages(target, data) {
  const [rows, columns] = data.shape, cell = SIDE / 3 - 4, tall = (cell * rows) / columns + 20;
  target.setAttribute("viewBox", `0 0 ${SIDE} ${Math.ceil(data.images.length / 3) * tall}`);
  target.replaceChildren();
  data.images.forEach((text, i) => {
    const image = bytes(text), box = { x: (i % 3) * (cell + 6), y: Math.floor(i / 3) * tall, width: cell, height: tall - 20 };
    const href = picture(columns, rows, (at) => image.slice(3 * at, 3 * at + 3));
    target.append(svg("image", { href, ...box, class: "pixels" }));
    const label = data.labels[i].length > 13 ? `${data.labels[i].slice(0, 12)}…` : data.labels[i];
    target.append(svg("text", { x: box.x + cell / 2, y: box.y + tall - 6, class: "tick" }, label));
  });
}
