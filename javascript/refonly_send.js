// On their way inside a WebUI: pictures from galleries and samples into the Reference Only panels and the ONE-PIC canvas, and from there to img2img;
// and the canvas itself into a tab's panel. A checkpoint that has just been put there is loaded (window.refonlyLoad).
// The studio does not load this file. The zones' side of it is in refonly.js (window.refonlyGive).
(() => {
  "use strict";
  const TABS = ["txt2img", "img2img"];
  const LISTED = 1500; // ms
  const GALLERIES = ["txt2img", "img2img", "extras"];
  const STYLE = `.gradio-container.gradio-container {
    .refonly-button { padding: 4px 12px; font-size: 13px; line-height: 1.5; cursor: pointer; border-radius: 6px; color: var(--button-secondary-text-color); background: var(--button-secondary-background-fill); border: 1px solid var(--border-color-primary); }
    .refonly-button:hover { background: var(--button-secondary-background-fill-hover); border-color: var(--color-accent); }
    .refonly-send { display: flex; flex-wrap: wrap; gap: 6px; margin: 4px 0; }
    .refonly-send .refonly-button { padding: 1px 10px; font-size: 12px; }
    .image-buttons + .refonly-send { justify-content: center; }
    .refonly-zone:not(:has(img)) + .refonly-send, [id$="_results_panel"]:not(:has(.gradio-gallery img)) .refonly-send { display: none; }
  }`;
  const byId = (id) => document.getElementById(id);

  async function fileFrom(source, name) {
    const picture = await (await fetch(source)).blob();
    return new File([picture], `${name}.${picture.type.split("/")[1] ?? "png"}`, { type: picture.type });
  }

  // --- the panel of a tab ------------------------------------------------------------------------------------------------------------------
  const zoneOf = (tab, part) => byId(`refonly-${tab}-${part === "drawing" ? "drawing" : "unit-1-picture"}`);

  function showPanel(tab) {
    window[`switch_to_${tab}`]?.();
    const panel = byId(`refonly-${tab}-panel`);
    if (panel?.visibleCheckbox && window.inputAccordionChecked) {
      window.inputAccordionChecked(panel.id, true);
    } else {
      const box = document.querySelector(`#refonly-${tab}-panel-checkbox input`);
      if (box && !box.checked) box.click();
    }
    panel?.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  async function toPanel(tab, part, source) {
    showPanel(tab);
    await window.refonlyGive?.(zoneOf(tab, part), await fileFrom(source, part));
  }

  async function toImg2img(source, name) {
    window.switch_to_img2img?.();
    const place = byId("img2img_image");
    if (place) await window.refonlyGive?.(place, await fileFrom(source, name));
  }

  // --- the ONE-PIC page -------------------------------------------------------------------------------------------------------------------
  const composer = () => byId("refonly-onepic-composer");

  function showComposer() {
    const name = window.localization?.["ONE-PIC"] ?? "ONE-PIC";
    const tabs = document.querySelectorAll('#tabs > .tab-nav > button, #tabs [role="tab"]');
    [...tabs].find((tab) => ["ONE-PIC", name].includes(tab.textContent.trim()))?.click();
  }

  const addressOf = (picture) => new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(picture);
  });

  // Into the first panel that is free; where none is, into the first that is not painted.
  async function toCanvas(source) {
    showComposer();
    const panels = window.refonlyOnePic.state(composer()).panels;
    const context = panels.map((panel, place) => ({ ...panel, place })).filter((panel) => panel.role === "context");
    const panel = context.find((one) => !one.picture) ?? context[0];
    if (panel) await window.refonlyOnePic.setPicture(composer(), panel.place + 1, await addressOf(await fileFrom(source, "panel")));
  }

  function write(id, text) {
    const field = byId(id)?.querySelector("textarea, input");
    if (!field) return;
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // What the page sends: the canvas, and what belongs into a tab's own fields.
  window.refonlyParcel = (text) => {
    const { tab, canvas, fields } = JSON.parse(text);
    write(`refonly-${tab}-canvas`, canvas);
    for (const [name, said] of Object.entries(fields)) if (said) write(`${tab}_${name}`, said);
    window[`switch_to_${tab}`]?.();
    byId(`refonly-${tab}-canvas-row`)?.scrollIntoView({ block: "nearest" });
  };

  // --- where a picture comes from ----------------------------------------------------------------------------------------------------------
  function chosenIn(gallery) {
    const box = byId(`${gallery}_gallery`);
    const picture = box?.querySelector(".thumbnail-item.selected img") ?? box?.querySelector(".preview img") ?? box?.querySelector("img");
    return picture?.src;
  }

  async function trySample(card, tab) {
    const source = (role) => card.querySelector(`[data-refonly-role="${role}"]`).src;
    await toPanel(tab, "reference", source("reference"));
    await toPanel(tab, "drawing", source("drawing"));
    if (tab === "img2img") await toImg2img(source("drawing"), "drawing");
    // Where the example checkpoint is chosen it is the built-in model that paints, which knows one size.
    const { refonlyCheckpoint: name, refonlySide: side } = card.parentElement.dataset;
    const chosen = document.querySelector("#setting_sd_model_checkpoint input, .model_selection input")?.value ?? "";
    if (chosen.includes(name)) for (const edge of ["width", "height"]) write(`${tab}_${edge}`, side);
  }

  // --- buttons -----------------------------------------------------------------------------------------------------------------------------
  function row(...buttons) {
    const made = document.createElement("div");
    made.className = "refonly-send";
    for (const [text, act] of buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "refonly-button";
      button.textContent = text;
      button.addEventListener("click", act);
      made.append(button);
    }
    return made;
  }

  function addAfter(place, ...buttons) {
    if (place && !place.nextElementSibling?.classList.contains("refonly-send")) place.after(row(...buttons));
  }

  function underGallery(gallery) {
    const tab = gallery === "img2img" ? "img2img" : "txt2img";
    const send = (part) => () => {
      const source = chosenIn(gallery);
      if (source) toPanel(tab, part, source);
    };
    addAfter(byId(`image_buttons_${gallery}`), ["→ RefOnly reference", send("reference")], ["→ RefOnly drawing", send("drawing")], ["→ ONE-PIC", () => {
      const source = chosenIn(gallery);
      if (source) toCanvas(source);
    }]);
  }

  function underZone(zone, name) {
    addAfter(zone, [`${name} → img2img`, () => {
      const source = zone.querySelector("img")?.src;
      if (source) toImg2img(source, name);
    }]);
  }

  // Forge's list of checkpoints knows what there was when the page was built, and takes nothing else.
  window.refonlyLoad = (checkpoint) => {
    const anew = byId("forge_refresh_checkpoint");
    if (!anew) return window.selectCheckpoint?.(checkpoint);
    anew.click();
    setTimeout(() => window.selectCheckpoint?.(checkpoint), LISTED);
  };

  function addButtons() {
    if (!byId("refonly-send-style")) {
      const style = document.createElement("style");
      style.id = "refonly-send-style";
      style.textContent = STYLE;
      document.head.append(style);
    }
    GALLERIES.forEach(underGallery);
    underZone(byId("refonly-onepic-picture"), "result");
    for (const tab of TABS) {
      underZone(byId(`refonly-${tab}-drawing`), "drawing");
      document.querySelectorAll(`[id^="refonly-${tab}-unit-"][id$="-picture"]`).forEach((zone) => underZone(zone, "reference"));
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-refonly-try], [data-refonly-load]");
    if (!button) return;
    if (button.dataset.refonlyTry) trySample(button.closest(".refonly-sample"), button.dataset.refonlyTry);
    else window.refonlyLoad(button.dataset.refonlyLoad);
  });

  window.onUiLoaded?.(addButtons);
  window.onAfterUiUpdate?.(addButtons);
})();
