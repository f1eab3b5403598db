"use strict";
// The page of the map: unpacks the data in it, draws them, finds, colors and selects sequences.

const about = JSON.parse(document.getElementById("about").textContent);
const at = (id) => document.getElementById(id);
const OTHERS = "#b9c0c7";
// Points that are drawn at a time, as in picture.py; milliseconds that a frame may take while the map is moved.
const DRAWN = 300000, SMOOTH_MS = 30;
// Milliseconds without a movement after which the map is drawn for what is in view.
const STILL_MS = 200;
const MANY_HITS = 50, MANY_LISTED = 200;
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const whole = new Intl.NumberFormat("en");

// Base64 of a raw deflate stream, unpacked to bytes.
async function unpacked(id) {
  const node = at(id);
  const text = node.textContent.trim();
  node.remove();
  let bytes;
  try {
    bytes = await (await fetch("data:application/octet-stream;base64," + text)).blob();
  } catch {
    bytes = new Blob([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))]);
  }
  return new Response(bytes.stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer();
}

const KINDS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };

// Lines of text, found by row and by what they contain, without a string for each of millions.
function linesOf(joined, count) {
  const text = `\n${joined}\n`, starts = new Uint32Array(count + 1);
  for (let row = 0, start = 1; row <= count; row += 1) {
    starts[row] = start;
    start = text.indexOf("\n", start) + 1;
  }
  const line = (row) => text.slice(starts[row], starts[row + 1] - 1);
  const rowAt = (place) => {
    let low = 0, high = count;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= place) low = middle;
      else high = middle;
    }
    return low;
  };
  let plain = null;
  // Up to `most` rows that contain a text, and where in the line; of small letters only if `small`.
  function* rowsWith(asked, small) {
    if (small && plain === null) {
      plain = text.toLowerCase();
      if (plain.length !== text.length) plain = text.replace(/[A-Z]+/g, (one) => one.toLowerCase());
    }
    const within = small ? plain : text;
    for (let place = within.indexOf(asked); place >= 0;) {
      const row = rowAt(asked[0] === "\n" ? place + 1 : place);
      yield row;
      place = within.indexOf(asked, starts[row + 1] - 1);
    }
  }
  return { count, line, rowsWith };
}

