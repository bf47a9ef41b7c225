// ONE-PIC's project: what it holds, how it changes, where pictures lie in their panels, and their pixels. Nothing here knows the page.
// refonly_onepic.js is the editor. Hosts load the two in either order; both hang on window.refonlyOnePic.
(() => {
  "use strict";
  const api = (window.refonlyOnePic ??= {});
  if (api.model) return;

  const FORMAT = "refonly-onepic";
  const VERSION = 1;
  const CELL = 8; // px of a latent's cell
  // As in lib_refonly/onepic/project.py, and the steps of the history.
  const MOST = { side: 4, panels: 9, pixels: 16 * 2 ** 20, bytes: 64 * 2 ** 20, line: 100, prompt: 20_000, reuse: 20, steps: 100 };
  const SIZE = [64, 2048]; // px of a panel's side
  const ZOOM = [0.1, 10];
  const ROLES = ["context", "target"];
  const FITS = ["crop", "pad", "stretch"];
  const USES = ["hide", "paint"];
  const HIDDEN = "rgb(127, 127, 127)";
  const PICTURE = /^data:image\/(?!svg)[a-z0-9.+-]+;base64,[A-Za-z0-9+/]/; // never an address: opening a project asks no other host

  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
  const neat = (value) => Math.round(value * 1e4) / 1e4 || 0; // no -0, no 0.30000000000000004

  // What is wrong with a project or a picture: `key` is the name of one of the editor's strings.
  class Trouble extends Error {
    constructor(key, values = {}) {
      super(key);
      this.key = key;
      this.values = values;
    }
  }

  // --- the project -------------------------------------------------------------------------------------------------------------------------
  // A state is never changed: every function here gives a new one, or the same one where nothing changes.
  const emptyPanel = (role = "context") => ({ role, label: "", picture: null, fit: "crop", zoom: 1, x: 0, y: 0, mask: null, mask_use: "hide" });

  function newProject(rows = 2, columns = 2) {
    const panels = Array.from({ length: rows * columns }, (_, i) => emptyPanel(i === rows * columns - 1 ? "target" : "context"));
    const plain = { prompt: "", negative: "", reuse: 1, alone: true, control_alone: true };
    return { format: FORMAT, version: VERSION, task: "", layout: { rows, columns }, panel: { width: 512, height: 512 }, panels, ...plain };
  }

  const snapped = (side) => clamp(Math.round(side / CELL) * CELL, ...SIZE);
  const number = (value, otherwise) => (typeof value === "number" && Number.isFinite(value) ? value : otherwise);
  const string = (value) => (typeof value === "string" ? value : "");
  // One line of signs that can be seen, as the Python side asks for: no line breaks, no wide spaces.
  const line = (value) => [...string(value).replace(/[\p{C}\p{Z}]+/gu, " ").trim()].slice(0, MOST.line).join("");
  const oneOf = (value, choices) => (choices.includes(value) ? value : choices[0]);

  function pictureOr(value, key, at) {
    if (value === null || value === undefined || value === "") return null;
    if (typeof value !== "string" || !PICTURE.test(value)) throw new Trouble(key, { number: at + 1 });
    return value;
  }

  function readPanel(raw, at) {
    if (typeof raw !== "object" || raw === null) throw new Trouble("notProject");
    return {
      role: oneOf(raw.role, ROLES),
      label: line(raw.label),
      picture: pictureOr(raw.picture, "badPicture", at),
      fit: oneOf(raw.fit, FITS),
      zoom: neat(clamp(number(raw.zoom, 1), ...ZOOM)),
      x: neat(clamp(number(raw.x, 0), -1, 1)),
      y: neat(clamp(number(raw.y, 0), -1, 1)),
      mask: pictureOr(raw.mask, "badMask", at),
      mask_use: oneOf(raw.mask_use, USES),
    };
  }

  /** px of the whole canvas. */
  const canvasSize = ({ layout, panel }) => ({ width: layout.columns * panel.width, height: layout.rows * panel.height });

  function notTooLarge(state) {
    const { width, height } = canvasSize(state);
    if (width * height > MOST.pixels) throw new Trouble("tooLarge", { width, height });
    return state;
  }

  function readLayout(raw) {
    const [rows, columns] = [raw?.rows, raw?.columns];
    const fits = [rows, columns].every((one) => Number.isInteger(one) && one >= 1 && one <= MOST.side) && rows * columns <= MOST.panels;
    if (!fits) throw new Trouble("badLayout", { most: MOST.panels });
    return { rows, columns };
  }

  /** The state that a JSON text holds. What is missing or out of range is mended; Trouble: no project, a newer one, or pictures that are none. */
  function parse(text) {
    let raw;
    try {
      raw = JSON.parse(text);
    } catch {
      throw new Trouble("notProject");
    }
    if (raw?.format !== FORMAT || !Array.isArray(raw.panels)) throw new Trouble("notProject");
    if (raw.version !== VERSION) throw new Trouble("otherVersion");
    const layout = readLayout(raw.layout);
    const count = layout.rows * layout.columns;
    if (raw.panels.length !== count) throw new Trouble("badCount", { has: raw.panels.length, needs: count });
    const panel = { width: snapped(number(raw.panel?.width, 512)), height: snapped(number(raw.panel?.height, 512)) };
    return notTooLarge({
      format: FORMAT,
      version: VERSION,
      task: line(raw.task),
      layout,
      panel,
      panels: raw.panels.map(readPanel),
      prompt: string(raw.prompt).slice(0, MOST.prompt),
      negative: string(raw.negative).slice(0, MOST.prompt),
      reuse: clamp(Math.round(number(raw.reuse, 1)), 1, MOST.reuse),
      alone: raw.alone !== false,
      control_alone: raw.control_alone !== false,
    });
  }

  function changePanel(state, at, changes) {
    const before = state.panels[at];
    if (!before || Object.keys(changes).every((key) => before[key] === changes[key])) return state;
    return { ...state, panels: state.panels.map((panel, i) => (i === at ? { ...before, ...changes } : panel)) };
  }

  /** A mask belongs to the picture it was drawn over: it goes with that picture, but one that was drawn first stays. */
  function putPicture(state, at, picture) {
    const before = state.panels[at];
    if (!before || picture === before.picture) return state;
    return changePanel(state, at, { picture, zoom: 1, x: 0, y: 0, mask: before.picture ? null : before.mask });
  }

  function copyPicture(state, from, targets) {
    const { picture, fit, zoom, x, y } = state.panels[from];
    return targets.reduce((now, at) => changePanel(now, at, { picture, fit, zoom, x, y }), state);
  }

  function swapPanels(state, a, b) {
    if (a === b || !state.panels[a] || !state.panels[b]) return state;
    const panels = [...state.panels];
    [panels[a], panels[b]] = [panels[b], panels[a]];
    return { ...state, panels };
  }

  function setSize(state, width, height) {
    const panel = { width: snapped(number(width, state.panel.width)), height: snapped(number(height, state.panel.height)) };
    return panel.width === state.panel.width && panel.height === state.panel.height ? state : notTooLarge({ ...state, panel });
  }

  // What is worth keeping when a layout becomes smaller.
  const worth = (panel) => (panel.role === "target" ? 2 : 0) + (panel.picture ? 1 : 0);

  // The `count` worthiest panels in their order; of equals, those that come first.
  function worthiest(panels, count) {
    if (!panels.slice(count).some(worth)) return panels.slice(0, count);
    const ranked = panels.map((panel, i) => ({ panel, i })).sort((a, b) => worth(b.panel) - worth(a.panel) || a.i - b.i);
    return ranked.slice(0, count).sort((a, b) => a.i - b.i).map(({ panel }) => panel);
  }

  /** Another grid. Panels keep their numbers, unless that would lose more than it has to: then empty ones go first, and the others close up. */
  function setLayout(state, rows, columns) {
    if (rows === state.layout.rows && columns === state.layout.columns) return state;
    const count = rows * columns;
    const panels = worthiest(state.panels, count);
    while (panels.length < count) panels.push(emptyPanel());
    return notTooLarge({ ...state, layout: { rows, columns }, panels });
  }

  const emptyContexts = (state) => state.panels.flatMap((panel, i) => (panel.role === "context" && !panel.picture ? [i] : []));

  // --- where a picture lies ----------------------------------------------------------------------------------------------------------------
  // `size`: the panel's, `natural`: the picture's, both { width, height } in px. Points and distances are in px of the panel.
  function scaled(size, natural, { fit, zoom }) {
    const across = size.width / natural.width;
    const down = size.height / natural.height;
    const one = fit === "pad" ? Math.min(across, down) : Math.max(across, down);
    const [x, y] = fit === "stretch" ? [across, down] : [one, one];
    return { width: natural.width * x * zoom, height: natural.height * y * zoom };
  }

  const start = (side, length, share) => (side - length + share * Math.abs(side - length)) / 2;

  function rectangle(size, natural, panel) {
    const { width, height } = scaled(size, natural, panel);
    return { left: start(size.width, width, panel.x), top: start(size.height, height, panel.y), width, height };
  }

  /** Where the picture is drawn, in whole px, as the Python side rounds it.
   *  x = 1 moves it right until an edge of it meets an edge of the panel: its left edge if it is wider, else its right edge. */
  function placement(size, natural, panel) {
    const exact = scaled(size, natural, panel);
    const [width, height] = [Math.max(1, Math.round(exact.width)), Math.max(1, Math.round(exact.height))];
    return { left: Math.round(start(size.width, width, panel.x)), top: Math.round(start(size.height, height, panel.y)), width, height };
  }

  // The share at which the picture's edge is at `start`; less than a thousandth of a px cannot be moved.
  function shareOf(at, side, length) {
    const free = Math.abs(side - length);
    return free < 1e-3 ? 0 : neat(clamp((2 * at - side + length) / free, -1, 1));
  }

  const shares = (size, rect) => ({ x: shareOf(rect.left, size.width, rect.width), y: shareOf(rect.top, size.height, rect.height) });

  function moved(size, natural, panel, dx, dy) {
    const rect = rectangle(size, natural, panel);
    return shares(size, { ...rect, left: rect.left + dx, top: rect.top + dy });
  }

  /** Zoomed by `factor` so that what is at `point` stays there, then moved by (dx, dy), as far as the panel allows. */
  function zoomedAt(size, natural, panel, factor, point, dx = 0, dy = 0) {
    const zoom = neat(clamp(panel.zoom * factor, ...ZOOM));
    const grown = zoom / panel.zoom;
    const rect = rectangle(size, natural, panel);
    const left = point.x + (rect.left - point.x) * grown + dx;
    const top = point.y + (rect.top - point.y) * grown + dy;
    return { zoom, ...shares(size, { left, top, width: rect.width * grown, height: rect.height * grown }) };
  }

  // --- history -----------------------------------------------------------------------------------------------------------------------------
  class History {
    constructor(state) {
      this.now = state;
      this.past = [];
      this.future = [];
      this.held = null; // the state before a gesture that is under way
      this.mark = null;
    }

    /** One step. Steps with the same `mark` that follow each other within 0.7 s are one (turns of a wheel). */
    commit(state, mark = null) {
      if (state === this.now) return false;
      const together = mark !== null && this.mark?.name === mark && performance.now() - this.mark.at < 700;
      if (!together) this.remember(this.now);
      this.mark = mark === null ? null : { name: mark, at: performance.now() };
      this.now = state;
      return true;
    }

    remember(state) {
      this.past.push(state);
      if (this.past.length > MOST.steps) this.past.shift();
      this.future = [];
    }

    // A gesture: any number of `show`, then `end` makes them one step, or `cancel` takes them back.
    begin() { this.held ??= this.now; }
    show(state) { this.now = state; }

    end() {
      const [held, changed] = [this.held, this.held !== null && this.held !== this.now];
      this.held = this.mark = null;
      if (changed) this.remember(held);
    }

    cancel() {
      if (this.held) this.now = this.held;
      this.held = null;
    }

    step(from, to) {
      if (this.held || !from.length) return false;
      to.push(this.now);
      this.now = from.pop();
      this.mark = null;
      return true;
    }

    undo() { return this.step(this.past, this.future); }
    redo() { return this.step(this.future, this.past); }
  }

  // --- pixels ------------------------------------------------------------------------------------------------------------------------------
  // `read`: its pixels will be asked for.
  function canvasOf(width, height, read = false) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width));
    canvas.height = Math.max(1, Math.round(height));
    const context = canvas.getContext("2d", { willReadFrequently: read });
    context.imageSmoothingQuality = "high";
    return [canvas, context];
  }

  async function imageFrom(url) {
    const image = new Image();
    image.src = url;
    await image.decode();
    if (!image.naturalWidth || !image.naturalHeight) throw new Error("a picture without a size");
    return image;
  }

  // The mean colour of the outermost px, every one counted once.
  function borderColour(context, width, height) {
    const strips = [[0, 0, width, 1], [0, height - 1, width, 1], [0, 1, 1, height - 2], [width - 1, 1, 1, height - 2]];
    const used = strips.filter(([, y, w, h], i) => w > 0 && h > 0 && !(i === 1 && y === 0) && !(i === 3 && width === 1));
    const sum = [0, 0, 0, 0];
    for (const strip of used) {
      const { data } = context.getImageData(...strip);
      for (let i = 0; i < data.length; i += 4) {
        for (let c = 0; c < 3; c++) sum[c] += data[i + c];
        sum[3]++;
      }
    }
    return `rgb(${sum.slice(0, 3).map((one) => Math.round(one / sum[3])).join(", ")})`;
  }

  // A picture ready for drawing: what is transparent becomes white, as on the Python side.
  async function readyPicture(url) {
    const image = await imageFrom(url);
    const [canvas, context] = canvasOf(image.naturalWidth, image.naturalHeight);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return { canvas, width: canvas.width, height: canvas.height, colour: borderColour(context, canvas.width, canvas.height) };
  }

  // A mask ready for drawing: its brushed part opaque white, the rest transparent.
  async function readyMask(url) {
    const image = await imageFrom(url);
    const [canvas, context] = canvasOf(image.naturalWidth, image.naturalHeight, true);
    context.drawImage(image, 0, 0);
    const any = harden(canvas, (data, i) => ((data[i] + data[i + 1] + data[i + 2]) / 3) * data[i + 3] >= 128 * 255);
    return { canvas, width: canvas.width, height: canvas.height, blank: !any };
  }

  /** A ready mask's shape in a panel of this size: as it is, or scaled once and kept. */
  function shapeFor(mask, size) {
    if (mask.width === size.width && mask.height === size.height) return mask.canvas;
    if (mask.other?.width !== size.width || mask.other?.height !== size.height) {
      const [canvas, context] = canvasOf(size.width, size.height, true);
      context.drawImage(mask.canvas, 0, 0, canvas.width, canvas.height);
      harden(canvas);
      mask.other = canvas;
    }
    return mask.other;
  }

  // Every px either opaque white or nothing. Returns whether any is white.
  function harden(canvas, brushed = (data, i) => data[i + 3] >= 128) {
    const context = canvas.getContext("2d");
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    let any = false;
    for (let i = 0; i < pixels.data.length; i += 4) {
      const on = brushed(pixels.data, i);
      any ||= on;
      pixels.data.fill(on ? 255 : 0, i, i + 4);
    }
    context.putImageData(pixels, 0, 0);
    return any;
  }

  /** The mask as it is kept: a PNG, white on black. */
  function maskUrl(shape) {
    const [canvas, context] = canvasOf(shape.width, shape.height);
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(shape, 0, 0);
    return canvas.toDataURL("image/png");
  }

  /** Decoded pictures and masks by their data: text. What a state needs stays; of the rest, the most recent `room` px. */
  class Bitmaps {
    constructor(changed, room = 48e6) {
      this.changed = changed;
      this.room = room;
      this.held = new Map();
    }

    get(url, make) {
      if (!url) return null;
      let entry = this.held.get(url);
      if (!entry) {
        entry = { ready: null, broken: false };
        entry.done = make(url).then((ready) => { entry.ready = ready; }, () => { entry.broken = true; }).then(() => this.changed(url, entry));
      }
      this.held.delete(url); // the most recent ones are last
      this.held.set(url, entry);
      return entry;
    }

    picture(url) { return this.get(url, readyPicture); }
    mask(url) { return this.get(url, readyMask); }

    /** A mask that was just drawn: it need not be decoded. */
    keepMask(url, canvas) {
      const ready = { canvas, width: canvas.width, height: canvas.height, blank: false };
      this.held.set(url, { ready, broken: false, done: Promise.resolve() });
    }

    all(state) { return state.panels.flatMap((panel) => [this.picture(panel.picture), this.mask(panel.mask)]).filter(Boolean); }

    waiting(state) { return this.all(state).some((entry) => !entry.ready && !entry.broken); }

    async wait(state) { await Promise.all(this.all(state).map((entry) => entry.done)); }

    tidy(state) {
      this.all(state);
      const needed = new Set(state.panels.flatMap((panel) => [panel.picture, panel.mask]));
      let room = this.room;
      for (const [url, { ready }] of [...this.held].reverse()) {
        room -= ready ? ready.width * ready.height : 0;
        if (room < 0 && !needed.has(url)) this.held.delete(url);
      }
    }
  }

  /** `shape` (opaque where brushed) at another size, in one colour or pattern. */
  function tinted(shape, width, height, style, smooth = true) {
    const [canvas, context] = canvasOf(width, height);
    context.imageSmoothingEnabled = smooth;
    context.drawImage(shape, 0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = style;
    context.fillRect(0, 0, canvas.width, canvas.height);
    return canvas;
  }

  /** One panel's picture at (0, 0), in px of the panel, without its mask. */
  function drawPicture(context, size, panel, picture) {
    context.save();
    context.beginPath();
    context.rect(0, 0, size.width, size.height);
    context.clip();
    context.fillStyle = picture?.colour ?? HIDDEN;
    context.fillRect(0, 0, size.width, size.height);
    if (picture) {
      const rect = placement(size, picture, panel);
      context.drawImage(picture.canvas, rect.left, rect.top, rect.width, rect.height);
    }
    context.restore();
  }

  const placeOf = (state, at) => ({ left: (at % state.layout.columns) * state.panel.width, top: Math.floor(at / state.layout.columns) * state.panel.height });

  /** The canvas as the model is given it. The bitmaps have to be there: `await bitmaps.wait(state)`. */
  function compose(state, bitmaps) {
    const { width, height } = canvasSize(state);
    const [canvas, context] = canvasOf(width, height);
    state.panels.forEach((panel, at) => {
      const { left, top } = placeOf(state, at);
      context.save();
      context.translate(left, top);
      drawPicture(context, state.panel, panel, bitmaps.picture(panel.picture)?.ready);
      const mask = panel.mask_use === "hide" && bitmaps.mask(panel.mask)?.ready;
      if (mask) context.drawImage(tinted(shapeFor(mask, state.panel), state.panel.width, state.panel.height, HIDDEN), 0, 0);
      context.restore();
    });
    return canvas;
  }

  /** Which part of a panel is painted: "all", "none" or "mask". A mask without a stroke counts as none. */
  function painted({ role, picture, mask, mask_use: use }, bitmaps) {
    const brushed = use === "paint" && mask && !bitmaps.mask(mask).ready?.blank;
    if (role === "target") return brushed && picture ? "mask" : "all";
    return brushed ? "mask" : "none";
  }

  // The cells of one panel that a mask touches: in a cell with any brushed px, the whole cell is painted.
  function touchedCells(shape, { width, height }) {
    const [canvas, context] = canvasOf(width, height, true);
    context.drawImage(shape, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const across = width / CELL;
    const cells = new Uint8Array(across * (height / CELL));
    for (let i = 3, at = 0; i < data.length; i += 4, at++) {
      if (data[i] >= 128) cells[Math.floor(at / width / CELL) * across + Math.floor((at % width) / CELL)] = 1;
    }
    return cells;
  }

  /** What is painted, as a canvas of one px for each 8 px cell: opaque where it is. */
  function targetCells(state, bitmaps) {
    const size = canvasSize(state);
    const [canvas, context] = canvasOf(size.width / CELL, size.height / CELL);
    const [across, down] = [state.panel.width / CELL, state.panel.height / CELL];
    state.panels.forEach((panel, at) => {
      const how = painted(panel, bitmaps);
      const mask = how === "mask" && bitmaps.mask(panel.mask).ready;
      if (how === "none" || (how === "mask" && !mask)) return;
      const cells = mask ? touchedCells(shapeFor(mask, state.panel), state.panel) : new Uint8Array(across * down).fill(1);
      const pixels = context.createImageData(across, down);
      cells.forEach((on, i) => { if (on) pixels.data.fill(255, i * 4, i * 4 + 4); });
      context.putImageData(pixels, placeOf(state, at).left / CELL, placeOf(state, at).top / CELL);
    });
    return canvas;
  }

  api.model = {
    CELL, MOST, SIZE, ZOOM, FITS, USES, HIDDEN, Trouble, History, Bitmaps, newProject, parse, changePanel, putPicture, copyPicture, swapPanels,
    setSize, setLayout, emptyContexts, line, placement, moved, zoomedAt, clamp, canvasOf, imageFrom, harden, maskUrl, shapeFor, tinted, drawPicture,
    canvasSize, compose, painted, targetCells,
  };
  api.mountAll?.();
})();
