"use strict";
// Everything a model or dataset said is put in place as text, never as markup.

function element(name, text, look) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (look) made.className = look;
  return made;
}

// ---- tables: click a heading to sort, type to filter

function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0];
  const place = [...heading.parentElement.children].indexOf(heading);
  const up = heading.getAttribute("aria-sort") === "descending";
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[place].dataset.value;
  const numeric = [...body.rows].every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
  const compare = numeric
    ? (a, b) => (key(a) === "" ? -Infinity : Number(key(a))) - (key(b) === "" ? -Infinity : Number(key(b))) || 0
    : (a, b) => key(a).localeCompare(key(b));
  const sorted = [...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a)));
  body.append(...sorted);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}
for (const input of document.querySelectorAll("input[data-filters]")) {
  const rows = document.getElementById(input.dataset.filters).tBodies[0].rows;
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.classList.toggle("hidden", !wanted.every((word) => text.includes(word)));
    }
  });
}

// ---- samples

const data = JSON.parse(document.getElementById("samples-data").textContent);
const state = { part: 0, sample: 0, cell: 0 };
const at = (id) => document.getElementById(id);

function isRight(sample, cell) {
  return sample.correct[cell] !== null && sample.correct[cell] >= 0.5;
}

function fits(part, sample) {
  const vanilla = part.vanilla.indexOf(true);
  const right = vanilla >= 0 && isRight(sample, vanilla);
  const pruned = sample.correct.filter((_, cell) => !part.vanilla[cell]);
  const wrong = pruned.some((correct) => correct !== null && correct < 0.5);
  const rescued = pruned.some((correct) => correct !== null && correct >= 0.5);
  const rule = at("samples-rule").value;
  if (rule === "broken" && !(right && wrong)) return false;
  if (rule === "rescued" && !(vanilla >= 0 && !right && rescued)) return false;
  if (sample.disagreement * 100 < Number(at("samples-least").value)) return false;
  return sample.question.toLowerCase().includes(at("samples-words").value.toLowerCase());
}

function drawList() {
  const part = data[state.part], list = at("samples-list");
  const found = part.samples.map((_, n) => n).filter((n) => fits(part, part.samples[n]));
  list.replaceChildren();
  for (const n of found) {
    const sample = part.samples[n], button = element("button", sample.question.split("\n")[0]);
    button.setAttribute("aria-pressed", String(n === state.sample));
    const bar = element("div", null, "bar");
    bar.style.width = `${Math.round(100 * sample.disagreement)}%`;
    button.append(bar);
    button.title = `disagreement ${Math.round(100 * sample.disagreement)} %`;
    button.addEventListener("click", () => { state.sample = n; drawList(); });
    list.append(button);
  }
  at("samples-least-text").textContent = `${at("samples-least").value} %`;
  at("samples-count").textContent =
    `${found.length} of ${part.samples.length} embedded questions (of ${part.total} in the benchmark)`;
  if (found.length && !found.includes(state.sample)) { state.sample = found[0]; drawList(); return; }
  at("samples-detail").classList.toggle("hidden", !found.length);
  if (found.length) drawSample();
}

function drawSample() {
  const part = data[state.part], sample = part.samples[state.sample];
  at("samples-question").textContent = sample.question;
  at("samples-truth").textContent = sample.truth;
  at("samples-id").textContent = [sample.id, sample.category].filter(Boolean).join(" · ");
  const image = at("samples-image");
  image.classList.toggle("hidden", sample.image === null);
  if (sample.image !== null) image.src = sample.image;
  at("samples-noimage").classList.toggle("hidden", sample.image !== null);
  const body = at("samples-answers");
  body.replaceChildren();
  part.cells.forEach((name, cell) => {
    const row = element("tr", null, cell === state.cell ? "chosen" : "");
    const correct = sample.correct[cell];
    const verdict = correct === null ? "–" : correct >= 1 ? "✓" : correct <= 0 ? "✗" : correct.toFixed(2);
    row.append(element("td", name));
    row.append(element("td", sample.answers[cell] === null ? "(no answer)" : sample.answers[cell], "text"));
    row.append(element("td", verdict, correct === null ? "" : correct >= 0.5 ? "right" : "wrong"));
    row.addEventListener("click", () => { state.cell = cell; drawSample(); });
    body.append(row);
  });
  drawKept(sample, state.cell, part.side, part.cells[state.cell]);
  drawBoxes(sample, state.cell, part.cells[state.cell]);
}

// Boxes come in fractions of the padded square, as the scorer compared them; corners may be in any order.
function drawBoxes(sample, cell, name) {
  const found = sample.boxes, layer = at("samples-boxes"), text = at("samples-boxes-text");
  layer.replaceChildren();
  text.textContent = "";
  if (found === null) return;
  const said = found.said[cell], overlap = found.iou[cell];
  for (const [look, box] of [["truth", found.truth], ["said", said]]) {
    if (box === null) continue;
    for (const stroke of ["casing", look]) layer.append(rectangle(box, stroke));
  }
  const read = overlap !== null ? `IoU ${overlap.toFixed(2)} with the true box`
    : sample.answers[cell] === null ? "no answer" : "no box in the answer";
  const outside = said !== null && !(Math.max(said[0], said[2]) > 0 && Math.min(said[0], said[2]) < 1
    && Math.max(said[1], said[3]) > 0 && Math.min(said[1], said[3]) < 1);
  const turned = said !== null && (said[0] > said[2] || said[1] > said[3]);
  text.textContent = `${name}: ${read}`
    + (outside ? "; its box lies outside the picture" : "")
    + (turned ? "; its corners are in the wrong order, so it covers nothing" : "")
    + (sample.image === null ? "" : said === null ? " (blue: true box)" : " (blue: true box; orange, dashed: the answer's)");
}