async function main() {
  const began = performance.now();
  const { blocks } = about, total = blocks.at(-1);
  // Rows that are here, and their ids in blocks: at first those of a sample, later all.
  let loaded = 0;
  const ids = [];
  const x = new Uint16Array(total), y = new Uint16Array(total);
  const columns = about.columns.map((one) => ({ ...one, values: new KINDS[one.type](total), names: one.shown }));
  const named = (part, block) => (block ? `${part}-${block}` : part);
  async function load(block) {
    const parts = [["x", x], ["y", y], ...columns.map((one) => [one.part, one.values])];
    for (const [part, values] of parts) {
      values.set(new values.constructor(await unpacked(named(part, block))), blocks[block]);
    }
    loaded = blocks[block + 1];
  }
  async function loadRest() {
    if (document.readyState === "loading") await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
    for (let block = 1; block < blocks.length - 1; block += 1) await load(block);
    const text = async (part) => new TextDecoder().decode(await unpacked(part));
    for (let block = 0; block < blocks.length - 1; block += 1) {
      ids.push(linesOf(await text(named("ids", block)), blocks[block + 1] - blocks[block]));
    }
    for (const column of columns) if (column.kind === "names") column.names = (await text(`${column.part}-names`)).split("\n");
  }
  function idOf(row) {
    let block = 0;
    while (row >= blocks[block + 1]) block += 1;
    return ids[block] ? ids[block].line(row - blocks[block]) : "…";
  }
  await load(0);

  const canvas = at("map");
  const plot = createScatterplot({
    canvas,
    width: "auto",
    height: "auto",
    pointSize: sizeFor(loaded),
    // What is drawn of a large map changes with the zoom, and the size of points with it.
    pointScaleMode: total > DRAWN ? "constant" : "asinh",
    pointSizeSelected: 3,
    opacityBy: total > 3000 ? "density" : null,
    opacity: 0.85,
    opacityInactiveScale: 0.25,
    lassoColor: [0, 0.45, 0.7, 1],
    pointColorHover: [0.84, 0.37, 0, 1],
    pointColorActive: [0.84, 0.37, 0, 1],
    cameraDistance: 1.15,
    showReticle: total < DRAWN,
    reticleColor: [0.5, 0.5, 0.5, 0.35],
  });
  function sizeFor(points) {
    return points > 100000 ? 1.5 : points > 30000 ? 2 : points > 3000 ? 4 : 7;
  }

  let index, current = null;
  // The rows that are drawn, the number of a color that is seen alone, rows that are chosen.
  let shown = new Uint32Array(0), only = null, chosen = [];
  const marked = new Uint8Array(total);
  const scaledTo = (value) => value / 32767.5 - 1;

  function themed() {
    const dark = document.documentElement.dataset.theme === "dark";
    return dark ? [0.078, 0.09, 0.102, 1] : [1, 1, 1, 1];
  }

  // Values from 0 to 1 of a column of numbers; those that are none lie at the low end. Of names their color:
  // the largest have one each, all others share the last.
  function colors(column, rows) {
    const { low, high, log, values } = column;
    if (column.kind === "names") {
      const last = column.colors.length - 1;
      return Float32Array.from(rows, (row) => Math.min(values[row], last));
    }
    const to = log ? (one) => Math.log(Math.max(one, 1e-12)) : (one) => one;
    const start = to(low), span = to(high) - start || 1;
    return Float32Array.from(rows, (row) => {
      const one = values[row];
      return one !== one ? 0 : Math.min(1, Math.max(0, (to(one) - start) / span));
    });
  }

  // Half the width of what is seen, where half of its height is 1.
  const half = () => canvas.clientWidth / canvas.clientHeight;

  // Rows to draw, and of how many in view: a map with more than can be drawn shows all of its sample that is
  // in view, and evenly many of the rest.
  function inView() {
    const view = plot.get("cameraView");
    const steps = (place) => Math.min(65535, Math.max(0, (place + 1) * 32767.5));
    // A fifth more on all sides, so that a small movement shows no edge.
    const edges = (at, width) => [-1.2, 1.2].map((side) => steps((side * width - view[12 + at]) / view[5 * at]));
    const [[left, right], [bottom, top]] = loaded > DRAWN ? [edges(0, half()), edges(1, 1)] : [[0, 65535], [0, 65535]];
    const last = current?.colors ? current.colors.length - 1 : 0, values = current?.values;
    const fits = (row) => x[row] >= left && x[row] <= right && y[row] >= bottom && y[row] <= top
      && (only === null || Math.min(values[row], last) === only);
    const first = blocks[1];
    let sample = 0, rest = 0;
    for (let row = 0; row < first; row += 1) if (fits(row)) sample += 1;
    for (let row = first; row < loaded; row += 1) if (fits(row)) rest += 1;
    const share = Math.min(1, (DRAWN - sample) / (rest || 1)), few = chosen.length <= MANY_LISTED;
    const rows = new Uint32Array(sample + Math.ceil(rest * share) + MANY_LISTED);
    let length = 0, due = 0;
    for (let row = 0; row < first; row += 1) if (fits(row)) rows[length++] = row;
    for (let row = first; row < loaded; row += 1) {
      if (!fits(row)) continue;
      due += share;
      if (due >= 1) due -= 1;
      else if (!few || !marked[row]) continue;
      rows[length++] = row;
    }
    return [rows.slice(0, length), sample + rest];
  }

  // One thing is drawn after the other; what is asked for while it waits is drawn once.
  let drawing = Promise.resolve(), waiting = false, refining = 0;
  const then = (work) => (drawing = drawing.then(work).catch(failed));
  function draw() {
    clearTimeout(refining);
    if (!waiting) then(drawNow);
    waiting = true;
    return drawing;
  }
  // A larger map shows more where it is zoomed in.
  function refine() {
    clearTimeout(refining);
    if (loaded > DRAWN) refining = setTimeout(draw, STILL_MS);
  }
  async function drawNow() {
    waiting = false;
    const [rows, present] = inView();
    const same = index && rows.length === total && shown.length === total;
    shown = rows;
    const settings = { backgroundColor: themed(), colorBy: null, pointColor: [0, 0.447, 0.698, 1], pointSize: sizeFor(rows.length) };
    const points = { x: Float32Array.from(rows, (row) => scaledTo(x[row])), y: Float32Array.from(rows, (row) => scaledTo(y[row])) };
    const options = { preventFilterReset: false, select: [] };
    if (current) {
      settings.colorBy = "valueA";
      settings.pointColor = current.kind === "number" ? about.scale : current.colors;
      points.z = colors(current, rows);
      options.zDataType = current.kind === "number" ? "continuous" : "categorical";
    }
    if (same) options.spatialIndex = index;
    for (let place = 0; chosen.length && place < rows.length; place += 1) if (marked[rows[place]]) options.select.push(place);
    plot.deselect({ preventEvent: true });
    await plot.set(settings);
    await plot.draw(points, options);
    index = plot.get("spatialIndex");
    at("state").textContent = loaded < total ? `Reading ${whole.format(total)} sequences …`
      : rows.length < present ? `${whole.format(rows.length)} of ${whole.format(present)} sequences here are drawn, all where you zoom in` : "";
  }

  function color(name) {
    current = columns.find((one) => one.name === name);
    only = null;
    legend();
    return draw();
  }

  function legend() {
    const box = at("legend");
    box.replaceChildren();
    if (!current) return;
    if (current.kind === "number") {
      const bar = document.createElement("div");
      bar.id = "bar";
      bar.style.background = `linear-gradient(90deg, ${about.scale.join(",")})`;
      const ends = document.createElement("div");
      ends.id = "ends";
      for (const one of [current.low, current.high]) {
        const end = document.createElement("span");
        end.textContent = valueOf(current, one);
        ends.append(end);
      }
      box.append(bar, ends);
      return;
    }
    current.shown.forEach((name, code) => {
      const button = document.createElement("button");
      const dot = document.createElement("i"), text = document.createElement("span"), count = document.createElement("b");
      dot.style.background = current.colors[code];
      text.textContent = name;
      count.textContent = whole.format(current.counts[code]);
      button.append(dot, text, count);
      button.setAttribute("aria-pressed", "false");
      button.onclick = () => alone(code, button);
      box.append(button);
    });
  }

  function alone(code, button) {
    const pressed = button.getAttribute("aria-pressed") === "true";
    for (const other of at("legend").children) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", String(!pressed));
    only = pressed ? null : code;
    return draw();
  }

  function valueOf(column, value) {
    if (column.kind === "number") return value !== value ? "–" : column.whole ? whole.format(value) : number.format(value);
    return column.names[value] ?? "…";
  }

  function tell(row) {
    const tip = at("tip");
    const table = document.createElement("table");
    for (const column of columns) {
      const line = table.insertRow();
      line.insertCell().textContent = column.name;
      line.insertCell().textContent = valueOf(column, column.values[row]);
    }
    const title = document.createElement("b");
    title.textContent = idOf(row);
    tip.replaceChildren(title, table);
    const view = plot.get("cameraView"), { clientWidth, clientHeight } = canvas;
    const left = (clientWidth + (view[0] * scaledTo(x[row]) + view[12]) * clientHeight) / 2;
    const top = ((1 - view[5] * scaledTo(y[row]) - view[13]) * clientHeight) / 2;
    tip.hidden = false;
    tip.style.left = `${Math.max(8, Math.min(left + 14, canvas.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, Math.min(top + 14, canvas.clientHeight - tip.offsetHeight - 8))}px`;
  }

  // Rows by an id or a part of it: that which is it, those that begin with it, those that contain it.
  function find(text) {
    if (!text) return [];
    const found = new Set(), asked = text.toLowerCase();
    for (const [wanted, small] of [[`\n${text}\n`, false], [`\n${asked}\n`, true], [`\n${asked}`, true], [asked, true]]) {
      ids.forEach(({ rowsWith }, block) => {
        if (found.size >= MANY_HITS) return;
        for (const row of rowsWith(wanted, small)) {
          found.add(blocks[block] + row);
          if (found.size >= MANY_HITS) return;
        }
      });
    }
    return [...found];
  }

  // A sequence that was searched for keeps its tip until the map is moved by hand.
  let held = null;
  async function fly(row) {
    held = row;
    listed([row]);
    const [left, top] = [scaledTo(x[row]), scaledTo(y[row])], near = 0.06 * Math.min(1, Math.sqrt(DRAWN / total));
    await plot.zoomToArea({ x: left - near, y: top - near, width: 2 * near, height: 2 * near },
      { transition: total <= 100000, transitionDuration: 500 });
    if (loaded > DRAWN) await draw();
    else plot.select(shown.indexOf(row), { preventEvent: true });
    tell(row);
  }

  function entry(row) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = idOf(row);
    button.onclick = () => fly(row);
    item.append(button);
    return item;
  }

  function listed(rows) {
    chosen = rows;
    marked.fill(0);
    for (const row of rows) marked[row] = 1;
    at("chosen").hidden = !rows.length;
    at("number").textContent = `${whole.format(rows.length)} chosen`;
    at("list").replaceChildren(...rows.slice(0, MANY_LISTED).map(entry));
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const field = (text) => String(text).replace(/[\t\r\n]+/g, " ");
  at("save").onclick = () => {
    const lines = [["id", ...columns.map((one) => one.name)].map(field).join("\t")];
    for (const row of chosen) lines.push([idOf(row), ...columns.map((one) => one.kind === "number" ? one.values[row] : one.names[one.values[row]])].map(field).join("\t"));
    save(new Blob([lines.join("\n") + "\n"], { type: "text/tab-separated-values" }), "chosen.tsv");
  };
  at("none").onclick = () => { plot.deselect(); listed([]); };
  at("whole").onclick = () => { held = null; at("tip").hidden = true; plot.reset(); refine(); };
  at("png").onclick = async () => {
    const pixels = await plot.export({ scale: 2, antiAliasing: 1, pixelAligned: false }).catch(() => plot.export());
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [pixels.width, pixels.height];
    copy.getContext("2d").putImageData(pixels, 0, 0);
    copy.toBlob((blob) => save(blob, "map.png"));
  };
  at("theme").onclick = async () => {
    const root = document.documentElement.dataset;
    root.theme = root.theme === "dark" ? "light" : "dark";
    at("theme").textContent = root.theme === "dark" ? "Light" : "Dark";
    await plot.set({ backgroundColor: themed() });
  };
  at("find").oninput = () => at("hits").replaceChildren(...find(at("find").value.trim()).map(entry));
  at("find").onkeydown = (event) => {
    if (event.key !== "Enter") return;
    const [first] = find(at("find").value.trim());
    if (first !== undefined) fly(first);
  };
  // What is chosen by a line around it is more than what is drawn.
  function surrounded({ coordinates }) {
    if (loaded <= DRAWN) return;
    const corners = coordinates.map(([left, top]) => [(left + 1) * 32767.5, (top + 1) * 32767.5]);
    const ends = [0, 1].map((axis) => [Math.min, Math.max].map((end) => corners.reduce((sum, one) => end(sum, one[axis]), corners[0][axis])));
    const [[left, right], [bottom, top]] = ends, last = current?.colors ? current.colors.length - 1 : 0;
    const rows = new Set(keys.merge || keys.remove ? chosen : []);
    for (let row = 0; row < loaded; row += 1) {
      if (x[row] < left || x[row] > right || y[row] < bottom || y[row] > top) continue;
      if (only !== null && Math.min(current.values[row], last) !== only) continue;
      let inside = false;
      for (let one = 0, other = corners.length - 1; one < corners.length; other = one++) {
        const [x0, y0] = corners[one], [x1, y1] = corners[other];
        if (y0 > y[row] !== y1 > y[row] && x[row] < ((x1 - x0) * (y[row] - y0)) / (y1 - y0) + x0) inside = !inside;
      }
      if (inside) rows[keys.remove ? "delete" : "add"](row);
    }
    listed(Array.from(rows));
  }

  // A map that takes long to draw is moved and scaled as the picture that it is, and drawn again where it is
  // left: a frame costs nothing then, however many points there are.
  let moved = { scale: 1, left: 0, top: 0 }, dropping = 0;
  function move(scale, left, top) {
    moved = { scale, left, top };
    canvas.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
  }
  const drop = () => then(async () => {
    const { scale, left, top } = moved;
    const view = Float32Array.from(plot.get("cameraView"));
    for (const one of [0, 5, 12, 13]) view[one] *= scale;
    view[12] += (scale - 1) * half() + (2 * left) / canvas.clientHeight;
    view[13] += 1 - scale - (2 * top) / canvas.clientHeight;
    const drawn = new Promise((done) => plot.subscribe("draw", done, 1));
    await plot.set({ cameraView: view });
    await drawn;
    // It may have been moved on meanwhile.
    const more = moved.scale / scale;
    move(more, moved.left - left * more, moved.top - top * more);
    refine();
  });
  function grab(event) {
    if (event.button !== 0 || event.shiftKey) return;
    event.stopImmediatePropagation();
    let [left, top] = [event.clientX, event.clientY], far = 0;
    const drag = (to) => {
      // Nobody else looks for the point below the mouse, which is drawn anew for each.
      to.stopImmediatePropagation();
      far += Math.abs(to.clientX - left) + Math.abs(to.clientY - top);
      at("tip").hidden = true;
      move(moved.scale, moved.left + to.clientX - left, moved.top + to.clientY - top);
      [left, top] = [to.clientX, to.clientY];
    };
    window.addEventListener("mousemove", drag, true);
    window.addEventListener("mouseup", () => {
      window.removeEventListener("mousemove", drag, true);
      const place = plot.get("hoveredPoint");
      if (far > 3) drop();
      else if (place === undefined) plot.deselect();
      else plot.select(place);
    }, { once: true });
  }
  function zoom(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
    at("tip").hidden = true;
    const box = canvas.parentElement.getBoundingClientRect();
    const by = Math.exp((-event.deltaY * (event.deltaMode ? 12 : 1)) / canvas.clientHeight);
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    move(moved.scale * by, left - (left - moved.left) * by, top - (top - moved.top) * by);
    clearTimeout(dropping);
    dropping = setTimeout(drop, STILL_MS);
  }
  async function frame() {
    const began = performance.now();
    for (let drawn = 0; drawn < 3; drawn += 1) {
      plot.redraw();
      await new Promise(requestAnimationFrame);
    }
    return (performance.now() - began) / 3;
  }

  const keys = { merge: false, remove: false };
  window.addEventListener("mouseup", (event) => Object.assign(keys, { merge: event.metaKey, remove: event.altKey }), true);
  plot.subscribe("pointOver", (place) => tell(shown[place]));
  for (const kind of ["mousedown", "wheel"]) canvas.addEventListener(kind, () => { held = null; }, { capture: true, passive: true });
  plot.subscribe("pointOut", () => { at("tip").hidden = held === null; });
  plot.subscribe("select", ({ points }) => {
    listed(Array.from(points, (place) => shown[place]));
    if (chosen.length === 1) tell(chosen[0]);
  });
  plot.subscribe("deselect", () => listed([]));
  plot.subscribe("lassoEnd", surrounded);
  plot.subscribe("view", () => {
    if (held === null) at("tip").hidden = true;
    else tell(held);
    refine();
  });

  new ResizeObserver(() => plot.set({ width: "auto", height: "auto" })).observe(canvas.parentElement);

  const menu = at("color");
  for (const name of ["", ...columns.filter((one) => one.colors || one.kind === "number").map((one) => one.name)]) {
    menu.add(new Option(name || "nothing", name));
  }
  menu.value = about.color;
  menu.onchange = () => color(menu.value);
  await color(about.color);
  const first = performance.now();
  await loadRest();
  if (total > DRAWN) await draw();
  at("find").oninput();
  if ((await frame()) > SMOOTH_MS) {
    canvas.addEventListener("mousedown", grab, { capture: true });
    canvas.addEventListener("wheel", zoom, { capture: true });
  }
  // For the benchmark of the page.
  globalThis.kinmerMap = { plot, find, fly, idOf, listed: () => chosen, first, opened: performance.now() - began };
}

function failed(error) {
  at("state").textContent = `The map cannot be drawn: ${error.message || error}. It needs a browser with WebGL and DecompressionStream.`;
}

main().catch(failed);
