"use strict";
// The page of the map: unpacks the data in it, draws them, finds, colors and selects sequences.

const about = JSON.parse(document.getElementById("about").textContent);
const at = (id) => document.getElementById(id);
const OTHERS = "#b9c0c7";
// Points from which on they are small; milliseconds that a frame may take while the map is moved.
const MANY = 100000, SMOOTH_MS = 30;
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

async function main() {
  const began = performance.now();
  const ids = new TextDecoder().decode(await unpacked("ids")).split("\n");
  const raw = [new Uint16Array(await unpacked("x")), new Uint16Array(await unpacked("y"))];
  const [x, y] = raw.map((axis) => Float32Array.from(axis, (one) => one / 32767.5 - 1));
  const columns = [];
  for (const column of about.columns) {
    columns.push({ ...column, values: new KINDS[column.type](await unpacked(column.part)) });
  }

  const canvas = at("map");
  const many = ids.length > MANY;
  const plot = createScatterplot({
    canvas,
    width: "auto",
    height: "auto",
    pointSize: many ? 1.5 : ids.length > 30000 ? 2 : ids.length > 3000 ? 4 : 7,
    pointSizeSelected: 3,
    opacityBy: ids.length > 3000 ? "density" : null,
    opacity: 0.85,
    opacityInactiveScale: 0.25,
    lassoColor: [0, 0.45, 0.7, 1],
    pointColorHover: [0.84, 0.37, 0, 1],
    pointColorActive: [0.84, 0.37, 0, 1],
    cameraDistance: 1.15,
    showReticle: ids.length < 300000,
    reticleColor: [0.5, 0.5, 0.5, 0.35],
  });
  let index;
  let current = null;

  function themed() {
    const dark = document.documentElement.dataset.theme === "dark";
    return dark ? [0.078, 0.09, 0.102, 1] : [1, 1, 1, 1];
  }

  // Values from 0 to 1 of a column of numbers; those that are none lie at the low end.
  function scaled(column) {
    const { low, high, log } = column;
    const to = log ? (one) => Math.log(Math.max(one, 1e-12)) : (one) => one;
    const start = to(low), span = to(high) - start || 1;
    return Float32Array.from(column.values, (one) =>
      one !== one ? 0 : Math.min(1, Math.max(0, (to(one) - start) / span)));
  }

  async function color(name) {
    current = columns.find((one) => one.name === name);
    const settings = { backgroundColor: themed(), colorBy: null, pointColor: [0, 0.447, 0.698, 1] };
    const points = { x, y };
    const options = { preventFilterReset: false };
    if (current) {
      settings.colorBy = "valueA";
      if (current.kind === "number") {
        points.z = scaled(current);
        options.zDataType = "continuous";
        settings.pointColor = about.scale;
      } else {
        // The largest have a color each, all others share the last one.
        points.z = Float32Array.from(current.values, (one) => Math.min(one, current.colors.length - 1));
        options.zDataType = "categorical";
        settings.pointColor = current.colors;
      }
    }
    if (index) options.spatialIndex = index;
    await plot.set(settings);
    await plot.draw(points, options);
    index = index || plot.get("spatialIndex");
    legend();
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
        end.textContent = shown(current, one);
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

  async function alone(code, button) {
    const pressed = button.getAttribute("aria-pressed") === "true";
    for (const other of at("legend").children) other.setAttribute("aria-pressed", "false");
    if (pressed) return plot.unfilter();
    button.setAttribute("aria-pressed", "true");
    const last = current.colors.length - 1, rows = [];
    current.values.forEach((one, row) => { if (Math.min(one, last) === code) rows.push(row); });
    return plot.filter(rows);
  }

  function shown(column, value) {
    if (column.kind === "number") return value !== value ? "–" : column.whole ? whole.format(value) : number.format(value);
    return column.names[value];
  }

  function tell(row) {
    const tip = at("tip");
    const table = document.createElement("table");
    for (const column of columns) {
      const line = table.insertRow();
      line.insertCell().textContent = column.name;
      line.insertCell().textContent = shown(column, column.values[row]);
    }
    const title = document.createElement("b");
    title.textContent = ids[row];
    tip.replaceChildren(title, table);
    const [left, top] = plot.getScreenPosition(row) || [0, 0];
    tip.hidden = false;
    tip.style.left = `${Math.max(8, Math.min(left + 14, canvas.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, Math.min(top + 14, canvas.clientHeight - tip.offsetHeight - 8))}px`;
  }

  function find(text) {
    if (!text) return [];
    const exact = ids.indexOf(text);
    const starts = [], inside = [], asked = text.toLowerCase();
    for (let row = 0; row < ids.length && starts.length < MANY_HITS; row += 1) {
      if (row === exact) continue;
      const place = ids[row].toLowerCase().indexOf(asked);
      if (place === 0) starts.push(row);
      else if (place > 0 && inside.length < MANY_HITS) inside.push(row);
    }
    return [...(exact < 0 ? [] : [exact]), ...starts, ...inside].slice(0, MANY_HITS);
  }

  // A sequence that was searched for keeps its tip until the map is moved by hand.
  let held = null;
  async function fly(row) {
    held = row;
    plot.select([row], { preventEvent: true });
    await plot.zoomToArea({ x: x[row] - 0.06, y: y[row] - 0.06, width: 0.12, height: 0.12 },
      { transition: !many, transitionDuration: 500 });
    tell(row);
    listed([row]);
  }

  function entry(row) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = ids[row];
    button.onclick = () => fly(row);
    item.append(button);
    return item;
  }

  let chosen = [];
  function listed(rows) {
    chosen = rows;
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
    for (const row of chosen) lines.push([ids[row], ...columns.map((one) => one.kind === "number" ? one.values[row] : one.names[one.values[row]])].map(field).join("\t"));
    save(new Blob([lines.join("\n") + "\n"], { type: "text/tab-separated-values" }), "chosen.tsv");
  };
  at("none").onclick = () => { plot.deselect(); listed([]); };
  at("whole").onclick = () => { held = null; at("tip").hidden = true; plot.reset(); };
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
  // A map that takes long to draw is moved as the picture that it is, and drawn again where it is dropped: a
  // frame costs nothing then, however many points there are.
  function grab(event) {
    if (event.button !== 0 || event.shiftKey) return;
    event.stopImmediatePropagation();
    at("tip").hidden = true;
    const [left, top] = [event.clientX, event.clientY];
    const drag = (move) => {
      canvas.style.transform = `translate(${move.clientX - left}px, ${move.clientY - top}px)`;
    };
    const drop = async (end) => {
      window.removeEventListener("mousemove", drag);
      const view = Float32Array.from(plot.get("cameraView"));
      view[12] += (2 * (end.clientX - left)) / canvas.clientHeight;
      view[13] -= (2 * (end.clientY - top)) / canvas.clientHeight;
      const drawn = new Promise((done) => plot.subscribe("draw", done, 1));
      await plot.set({ cameraView: view });
      await drawn;
      canvas.style.transform = "";
    };
    window.addEventListener("mousemove", drag);
    window.addEventListener("mouseup", drop, { once: true });
  }
  async function frame() {
    const began = performance.now();
    for (let drawn = 0; drawn < 3; drawn += 1) {
      plot.redraw();
      await new Promise(requestAnimationFrame);
    }
    return (performance.now() - began) / 3;
  }

  plot.subscribe("pointOver", tell);
  for (const kind of ["mousedown", "wheel"]) canvas.addEventListener(kind, () => { held = null; }, { capture: true, passive: true });
  plot.subscribe("pointOut", () => { at("tip").hidden = held === null; });
  plot.subscribe("select", ({ points }) => listed(Array.from(points)));
  plot.subscribe("deselect", () => listed([]));
  plot.subscribe("view", () => (held === null ? (at("tip").hidden = true) : tell(held)));

  new ResizeObserver(() => plot.set({ width: "auto", height: "auto" })).observe(canvas.parentElement);

  const menu = at("color");
  for (const name of ["", ...columns.filter((one) => one.colors || one.kind === "number").map((one) => one.name)]) {
    menu.add(new Option(name || "nothing", name));
  }
  menu.value = about.color;
  menu.onchange = () => color(menu.value);
  await color(about.color);
  at("state").textContent = "";
  if ((await frame()) > SMOOTH_MS) canvas.addEventListener("mousedown", grab, { capture: true });
  // For the benchmark of the page.
  globalThis.kinmerMap = { plot, ids, find, fly, opened: performance.now() - began };
}

main().catch((error) => {
  at("state").textContent = `The map cannot be drawn: ${error.message || error}. It needs a browser with WebGL and DecompressionStream.`;
});