function rectangle([x1, y1, x2, y2], look) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const [left, right] = [Math.min(x1, x2), Math.max(x1, x2)], [top, bottom] = [Math.min(y1, y2), Math.max(y1, y2)];
  const least = 0.002;  // a box without width is not drawn at all
  const parts = { x: left, y: top, width: Math.max(right - left, least), height: Math.max(bottom - top, least) };
  for (const [part, value] of Object.entries(parts)) made.setAttribute(part, value);
  made.setAttribute("class", look);
  return made;
}

const TINTS = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [230, 159, 0]];

function areaOf(sample, cell, places) {
  const place = sample.area[cell];
  if (place === null) return null;
  const bytes = Uint8Array.from(atob(data[state.part].areas[place]), (letter) => letter.charCodeAt(0));
  if (bytes.length === places) return Array.from(bytes);
  return Array.from({ length: places }, (_, n) => bytes[2 * n] + 256 * bytes[2 * n + 1]);
}

function drawKept(sample, cell, side, name) {
  const packed = sample.kept[cell], dark = sample.dark;
  const canvas = at("samples-kept"), pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (packed !== null && sample.grids.length) { drawGrids(sample, cell, name, pen); return; }
  if (packed === null) { at("samples-kept-text").textContent = `${name}: kept tokens not recorded`; return; }
  const step = canvas.width / side, places = side * side;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0)), area = areaOf(sample, cell, places);
  const isKept = (n) => (bytes[n >> 3] & (128 >> (n & 7))) !== 0;
  const merged = (n) => (area === null || isKept(n) ? 0 : area[n]);
  let kept = 0;
  for (let n = 0; n < places; n += 1) {
    if (isKept(n)) { kept += 1; continue; }
    pen.fillStyle = merged(n) ? `rgba(${TINTS[merged(n) % TINTS.length]}, 0.5)`
      : dark ? "rgba(235, 235, 235, 0.8)" : "rgba(10, 12, 16, 0.8)";
    pen.fillRect((n % side) * step, Math.floor(n / side) * step, step, step);
  }
  pen.fillStyle = "rgb(235, 235, 235)";
  for (let n = 0; area !== null && n < places; n += 1) {
    const x = (n % side) * step, y = Math.floor(n / side) * step;
    if ((n + 1) % side && merged(n) !== merged(n + 1)) pen.fillRect(x + step - 1, y, 2, step);
    if (n + side < places && merged(n) !== merged(n + side)) pen.fillRect(x, y + step - 1, step, 2);
  }
  at("samples-kept-text").textContent = `${name}: ${kept} of ${places} tokens kept`
    + mergedText(sample.merged[cell], area === null ? 0 : new Set(area.filter((row) => row)).size)
    + stagesText(sample.stages[cell]);
}

function mergedText(merged, drawn) {
  if (!merged) return "";
  const rows = (count) => `${count} merged or added ${count === 1 ? "row" : "rows"}`;
  const others = merged - drawn;
  if (!drawn) return ` and ${rows(merged)}, which are not drawn`;
  return ` and ${rows(drawn)}, in colour where ${drawn === 1 ? "it comes" : "each comes"} from`
    + (others ? `; ${others} more ${others === 1 ? "comes" : "come"} from no place in the image` : "");
}

function stagesText(stages) {
  return stages.length ? ` (${stages.map(([layer, left]) => `after layer ${layer}: ${left}`).join(", ")})` : "";
}

// Tokens of several grids (tiles, and a small view of the whole): what any kept token sees stays clear.
function drawGrids(sample, cell, name, pen) {
  const bytes = Uint8Array.from(atob(sample.kept[cell]), (letter) => letter.charCodeAt(0)), size = pen.canvas.width;
  pen.fillStyle = sample.dark ? "rgba(235, 235, 235, 0.8)" : "rgba(10, 12, 16, 0.8)";
  pen.fillRect(0, 0, size, size);
  let place = 0, kept = 0, ends = 0;
  for (const [rows, columns, left, top, right, bottom, newline] of sample.grids) {
    const wide = (right - left) / columns * size, high = (bottom - top) / rows * size;
    for (let n = 0; n < rows * (columns + newline); n += 1, place += 1) {
      const row = Math.floor(n / (columns + newline)), column = n % (columns + newline);
      if (!(bytes[place >> 3] & (128 >> (place & 7)))) continue;
      kept += 1;
      if (column < columns) pen.clearRect(left * size + column * wide, top * size + row * high, wide, high);
      else ends += 1;
    }
  }
  const views = sample.grids.filter(([, columns]) => columns > 0).length;
  at("samples-kept-text").textContent = `${name}: ${kept} of ${place} tokens kept`
    + (ends ? `, ${ends} of them ${ends === 1 ? "a newline" : "newlines"} without a place` : "")
    + (views > 1 ? "; tiles and the view of the whole lie over each other" : "")
    + mergedText(sample.merged[cell], 0) + stagesText(sample.stages[cell]);
}

if (data.length) {
  const select = at("samples-benchmark");
  data.forEach((part, n) => { const option = element("option", part.title); option.value = n; select.append(option); });
  select.addEventListener("change", () => { Object.assign(state, { part: Number(select.value), sample: 0, cell: 0 }); drawList(); });
  for (const id of ["samples-rule", "samples-least", "samples-words"]) at(id).addEventListener("input", drawList);
  at("samples-whole").addEventListener("change", (event) => at("samples-kept").classList.toggle("hidden", event.target.checked));
  drawList();
}
