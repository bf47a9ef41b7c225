// The ONE-PIC composer: panels of one canvas, filled, placed and brushed on the page. The project's JSON goes into a gradio textbox, and comes from one.
// What a project is, how it changes and how it is drawn is in refonly_onepic_model.js, which hosts may load before this file or after it.
//
//   refonlyOnePic.mount(root)    root: <div class="refonly-onepic" data-target="#textbox" data-source="#textbox">; every such div is mounted by itself
//   .state(root)                 the project, a copy           .flush(root)             write it to the textbox now; the text
//   .load(root, text)            replace it; whether it could  .setPicture(root, number, dataUrl)   panels count from 1; a promise of whether it could
(() => {
  "use strict";
  const api = (window.refonlyOnePic ??= {});
  if (api.mount) return;

  // Every word that is seen or read aloud. A WebUI's translations (window.localization) are looked up by the English text.
  api.strings = {
    composer: "ONE-PIC canvas", layout: "Layout", layoutOf: "{rows} × {columns}: rows × columns", rows: "Rows", columns: "Columns", size: "Panel size",
    width: "Panel width, px", height: "Panel height, px", undo: "Undo", redo: "Redo", sees: "What the model sees", open: "Open project", save: "Save project",
    savePng: "Save the canvas as PNG", keys: "Keys", panelTools: "Selected panel", panelNumber: "Panel {number}", label: "Label",
    labelHint: "Label, such as reference", role: "Role", context: "Context", target: "Target", fit: "Fit", crop: "Crop", pad: "Pad", stretch: "Stretch",
    zoom: "{percent} %", zoomReset: "Zoom and position as fitted", choose: "Choose a picture", remove: "Remove the picture", copy: "Copy to",
    copyAll: "All context panels", tools: "Tools", move: "Move", brush: "Brush", erase: "Eraser", brushSize: "Brush size", clearMask: "Clear the mask",
    maskUse: "What is brushed is", hide: "Hide", paint: "Paint", hideHint: "The model sees grey where you brushed",
    paintHint: "What you brushed is painted, like a target", handle: "Drag onto another panel to swap the two", emptyContext: "Drop, paste or click",
    emptyTarget: "Painted here", broken: "This picture cannot be shown", described: "Panel {number}, row {row}, column {column}, {role}{label}, {content}",
    withPicture: "with a picture", withMask: "with a picture and a mask", empty: "empty", canvas: "Canvas {width} × {height} px",
    nothingPainted: "Nothing would be painted. Mark a panel as target, or brush a part and choose Paint.", reading: "Reading…",
    noPicture: "This file is no picture: {name}.", noFile: "There is no picture in what was dropped.", placed: "Picture in panel {number}.",
    placedSeveral: "{count} pictures placed.", noRoom: "No context panel is empty. Drop the picture on the panel that it belongs to.",
    tooMany: "There was no empty context panel for {count} more.", shrunk: "{name} was larger than {most} px and is now {width} × {height} px.",
    tooManyBytes: "The pictures together are larger than {most} MB. Take smaller ones.", fileTooLarge: "{name} is larger than {most} MB.",
    notProject: "This is no ONE-PIC project.", notProjectFile: "This file is no ONE-PIC project: {name}.",
    otherVersion: "This project is of another version. Update the extension.", badLayout: "A layout has 1 to 4 rows and columns, and {most} panels at most.",
    badCount: "The project has {has} panels where its layout has {needs}.", badPicture: "The picture of panel {number} is none.",
    badMask: "The mask of panel {number} is no picture.", brokenAt: "The picture or mask of panel {number} cannot be shown.",
    tooLarge: "A canvas of {width} × {height} px is too large. Take smaller panels, or fewer.", opened: "Project opened.", saved: "{name} saved.",
    lost: "The new layout has no room for {count} of the panels that held something. Undo brings them back.", sizeIs: "A panel is {width} × {height} px now.",
    keyArrows: "Arrow keys", helpArrows: "select a panel", helpPan: "move the picture", helpSwap: "swap with the next panel",
    helpZoom: "zoom; back to fitted", helpChoose: "choose a picture", helpDelete: "remove the picture", helpTarget: "target or context", helpMove: "move",
    helpBrush: "brush", helpErase: "eraser", helpSize: "brush size", helpUndo: "undo", helpRedo: "redo", helpEscape: "leave the brush",
    helpKeys: "these keys", helpWheel: "zoom the selected panel", keyWheel: "Wheel, two fingers",
  };
  const HELP = [
    ["keyArrows", "helpArrows"], ["Enter", "helpChoose"], ["Delete", "helpDelete"], ["T", "helpTarget"], ["V", "helpMove"], ["B", "helpBrush"],
    ["E", "helpErase"], ["[ ]", "helpSize"], ["Esc", "helpEscape"], ["keyWheel", "helpWheel"], ["+ − 0", "helpZoom"], ["Shift ←↑→↓", "helpPan"],
    ["Alt Shift ←↑→↓", "helpSwap"], ["Ctrl Z", "helpUndo"], ["Ctrl Shift Z, Ctrl Y", "helpRedo"], ["?", "helpKeys"],
  ];
  const ICONS = {
    undo: "M6 2.5 2.5 6 6 9.5M2.5 6H10a3.5 3.5 0 0 1 0 7.5H6", redo: "M10 2.5 13.5 6 10 9.5M13.5 6H6a3.5 3.5 0 0 0 0 7.5h4",
    move: "M8 1.5v13M1.5 8h13M6 3.5l2-2 2 2M6 12.5l2 2 2-2M3.5 6l-2 2 2 2M12.5 6l2 2-2 2",
    brush: "M13.5 2.5 7.5 9M6.5 9a2.3 2.3 0 0 0-2.7 2.3c0 1-.7 1.7-1.8 2.2 3 1 6.3.2 6.3-2.3A2.3 2.3 0 0 0 6.5 9z",
    erase: "m9.5 2.5 4 4-6.5 6.5H4.5l-2.5-2.5zM6 6l4 4M8 13.5h6", open: "M1.5 12.5v-9h4.5l1.5 2h5.5v2M1.5 12.5l2.5-5h11l-2.5 5z",
    save: "M8 2v8M5 7l3 3 3-3M2.5 11v2.5h11V11", savePng: "M2 3h12v10H2zM2 11l3.5-3.5 3 3 2-2L14 12M10.5 6h.01",
    sees: "M1 8s2.5-4.5 7-4.5S15 8 15 8s-2.5 4.5-7 4.5S1 8 1 8zM8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z", choose: "M8 3v10M3 8h10", remove: "m4 4 8 8M12 4l-8 8",
    handle: "M6 3.5h.01M10 3.5h.01M6 8h.01M10 8h.01M6 12.5h.01M10 12.5h.01", clearMask: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5l.5 9h6l.5-9",
  };
  const TOOLS = [["move", "V"], ["brush", "B"], ["erase", "E"]];
  const STANDARD = [[1, 2], [2, 1], [2, 2], [1, 3], [3, 1]];
  const BRUSH = [4, 256]; // px of the panel
  const LONGER = 2048; // px of a picture's longer side
  const KEPT_BYTES = 8 * 2 ** 20; // a file up to this size is kept as it is
  const FILE_MB = 100;
  const WRITE_MS = 150;
  const POLL_MS = 250;

  function translated(english) {
    const dictionary = window.localization;
    return dictionary && Object.hasOwn(dictionary, english) ? dictionary[english] : english;
  }

  const t = (key, values = {}) => translated(api.strings[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

  // --- elements ----------------------------------------------------------------------------------------------------------------------------
  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value !== false && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function part(name, { tag = "div", ...properties } = {}, ...children) {
    return make(tag, { class: `refonly-onepic-${name}`, ...properties }, ...children);
  }

  function drawing(markup) {
    const holder = make("span", { class: "refonly-onepic-icon", "aria-hidden": "true" });
    holder.innerHTML = `<svg viewBox="0 0 16 16">${markup}</svg>`;
    return holder;
  }

  const icon = (name) => drawing(`<path d="${ICONS[name]}"/>`);

  function layoutIcon(rows, columns) {
    const [width, height] = [14 / columns, 14 / rows];
    const boxes = Array.from({ length: rows * columns }, (_, i) => [1 + (i % columns) * width, 1 + Math.floor(i / columns) * height]);
    return drawing(boxes.map(([x, y]) => `<rect x="${x + 0.7}" y="${y + 0.7}" width="${width - 1.4}" height="${height - 1.4}"/>`).join(""));
  }

  // A button that cannot act stays focusable, so that the keys go on working after the last undo.
  const dead = (node) => node.getAttribute("aria-disabled") === "true";

  function button(key, act, { shown = ICONS[key] ? [icon(key)] : [t(key)], title = t(key), ...more } = {}) {
    const named = shown.some((one) => typeof one === "string") ? {} : { "aria-label": title };
    const node = part("button", { tag: "button", type: "button", title, ...named, ...more, click: () => dead(node) || act() }, ...shown);
    return node;
  }

  const group = (key, ...children) => part("group", { role: "group", "aria-label": t(key) }, ...children);

  function select(key, options, act) {
    const node = part("select", { tag: "select", "aria-label": t(key), title: t(key), change: () => act(node.value) });
    node.append(...options.map(([value, text]) => make("option", { value }, text)));
    return node;
  }

  function numberField(key, [min, max], step, act) {
    const node = part("number", { tag: "input", type: "number", min, max, step, "aria-label": t(key), title: t(key), change: () => act(node.valueAsNumber) });
    return node;
  }

  // --- files -------------------------------------------------------------------------------------------------------------------------------
  function dataUrl(blob) {
    return new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = () => failed(reader.error);
      reader.readAsDataURL(blob);
    });
  }

  // By its first bytes, not by its name: what is kept as it is has to be what its data: text says.
  async function kindOf(blob) {
    const head = String.fromCharCode(...new Uint8Array(await blob.slice(0, 12).arrayBuffer()));
    if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
    if (head.startsWith("\xff\xd8\xff")) return "jpeg";
    return head.startsWith("RIFF") && head.endsWith("WEBP") ? "webp" : null;
  }

  async function decoded(blob, name) {
    const address = URL.createObjectURL(blob);
    try {
      return await api.model.imageFrom(address);
    } catch {
      throw new api.model.Trouble("noPicture", { name });
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  /** { url, name, shrunk }: the file's own bytes where they are small enough, else a PNG of at most 2048 px. */
  async function readPicture(blob) {
    const name = blob.name ?? "picture";
    if (blob.size > FILE_MB * 2 ** 20) throw new api.model.Trouble("fileTooLarge", { name, most: FILE_MB });
    const image = await decoded(blob, name);
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const scale = Math.min(1, LONGER / Math.max(width, height));
    const kind = await kindOf(blob);
    if (kind && scale === 1 && blob.size <= KEPT_BYTES) return { url: await dataUrl(new Blob([blob], { type: `image/${kind}` })), name, shrunk: null };
    const [canvas, context] = api.model.canvasOf(width * scale, height * scale);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const url = await dataUrl(await new Promise((done) => canvas.toBlob(done, "image/png")));
    return { url, name, shrunk: scale < 1 ? { name, most: LONGER, width: canvas.width, height: canvas.height } : null };
  }

  const isProject = (file) => file.type === "application/json" || /\.json$/i.test(file.name ?? "");

  const isOurs = (address) => /^(data:image\/|blob:)/.test(address) || make("a", { href: address }).origin === location.origin;

  const fetched = (address) => fetch(address).then((answer) => answer.blob()).catch(() => new Blob([])); // what is not there is no picture, and is told as such

  // What was dropped: files, or a picture of this very page (a gallery's). Other sites' addresses are not fetched.
  async function filesIn(transfer) {
    const files = [...(transfer?.files ?? [])];
    const address = files.length ? "" : transfer?.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#"));
    if (!address || !isOurs(address)) return files;
    const blob = await fetched(address);
    return [new File([blob], /^(data|blob):/.test(address) ? "picture" : address.split("/").pop(), { type: blob.type })];
  }

  function download(blob, name) {
    const address = URL.createObjectURL(blob);
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  // --- the textboxes -----------------------------------------------------------------------------------------------------------------------
  // gradio hears an 'input' event, in all its versions, but not before it has built the page (gradio 4): so nothing is written until something changes.
  // Of what it writes itself it tells nobody: the boxes are looked at from time to time.
  class Wire {
    constructor(editor) {
      this.editor = editor;
      this.seen = ""; // what the target held when it was last looked at
    }

    box(name) {
      const selector = this.editor.root.dataset[name];
      if (!selector) return null;
      const found = this.editor.root.getRootNode().querySelector(selector) ?? document.querySelector(selector);
      return found?.matches("textarea, input") ? found : (found?.querySelector("textarea, input") ?? null);
    }

    set(box, text) {
      box.value = text;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }

    later() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.write(), WRITE_MS);
    }

    write() {
      clearTimeout(this.timer);
      this.timer = null;
      const text = JSON.stringify(this.editor.state);
      const box = this.box("target");
      if (box && box.value !== text) this.set(box, text);
      if (box) this.seen = text;
      return text;
    }

    look() {
      const source = this.box("source");
      if (source?.value) {
        const text = source.value;
        this.set(source, ""); // so that the same project can be sent again
        this.editor.load(text);
      }
      const target = this.box("target");
      if (!target || this.timer || target.value === this.seen) return;
      this.seen = target.value;
      if (this.seen) this.editor.load(this.seen, { quietly: true });
      else this.write(); // it was emptied, but what is seen is not empty
    }
  }

  // --- what is seen ------------------------------------------------------------------------------------------------------------------------
  function hatch(context, colour, period) {
    const [tile, pen] = api.model.canvasOf(period, period);
    pen.fillStyle = "rgba(255, 255, 255, 0.35)";
    pen.fillRect(0, 0, period, period);
    pen.strokeStyle = colour;
    pen.lineWidth = period / 4;
    for (const shift of [-period, 0, period]) {
      pen.moveTo(shift - 2, period + 2);
      pen.lineTo(shift + period + 2, -2);
    }
    pen.stroke();
    return context.createPattern(tile, "repeat");
  }

  class View {
    constructor(editor) {
      this.editor = editor;
      this.cells = [];
      this.body = part("body", { role: "group", "aria-label": t("composer") }, this.documentBar(), this.panelBar(), this.stage(), this.feet(), this.help());
      this.body.addEventListener("focusout", () => this.later()); // fields show what holds when they are left
      this.watch = new ResizeObserver(() => this.later());
      this.watch.observe(this.grid);
    }

    documentBar() {
      const e = this.editor;
      const counts = Array.from({ length: api.model.MOST.side }, (_, i) => [i + 1, i + 1]);
      const others = (side, count) => Math.min(Number(side.value), Math.floor(api.model.MOST.panels / count)); // the other side gives way
      this.rows = select("rows", counts, (rows) => e.setLayout(Number(rows), others(this.columns, rows)));
      this.columns = select("columns", counts, (columns) => e.setLayout(others(this.rows, columns), Number(columns)));
      this.layouts = STANDARD.map(([rows, columns]) => {
        const shown = { shown: [layoutIcon(rows, columns)], title: t("layoutOf", { rows, columns }) };
        return button("layout", () => e.setLayout(rows, columns), { ...shown, "data-layout": `${rows}x${columns}` });
      });
      this.width = numberField("width", api.model.SIZE, 64, (width) => e.setSize(width, e.state.panel.height));
      this.height = numberField("height", api.model.SIZE, 64, (height) => e.setSize(e.state.panel.width, height));
      this.undo = button("undo", () => e.undo(), { title: `${t("undo")} (Ctrl+Z)` });
      this.redo = button("redo", () => e.redo(), { title: `${t("redo")} (Ctrl+Y)` });
      this.sees = button("sees", () => e.toggleSees(), { shown: [icon("sees"), t("sees")] });
      this.keys = button("keys", () => e.toggleHelp(), { shown: ["?"], "aria-label": t("keys") });
      const files = [button("open", () => e.chooseProject()), button("save", () => e.saveProject()), button("savePng", () => e.savePng())];
      const sizes = [group("layout", this.rows, "×", this.columns), group("size", this.width, "×", this.height, "px")];
      const right = [group("undo", this.undo, this.redo), this.sees, group("save", ...files), this.keys];
      return part("bar", {}, group("layout", ...this.layouts), ...sizes, part("space"), ...right);
    }

    panelBar() {
      const e = this.editor;
      this.title = part("title", { tag: "strong" });
      this.label = part("label", { tag: "input", type: "text", maxlength: api.model.MOST.line, "aria-label": t("label"), placeholder: t("labelHint") });
      this.label.addEventListener("focus", () => { this.labelOf = e.selected; }); // when it is left for another panel, that one is selected first
      this.label.addEventListener("change", () => e.setLabel(this.labelOf, this.label.value));
      this.roles = ["context", "target"].map((role) => button(role, () => e.changeSelected({ role }), { "data-role": role }));
      this.fit = select("fit", api.model.FITS.map((fit) => [fit, t(fit)]), (fit) => e.changeSelected({ fit, x: 0, y: 0 }));
      this.zoom = button("zoomReset", () => e.resetZoom(), { shown: ["100 %"] });
      this.choose = button("choose", () => e.choose(e.selected));
      this.remove = button("remove", () => e.removePicture());
      this.copies = part("menu-items", { role: "group", "aria-label": t("copy") });
      this.copy = part("menu", { tag: "details" }, part("button", { tag: "summary" }, t("copy")), this.copies);
      this.copy.firstChild.addEventListener("click", (event) => { if (dead(event.currentTarget)) event.preventDefault(); });
      this.tools = TOOLS.map(([tool, key]) => button(tool, () => e.setTool(tool), { title: `${t(tool)} (${key})`, "data-tool": tool }));
      this.brush = part("range", { tag: "input", type: "range", min: BRUSH[0], max: BRUSH[1], "aria-label": t("brushSize") });
      this.brush.addEventListener("input", () => e.setBrush(this.brush.valueAsNumber));
      this.clear = button("clearMask", () => e.changeSelected({ mask: null }));
      this.uses = api.model.USES.map((use) => button(use, () => e.changeSelected({ mask_use: use }), { title: t(`${use}Hint`) }));
      this.panelTools = part("bar", { role: "group", "aria-label": t("panelTools"), "data-bar": "panel" },
        group("role", this.title, this.label, part("joined", {}, ...this.roles)),
        group("fit", this.choose, this.remove, this.fit, this.zoom, this.copy),
        group("tools", part("joined", {}, ...this.tools), this.brush, this.clear, part("joined", { role: "group", "aria-label": t("maskUse") }, ...this.uses)));
      return this.panelTools;
    }

    stage() {
      this.grid = part("grid", { role: "grid", "aria-label": t("composer") });
      this.cursor = part("cursor", { hidden: "", "aria-hidden": "true" });
      this.seen = part("seen", { tag: "canvas", role: "img", "aria-label": t("sees"), hidden: "" });
      return part("stage", {}, this.grid, this.seen);
    }

    feet() {
      this.facts = part("facts", { tag: "span" });
      this.status = part("status", { tag: "span", role: "status", "aria-live": "polite" });
      return part("feet", {}, this.facts, this.status);
    }

    help() {
      this.keyList = part("keys", { tag: "dl", hidden: "", "aria-label": t("keys") });
      for (const [keys, what] of HELP) this.keyList.append(make("div", {}, make("dt", {}, make("kbd", {}, t(keys))), make("dd", {}, t(what))));
      return this.keyList;
    }

    cell(at) {
      const canvas = make("canvas");
      const hint = part("hint", { "aria-hidden": "true" }, icon("choose"), part("hint-text", { tag: "span" }));
      const chip = part("chip", { "aria-hidden": "true" }, part("number-of", { tag: "span" }, String(at + 1)), part("name", { tag: "span" }));
      const handle = part("handle", { title: t("handle"), "aria-hidden": "true" }, icon("handle"));
      const node = part("panel", { role: "gridcell", "data-at": at }, canvas, part("hatch", { "aria-hidden": "true" }), hint, chip, handle);
      return Object.assign(node, { canvas, hint: hint.lastChild, name: chip.lastChild });
    }

    buildGrid({ rows, columns }) {
      const focused = this.grid.contains(this.editor.focused());
      this.cells = Array.from({ length: rows * columns }, (_, at) => this.cell(at));
      const lines = Array.from({ length: rows }, (_, row) => part("row", { role: "row" }, ...this.cells.slice(row * columns, (row + 1) * columns)));
      this.grid.replaceChildren(...lines, this.cursor);
      this.grid.dataset.layout = `${rows}x${columns}`;
      const to = this.cells.map((_, at) => button("copy", () => this.editor.copyTo([at]), { shown: [t("panelNumber", { number: at + 1 })], title: "" }));
      this.copies.replaceChildren(...to, button("copyAll", () => this.editor.copyTo(this.editor.otherContexts()), { title: "" }));
      if (focused) this.focus(this.editor.selected);
    }

    focus(at) {
      this.render();
      this.cells[at]?.focus();
    }

    at(node) { return Number(node.closest?.(".refonly-onepic-panel")?.dataset.at ?? -1); }

    later() {
      this.grid.setAttribute("aria-busy", "true");
      this.frame ??= requestAnimationFrame(() => this.render());
    }

    render() {
      cancelAnimationFrame(this.frame);
      this.frame = undefined;
      const { state } = this.editor;
      const { rows, columns } = state.layout;
      if (this.grid.dataset.layout !== `${rows}x${columns}`) this.buildGrid(state.layout);
      const { width, height } = state.panel;
      const shape = { "--columns": columns, "--panel": `${width} / ${height}`, "--ratio": (columns * width) / (rows * height) };
      for (const [name, value] of Object.entries(shape)) this.body.style.setProperty(name, value);
      this.renderDocument(state);
      this.renderPanelTools(state.panels[this.editor.selected]);
      state.panels.forEach((panel, at) => this.renderCell(panel, at));
      if (this.editor.sees) this.drawSeen(state);
      this.grid.setAttribute("aria-busy", String(this.editor.bitmaps.waiting(state)));
    }

    renderDocument(state) {
      const { rows, columns } = state.layout;
      [this.rows.value, this.columns.value] = [rows, columns];
      for (const one of this.layouts) press(one, one.dataset.layout === `${rows}x${columns}`);
      fill(this.width, state.panel.width);
      fill(this.height, state.panel.height);
      disable(this.undo, !this.editor.history.past.length);
      disable(this.redo, !this.editor.history.future.length);
      press(this.sees, this.editor.sees);
      this.grid.hidden = this.editor.sees;
      this.seen.hidden = !this.editor.sees;
      this.panelTools.dataset.idle = this.editor.sees;
      this.panelTools.inert = this.editor.sees;
      const nothing = state.panels.every((panel) => api.model.painted(panel, this.editor.bitmaps) === "none");
      write(this.facts, t("canvas", api.model.canvasSize(state)) + (nothing ? `. ${t("nothingPainted")}` : ""));
      this.grid.dataset.tool = this.editor.tool;
    }

    renderPanelTools(panel) {
      const e = this.editor;
      write(this.title, t("panelNumber", { number: e.selected + 1 }));
      fill(this.label, panel.label);
      for (const one of this.roles) press(one, one.dataset.role === panel.role);
      this.fit.value = panel.fit;
      write(this.zoom, t("zoom", { percent: Math.round(panel.zoom * 100) }));
      for (const one of [this.zoom, this.remove, this.copy.firstChild]) disable(one, !panel.picture);
      if (!panel.picture) this.copy.open = false;
      this.copies.childNodes.forEach((one, at) => { one.hidden = at === e.selected; });
      for (const one of this.tools) press(one, one.dataset.tool === e.tool);
      this.brush.value = e.brush;
      this.brush.title = `${t("brushSize")}: ${e.brush} px`;
      disable(this.clear, !panel.mask);
      this.uses.forEach((one, i) => { press(one, api.model.USES[i] === panel.mask_use); });
    }

    renderCell(panel, at) {
      const [cell, e] = [this.cells[at], this.editor];
      const broken = [e.bitmaps.picture(panel.picture), e.bitmaps.mask(panel.mask)].some((entry) => entry?.broken);
      const how = api.model.painted(panel, e.bitmaps);
      Object.assign(cell.dataset, { role: panel.role, selected: at === e.selected, empty: !panel.picture, painted: how, broken });
      cell.tabIndex = at === e.selected ? 0 : -1;
      cell.setAttribute("aria-selected", String(at === e.selected));
      cell.setAttribute("aria-label", this.described(panel, at));
      write(cell.hint, t(broken ? "broken" : panel.role === "target" ? "emptyTarget" : "emptyContext"));
      write(cell.name, [panel.role === "target" && t("target"), panel.label].filter(Boolean).join(" · "));
      this.drawCell(panel, at);
    }

    described(panel, at) {
      const { columns } = this.editor.state.layout;
      const content = t(!panel.picture ? "empty" : panel.mask ? "withMask" : "withPicture");
      const label = panel.label ? `, ${panel.label}` : "";
      return t("described", { number: at + 1, row: Math.floor(at / columns) + 1, column: (at % columns) + 1, role: t(panel.role), label, content });
    }

    // Drawn only when something that is seen in it has changed.
    drawCell(panel, at) {
      const [{ canvas }, e, size] = [this.cells[at], this.editor, this.editor.state.panel];
      const [width, height] = [Math.round(canvas.clientWidth * devicePixelRatio), Math.round(canvas.clientHeight * devicePixelRatio)];
      if (!width || !height) return;
      const picture = e.bitmaps.picture(panel.picture)?.ready;
      const stroke = e.gestures.strokeIn(at);
      const mask = e.bitmaps.mask(panel.mask)?.ready;
      const shape = stroke?.shape ?? (mask && api.model.shapeFor(mask, size));
      const drawn = [panel, picture, shape, size, width, height];
      if (!stroke && canvas.drawn?.every((one, i) => one === drawn[i])) return;
      canvas.drawn = stroke ? null : drawn;
      [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.scale(width / size.width, height / size.height);
      if (picture) api.model.drawPicture(context, size, panel, picture);
      if (shape) this.drawShape(context, shape, stroke?.use ?? panel.mask_use, width, height);
    }

    drawShape(context, shape, use, width, height) {
      context.resetTransform();
      const style = use === "paint" ? hatch(context, this.accent(), 10 * devicePixelRatio) : api.model.HIDDEN;
      context.globalAlpha = use === "paint" ? 0.8 : 0.85;
      context.drawImage(api.model.tinted(shape, width, height, style), 0, 0);
    }

    accent() { return getComputedStyle(this.body).getPropertyValue("--color-accent").trim() || "#5468dd"; }

    // The composed canvas, and over it the cells that are painted. Nothing of the editor.
    drawSeen(state) {
      const canvas = api.model.compose(state, this.editor.bitmaps);
      [this.seen.width, this.seen.height] = [canvas.width, canvas.height];
      const context = this.seen.getContext("2d");
      context.drawImage(canvas, 0, 0);
      const period = Math.max(16, Math.round(Math.max(canvas.width, canvas.height) / 400) * 8);
      const cells = api.model.targetCells(state, this.editor.bitmaps);
      context.drawImage(api.model.tinted(cells, canvas.width, canvas.height, hatch(context, this.accent(), period), false), 0, 0);
    }

    say(text, kind = "note") {
      write(this.status, text);
      this.status.dataset.kind = kind;
    }

    // The circle of the brush, where the pointer is.
    showCursor(event) {
      const cell = this.cells[this.at(event.target)];
      this.cursor.hidden = !cell || this.editor.tool === "move" || event.pointerType === "touch";
      if (this.cursor.hidden) return;
      const [box, grid] = [cell.canvas.getBoundingClientRect(), this.grid.getBoundingClientRect()];
      const across = (this.editor.brush * box.width) / this.editor.state.panel.width;
      const place = { width: across, height: across, left: event.clientX - grid.left, top: event.clientY - grid.top };
      for (const [name, value] of Object.entries(place)) this.cursor.style[name] = `${value}px`;
    }
  }

  // Not what is there already: every change of the page is heard by a WebUI's scripts.
  function write(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  const press = (node, on) => node.setAttribute("aria-pressed", String(on));
  const disable = (node, off) => node.setAttribute("aria-disabled", String(off));
  function fill(field, value) {
    if (field.getRootNode().activeElement !== field && field.value !== String(value)) field.value = value; // not while it is being typed in
  }

  // --- pointers: one gesture at a time -----------------------------------------------------------------------------------------------------
  // Each has move(event, point), end() and cancel(). Points are in px of the panel.
  class Pan {
    constructor(editor, at, point) {
      Object.assign(this, { editor, at, from: point, before: editor.state.panels[at], natural: editor.natural(at) });
      editor.history.begin();
    }

    move(event, point) {
      if (!this.natural) return;
      const { x, y } = api.model.moved(this.editor.state.panel, this.natural, this.before, point.x - this.from.x, point.y - this.from.y);
      this.editor.show(api.model.changePanel(this.editor.state, this.at, { x, y }));
    }

    end() { this.editor.endGesture(); }
    cancel() { this.editor.cancelGesture(); }
  }

  class Pinch {
    constructor(editor, at, points) {
      Object.assign(this, { editor, at, before: editor.state.panels[at], natural: editor.natural(at), from: pairOf(points) });
      editor.history.begin();
    }

    move(event, point, points) {
      if (!this.natural || points.size < 2) return;
      const now = pairOf(points);
      const [dx, dy] = [now.middle.x - this.from.middle.x, now.middle.y - this.from.middle.y];
      const changes = api.model.zoomedAt(this.editor.state.panel, this.natural, this.before, now.apart / this.from.apart, this.from.middle, dx, dy);
      this.editor.show(api.model.changePanel(this.editor.state, this.at, changes));
    }

    end() { this.editor.endGesture(); }
    cancel() { this.editor.cancelGesture(); }
  }

  function pairOf(points) {
    const [a, b] = [...points.values()];
    return { middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }

  class Stroke {
    constructor(editor, at, event, point, erase) {
      const panel = editor.state.panels[at];
      Object.assign(this, { editor, at, erase, last: null });
      this.use = panel.role === "target" && !panel.mask ? "paint" : panel.mask_use; // grey over a target would mean nothing
      const { width, height } = editor.state.panel;
      [this.shape, this.pen] = api.model.canvasOf(width, height, true);
      if (panel.mask) this.pen.drawImage(api.model.shapeFor(editor.bitmaps.mask(panel.mask).ready, editor.state.panel), 0, 0);
      Object.assign(this.pen, { lineCap: "round", strokeStyle: "#fff", globalCompositeOperation: erase ? "destination-out" : "source-over" });
      this.draw(event, point);
    }

    // Pens press; mice and fingers do not.
    width(event) { return this.editor.brush * (event.pointerType === "pen" ? 0.2 + 0.8 * event.pressure : 1); }

    draw(event, point) {
      const width = this.width(event);
      const from = this.last ?? { ...point, width };
      this.pen.lineWidth = (from.width + width) / 2;
      this.pen.beginPath();
      this.pen.moveTo(from.x, from.y);
      this.pen.lineTo(point.x, point.y);
      this.pen.stroke();
      this.last = { ...point, width };
    }

    move(event) {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [event]) this.draw(one, this.editor.pointIn(this.at, one));
      this.editor.view.later();
    }

    end() {
      const url = api.model.harden(this.shape) ? api.model.maskUrl(this.shape) : null;
      if (url) this.editor.bitmaps.keepMask(url, this.shape);
      const erasedNothing = !url && !this.editor.state.panels[this.at].mask;
      if (!erasedNothing) this.editor.change(api.model.changePanel(this.editor.state, this.at, { mask: url, mask_use: this.use }));
      this.editor.view.later();
    }

    cancel() { this.editor.view.later(); }
  }

  class Swap {
    constructor(editor, at) { Object.assign(this, { editor, at, over: -1 }); }

    move(event) {
      const under = this.editor.root.getRootNode().elementFromPoint(event.clientX, event.clientY);
      this.over = under && this.editor.view.grid.contains(under) ? this.editor.view.at(under) : -1;
      this.mark();
    }

    mark() { this.editor.view.cells.forEach((cell, i) => { cell.dataset.over = i === this.over && i !== this.at; cell.dataset.carried = i === this.at; }); }

    end() {
      const { at, over } = this;
      this.cancel();
      if (over >= 0) this.editor.swap(at, over);
    }

    cancel() {
      this.at = this.over = -1;
      this.mark();
    }
  }

  class Gestures {
    constructor(editor) {
      Object.assign(this, { editor, active: null, points: new Map() });
      const on = (name, act) => editor.view.grid.addEventListener(name, act);
      on("pointerdown", (event) => this.down(event));
      on("pointermove", (event) => this.move(event));
      on("pointerup", (event) => this.up(event));
      on("pointercancel", (event) => this.lost(event));
      on("pointerleave", () => { editor.view.cursor.hidden = true; });
      on("dragstart", (event) => event.preventDefault());
    }

    strokeIn(at) { return this.active instanceof Stroke && this.active.at === at ? this.active : null; }

    down(event) {
      if (this.active) return this.another(event);
      const at = this.editor.view.at(event.target);
      if (at < 0 || ![0, 5].includes(event.button)) return; // 5: a pen's eraser
      capture(event);
      const point = this.editor.pointIn(at, event);
      this.points = new Map([[event.pointerId, point]]);
      Object.assign(this, { at, travelled: false, start: { x: event.clientX, y: event.clientY } });
      this.editor.select(at);
      this.active = this.begin(event, at, point);
      this.editor.view.later();
    }

    begin(event, at, point) {
      if (event.target.closest(".refonly-onepic-handle")) return new Swap(this.editor, at);
      const erase = event.button === 5 || this.editor.tool === "erase";
      if (!erase && this.editor.tool === "move") return new Pan(this.editor, at, point);
      return this.editor.maskIsThere(at) ? new Stroke(this.editor, at, event, point, erase) : null;
    }

    // A second finger: whatever the first one had begun was meant to be a pinch.
    another(event) {
      if (event.pointerType !== "touch" || this.points.size !== 1 || this.active instanceof Swap) return;
      capture(event);
      this.travelled = true;
      this.points.set(event.pointerId, this.editor.pointIn(this.at, event));
      this.active.cancel();
      this.active = new Pinch(this.editor, this.at, this.points);
    }

    move(event) {
      this.editor.view.showCursor(event);
      if (!this.active || !this.points.has(event.pointerId)) return;
      this.travelled ||= Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y) > 4;
      const point = this.editor.pointIn(this.at, event);
      this.points.set(event.pointerId, point);
      if (this.travelled || !(this.active instanceof Pan)) this.active.move(event, point, this.points);
    }

    up(event) {
      if (!this.points.delete(event.pointerId) || !this.active) return;
      const clicked = this.active instanceof Pan && !this.travelled;
      const ended = this.active;
      this.active = null;
      ended.end();
      if (clicked && !this.editor.state.panels[this.at].picture) this.editor.choose(this.at);
    }

    lost(event) {
      if (this.points.delete(event.pointerId)) this.cancel();
    }

    cancel() {
      const left = this.active;
      this.active = null;
      left?.cancel();
      return Boolean(left);
    }
  }

  function capture(event) {
    const panel = event.target.closest(".refonly-onepic-panel");
    try {
      panel?.setPointerCapture(event.pointerId);
    } catch (error) {
      if (error.name !== "NotFoundError") throw error; // the pointer is up again already
    }
  }

  // --- keys, wheel, drop, paste ------------------------------------------------------------------------------------------------------------
  const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const typing = (node) => node.matches?.("input, select, textarea");

  // Letters by what they mean, and on keyboards of other scripts by where they are.
  const letter = (event) => (/^[a-z]$/i.test(event.key) || !event.code.startsWith("Key") ? event.key.toLowerCase() : event.code.slice(3).toLowerCase());

  class Keys {
    constructor(editor) {
      this.editor = editor;
      editor.root.addEventListener("keydown", (event) => {
        if (!this.handle(event)) return;
        event.preventDefault();
        event.stopPropagation(); // a WebUI's own keys must not act too
      });
    }

    handle(event) {
      const [e, key] = [this.editor, letter(event)];
      if (key === "escape") return e.escape();
      if (typing(event.target)) return false;
      if (event.ctrlKey || event.metaKey) return this.commanded(event, key);
      if (ARROWS[event.key]) return this.arrow(event, ARROWS[event.key]);
      if (event.altKey) return false;
      if (["enter", " ", "delete", "backspace"].includes(key)) return e.view.at(event.target) >= 0 && this.onPanel(key);
      return this.plain(key);
    }

    commanded(event, key) {
      if (event.altKey || !["z", "y"].includes(key)) return false;
      if (key === "y" || event.shiftKey) this.editor.redo();
      else this.editor.undo();
      return true;
    }

    arrow(event, [down, right]) {
      const e = this.editor;
      if (!e.view.grid.contains(event.target)) return false;
      if (event.shiftKey && !event.altKey) return e.nudge(right * 8, down * 8);
      if (event.altKey && !event.shiftKey) return false;
      const next = e.neighbour(down, right);
      if (next === null) return true;
      if (event.shiftKey) e.swap(e.selected, next);
      e.select(next);
      e.view.focus(next);
      return true;
    }

    onPanel(key) {
      if (key === "enter" || key === " ") this.editor.choose(this.editor.selected);
      else this.editor.removePicture();
      return true;
    }

    plain(key) {
      const e = this.editor;
      const act = {
        t: () => e.changeSelected({ role: e.state.panels[e.selected].role === "target" ? "context" : "target" }),
        v: () => e.setTool("move"), b: () => e.setTool("brush"), e: () => e.setTool("erase"),
        "[": () => e.setBrush(e.brush / 1.25), "]": () => e.setBrush(e.brush * 1.25),
        "+": () => e.zoomBy(1.1), "=": () => e.zoomBy(1.1), "-": () => e.zoomBy(1 / 1.1), 0: () => e.resetZoom(), "?": () => e.toggleHelp(),
      }[key];
      act?.();
      return Boolean(act);
    }
  }

  class Drops {
    constructor(editor) {
      this.editor = editor;
      const on = (name, act) => editor.root.addEventListener(name, act);
      on("dragenter", (event) => this.over(event));
      on("dragover", (event) => this.over(event));
      on("dragleave", (event) => { if (!editor.root.contains(event.relatedTarget)) this.mark(null); });
      on("drop", (event) => this.dropped(event));
    }

    mark(at) {
      this.editor.root.dataset.over = at === -1;
      this.editor.view.cells.forEach((cell, i) => { cell.dataset.over = i === at; });
    }

    over(event) {
      if (!event.dataTransfer?.types.some((type) => ["Files", "text/uri-list"].includes(type))) return;
      event.preventDefault();
      event.stopPropagation();
      event.dataTransfer.dropEffect = "copy";
      this.mark(this.editor.view.at(event.target));
    }

    async dropped(event) {
      this.mark(null);
      const at = this.editor.view.at(event.target);
      event.preventDefault();
      event.stopPropagation();
      await this.editor.place(await filesIn(event.dataTransfer), at < 0 ? null : at);
    }
  }

  // Before the page's own listeners, which would give the picture to another zone.
  function pasted(event) {
    const editor = [...live].find((one) => one.wantsPaste());
    const files = [...(event.clipboardData?.files ?? [])];
    const [field] = event.composedPath();
    if (!editor || !files.length || (typing(field) && event.clipboardData.types.includes("text/plain"))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    editor.place(files, editor.selected);
  }

  // --- the editor --------------------------------------------------------------------------------------------------------------------------
  class Editor {
    constructor(root) {
      Object.assign(this, { root, selected: 0, tool: "move", brush: 48, sees: false, hovered: false });
      this.history = new api.model.History(api.model.newProject());
      this.bitmaps = new api.model.Bitmaps((url, entry) => this.arrived(url, entry));
      this.wire = new Wire(this);
      this.view = new View(this);
      this.gestures = new Gestures(this);
      new Keys(this);
      new Drops(this);
      this.view.grid.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      root.addEventListener("pointerenter", () => { this.hovered = true; });
      root.addEventListener("pointerleave", () => { this.hovered = false; });
      root.addEventListener("click", (event) => { if (!event.target.closest("details")) this.view.copy.open = false; });
      root.replaceChildren(this.view.body);
    }

    get state() { return this.history.now; }

    focused() { return this.root.getRootNode().activeElement ?? null; }

    wantsPaste() { return this.root.isConnected && this.root.offsetParent !== null && (this.hovered || this.root.contains(this.focused())); }

    say(key, values = {}, kind = "note") { this.view.say(key && t(key, values), kind); }

    trouble(error) {
      if (!(error instanceof api.model.Trouble)) throw error;
      this.say(error.key, error.values, "error");
    }

    arrived(url, entry) {
      const at = this.state.panels.findIndex((panel) => panel.picture === url || panel.mask === url);
      if (entry.broken && at >= 0) this.say("brokenAt", { number: at + 1 }, "error");
      this.view.later();
    }

    // --- changes: each is a step of the history ---
    change(state, mark) {
      if (this.history.held) this.gestures.cancel(); // what it had done is in the state
      if (!this.history.commit(state, mark)) return;
      this.say(""); // what was said is about what was before
      this.changed();
    }

    changed() {
      this.taken();
      this.wire.later();
    }

    taken() {
      this.selected = Math.min(this.selected, this.state.panels.length - 1);
      this.bitmaps.tidy(this.state);
      this.view.later();
    }

    show(state) {
      this.history.show(state);
      this.changed();
    }

    endGesture() {
      this.history.end();
      this.changed();
    }

    cancelGesture() {
      this.history.cancel();
      this.changed();
    }

    attempt(act) {
      try {
        this.change(act(this.state));
      } catch (error) {
        this.trouble(error);
      }
      this.view.later(); // a field that was refused shows what holds
    }

    travel(how) {
      this.gestures.cancel();
      if (this.history[how]()) this.changed();
      this.say("");
    }

    undo() { this.travel("undo"); }
    redo() { this.travel("redo"); }

    changeSelected(changes) { this.change(api.model.changePanel(this.state, this.selected, changes)); }
    setLabel(at, label) { this.change(api.model.changePanel(this.state, at, { label: api.model.line(label) })); }
    removePicture() { this.change(api.model.putPicture(this.state, this.selected, null)); }
    resetZoom() { this.changeSelected({ zoom: 1, x: 0, y: 0 }); }

    setLayout(rows, columns) {
      const full = (state) => state.panels.filter((panel) => panel.picture || panel.mask).length;
      const before = this.state;
      this.attempt((state) => api.model.setLayout(state, rows, columns));
      const count = full(before) - full(this.state);
      if (count > 0) this.say("lost", { count });
    }

    setSize(width, height) {
      const before = this.state.panel;
      this.attempt((state) => api.model.setSize(state, width, height));
      const { panel } = this.state;
      if (panel !== before && (panel.width !== width || panel.height !== height)) this.say("sizeIs", panel);
    }

    swap(a, b) {
      this.change(api.model.swapPanels(this.state, a, b));
      this.select(b);
    }

    otherContexts() { return this.state.panels.flatMap((panel, at) => (panel.role === "context" && at !== this.selected ? [at] : [])); }

    copyTo(targets) {
      this.change(api.model.copyPicture(this.state, this.selected, targets));
      this.view.copy.open = false;
    }

    // `changes(panel, natural)`: how the picture of panel `at` lies then.
    lay(at, mark, changes) {
      const natural = this.natural(at);
      if (natural) this.change(api.model.changePanel(this.state, at, changes(this.state.panels[at], natural)), `${mark} ${at}`);
    }

    nudge(dx, dy) {
      this.lay(this.selected, "nudge", (panel, natural) => api.model.moved(this.state.panel, natural, panel, dx, dy));
      return true;
    }

    zoomAt(at, factor, point) {
      this.lay(at, "zoom", (panel, natural) => api.model.zoomedAt(this.state.panel, natural, panel, factor, point));
    }

    zoomBy(factor) { this.zoomAt(this.selected, factor, { x: this.state.panel.width / 2, y: this.state.panel.height / 2 }); }

    // The wheel zooms where the painter is at work; elsewhere it scrolls the page. With Ctrl it is a touchpad's pinch.
    wheel(event) {
      const at = this.view.at(event.target);
      const here = at === this.selected && this.root.contains(this.focused());
      if (at < 0 || !this.state.panels[at].picture || !(here || event.ctrlKey)) return;
      event.preventDefault();
      const turned = event.deltaY * (event.deltaMode === 1 ? 16 : 1) * (event.ctrlKey ? 0.01 : 0.0015);
      this.zoomAt(at, Math.exp(-api.model.clamp(turned, -0.7, 0.7)), this.pointIn(at, event));
    }

    // --- what is no step of the history ---
    select(at) {
      this.selected = at;
      this.view.later();
    }

    neighbour(down, right) {
      const { rows, columns } = this.state.layout;
      const [row, column] = [Math.floor(this.selected / columns) + down, (this.selected % columns) + right];
      return row < 0 || column < 0 || row >= rows || column >= columns ? null : row * columns + column;
    }

    setTool(tool) {
      this.tool = tool;
      this.view.cursor.hidden = true;
      this.view.later();
    }

    setBrush(size) {
      this.brush = api.model.clamp(Math.round(size), ...BRUSH);
      this.view.later();
    }

    toggleSees() {
      this.gestures.cancel();
      this.sees = !this.sees;
      this.view.later();
    }

    toggleHelp() {
      this.view.keyList.hidden = !this.view.keyList.hidden;
      this.view.keys.setAttribute("aria-expanded", String(!this.view.keyList.hidden));
    }

    // Whether there was anything to leave.
    escape() {
      if (this.gestures.cancel()) return true;
      if (this.view.copy.open) this.view.copy.open = false;
      else if (!this.view.keyList.hidden) this.toggleHelp();
      else if (this.tool !== "move") this.setTool("move");
      else return false;
      return true;
    }

    natural(at) { return this.bitmaps.picture(this.state.panels[at].picture)?.ready ?? null; }
    maskIsThere(at) { return !this.state.panels[at].mask || Boolean(this.bitmaps.mask(this.state.panels[at].mask).ready); }

    pointIn(at, event) {
      const box = this.view.cells[at].canvas.getBoundingClientRect();
      const { width, height } = this.state.panel;
      return { x: ((event.clientX - box.left) / box.width) * width, y: ((event.clientY - box.top) / box.height) * height };
    }

    // --- in and out ---
    load(text, { quietly = false } = {}) {
      this.gestures.cancel();
      try {
        this.take(api.model.parse(text), quietly);
        return true;
      } catch (error) {
        this.trouble(error);
        return false;
      }
    }

    take(state, quietly) {
      if (JSON.stringify(state) === JSON.stringify(this.state)) return;
      if (quietly && !this.history.past.length) {
        this.history.now = state; // what the page began with
        this.taken();
      } else {
        this.change(state);
        if (!quietly) this.say("opened");
      }
    }

    async openProject(file) {
      const ok = this.load(await file.text());
      if (!ok && this.view.status.textContent === t("notProject")) this.say("notProjectFile", { name: file.name }, "error");
      return ok;
    }

    /** Files into panels: the first into panel `at`, the others, or without `at` all of them, into the empty context panels. One step. */
    async place(files, at = null) {
      const project = files.find(isProject);
      if (project) return this.openProject(project);
      this.say(...(files.length ? ["reading"] : ["noFile", {}, "error"]));
      if (!files.length) return false;
      const read = await Promise.all(files.map((file) => readPicture(file).catch((error) => error)));
      const good = read.filter((one) => !(one instanceof Error));
      const empty = api.model.emptyContexts(this.state).filter((one) => one !== at);
      const places = (at === null || at >= this.state.panels.length ? empty : [at, ...empty]).slice(0, good.length);
      const next = places.reduce((state, place, i) => api.model.putPicture(state, place, good[i].url), this.state);
      const bytes = next.panels.reduce((sum, panel) => sum + (panel.picture?.length ?? 0) + (panel.mask?.length ?? 0), 0);
      const fits = bytes < api.model.MOST.bytes - 2 ** 16;
      if (fits) this.change(next);
      this.tellPlaced({ read, good, places, fits });
      return fits && places.length > 0;
    }

    tellPlaced({ read, good, places, fits }) {
      const error = read.find((one) => one instanceof Error);
      if (error) return this.trouble(error);
      if (!fits) return this.say("tooManyBytes", { most: api.model.MOST.bytes / 2 ** 20 }, "error");
      if (!places.length) return this.say("noRoom", {}, "error");
      if (places.length < good.length) return this.say("tooMany", { count: good.length - places.length }, "error");
      const { shrunk } = good.find((one) => one.shrunk) ?? good[0];
      if (shrunk) return this.say("shrunk", shrunk);
      return places.length > 1 ? this.say("placedSeveral", { count: places.length }) : this.say("placed", { number: places[0] + 1 });
    }

    async setPicture(number, url) {
      const at = number - 1;
      if (!this.state.panels[at]) return false;
      if (!url) {
        this.change(api.model.putPicture(this.state, at, null));
        return true;
      }
      const blob = String(url).startsWith("data:image/") ? await fetched(url) : new Blob([]);
      return this.place([new File([blob], t("panelNumber", { number }), { type: blob.type })], at);
    }

    pick(accept, multiple, act) {
      const input = make("input", { type: "file", accept, multiple: multiple && "", hidden: "", cancel: () => input.remove() });
      input.addEventListener("change", () => {
        act([...input.files]);
        input.remove();
      });
      this.view.body.append(input);
      input.click();
    }

    choose(at) { this.pick("image/*", true, (files) => this.place(files, at)); }
    chooseProject() { this.pick(".json,application/json", false, ([file]) => file && this.openProject(file)); }

    saved(blob, name) {
      download(blob, name);
      this.say("saved", { name });
    }

    saveProject() { this.saved(new Blob([JSON.stringify(this.state, null, 1)], { type: "application/json" }), "onepic.json"); }

    async savePng() {
      const { state } = this;
      await this.bitmaps.wait(state);
      api.model.compose(state, this.bitmaps).toBlob((blob) => this.saved(blob, "onepic.png"), "image/png");
    }
  }

  // --- mounting ----------------------------------------------------------------------------------------------------------------------------
  const editors = new WeakMap();
  const live = new Set();
  let begun = false;

  function begin() {
    if (begun) return;
    begun = true;
    window.addEventListener("paste", pasted, true);
    setInterval(lookAround, POLL_MS);
  }

  function lookAround() {
    for (const editor of live) {
      if (editor.root.isConnected) editor.wire.look();
      else live.delete(editor); // back again, it is mounted again
    }
  }

  function mount(root) {
    if (!api.model) return; // refonly_onepic_model.js mounts all when it is there
    begin();
    const editor = editors.get(root) ?? new Editor(root);
    if (!root.contains(editor.view.body)) root.replaceChildren(editor.view.body);
    if (live.has(editor)) return;
    editors.set(root, editor);
    live.add(editor);
    editor.wire.look();
    editor.view.later();
  }

  const roots = () => [document, document.querySelector("gradio-app")?.shadowRoot].filter(Boolean);

  api.mountAll = () => {
    for (const place of roots()) for (const root of place.querySelectorAll(".refonly-onepic")) mount(root);
  };
  api.mount = mount;

  function editorOf(root) {
    mount(root);
    return editors.get(root);
  }

  api.flush = (root) => editorOf(root).wire.write();
  api.load = (root, text) => editorOf(root).load(text);
  api.state = (root) => ({ ...editorOf(root).state, panels: editorOf(root).state.panels.map((panel) => ({ ...panel })) });
  api.setPicture = (root, number, url) => editorOf(root).setPicture(number, url);

  // gradio builds the page late, and may build parts of it anew.
  const watched = new Set();
  const arrived = new MutationObserver(watch);
  function watch() {
    for (const place of roots()) {
      if (!watched.has(place)) arrived.observe(place, { childList: true, subtree: true });
      watched.add(place);
    }
    api.mountAll();
  }
  watch();
})();
