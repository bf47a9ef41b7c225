// The RefOnly panels' page script: dropping and pasting pictures anywhere on a zone, and the before/after slider.
// Keyboard shortcuts and the theme button belong to the studio alone: a WebUI has its own.
(() => {
  "use strict";
  const ZONE = ".refonly-zone";
  const FILES = '[data-testid="file-upload"], [aria-dropeffect]';
  const studio = () => document.getElementById("studio-header");

  // --- pictures into zones -----------------------------------------------------------------------------------------------------------------
  let lastZone = null;

  const pictureIn = (transfer) => [...(transfer?.files ?? [])][0] ?? null;

  // A zone that shows a picture has no file input of its own until it is emptied; gradio brings it back then.
  async function give(zone, file) {
    let input = zone.querySelector('input[type="file"]');
    if (!input) {
      const clear = zone.querySelector('button[aria-label="Remove Image"], button[aria-label="Clear"]');
      clear?.click();
      for (let i = 0; i < 40 && !input; i++) {
        await new Promise((done) => setTimeout(done, 25));
        input = zone.querySelector('input[type="file"]');
      }
    }
    if (!input) return;
    const held = new DataTransfer();
    held.items.add(file);
    input.files = held.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  window.refonlyGive = give; // for refonly_send.js

  // On the Styles page a picture may be dropped anywhere: the zone for share cards reads it.
  function zoneAt(event) {
    const target = event.target instanceof Element ? event.target : null;
    return target?.closest(ZONE) ?? (event.type.startsWith("dr") && target?.closest("#refonly-styles") && !target.closest(FILES)
      ? document.querySelector("#refonly-styles-read-zone") : null);
  }

  function dragged(event) {
    if (!event.dataTransfer) return;
    const zone = zoneAt(event);
    document.querySelectorAll(".refonly-over").forEach((one) => one !== zone && one.classList.remove("refonly-over"));
    zone?.classList.add("refonly-over");
    if (zone || studio()) event.preventDefault(); // a file dropped beside a zone must not replace the page
  }

  function dropped(event) {
    document.querySelectorAll(".refonly-over").forEach((one) => one.classList.remove("refonly-over"));
    const zone = zoneAt(event);
    const file = pictureIn(event.dataTransfer);
    if (zone && file) {
      event.preventDefault();
      event.stopImmediatePropagation();
      give(zone, file);
    } else if (zone || (studio() && !event.target.closest?.(FILES))) {
      event.preventDefault();
    }
  }

  function visible(zone) {
    return zone && zone.offsetParent !== null;
  }

  function pasted(event) {
    const file = pictureIn(event.clipboardData);
    if (!file || !file.type.startsWith("image/")) return;
    const zones = [...document.querySelectorAll(ZONE)].filter(visible);
    const empty = zones.find((zone) => zone.querySelector('input[type="file"]') && !zone.querySelector("img"));
    const zone = zones.includes(lastZone) ? lastZone : studio() ? empty : null;
    if (!zone) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    give(zone, file);
  }

  const remember = (event) => { lastZone = zoneAt(event); };

  document.addEventListener("dragover", dragged, true);
  document.addEventListener("drop", dropped, true);
  document.addEventListener("paste", pasted, true);
  document.addEventListener("pointerover", remember, true);
  document.addEventListener("focusin", remember, true);

  // --- before / after ----------------------------------------------------------------------------------------------------------------------
  document.addEventListener("input", (event) => {
    const compare = event.target.closest?.(".refonly-compare");
    if (compare) compare.style.setProperty("--cut", `${event.target.value}%`);
  });

  // --- the studio's keys and theme ---------------------------------------------------------------------------------------------------------
  const shown = (...ids) => ids.map((id) => document.getElementById(id)).find((one) => one && one.offsetParent !== null && !one.disabled);

  const STYLE_STOPS = ["", "-make", "-mix", "-explore", "-compare"].map((part) => `refonly-styles${part}-stop`);

  document.addEventListener("keydown", (event) => {
    if (!studio()) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      shown("refonly-go", "refonly-styles-go", "refonly-onepic-go", "refonly-batch-go")?.click();
    } else if (event.key === "Escape") {
      shown("refonly-stop", "refonly-onepic-stop", "refonly-batch-stop", ...STYLE_STOPS)?.click();
    }
  });

  // On a narrow screen the result stands below the pictures: bring it into view when painting begins.
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#refonly-go")) return;
    const result = document.getElementById("refonly-result");
    const box = result?.getBoundingClientRect();
    if (!box || (box.top >= 0 && box.top < innerHeight / 2)) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    result.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  });

  const THEME = "refonly-theme";
  function setTheme(dark) {
    document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    const button = document.getElementById("studio-theme");
    button?.setAttribute("aria-pressed", String(dark));
    if (button) button.textContent = dark ? "Light" : "Dark";
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#studio-theme")) return;
    const dark = !document.body.classList.contains("dark");
    localStorage.setItem(THEME, dark ? "dark" : "light");
    setTheme(dark);
  });

  // gradio builds the page late: wait for our header, once.
  const arrived = new MutationObserver(() => {
    if (!studio()) return;
    arrived.disconnect();
    const chosen = localStorage.getItem(THEME);
    setTheme(chosen ? chosen === "dark" : document.body.classList.contains("dark"));
  });
  arrived.observe(document.documentElement, { childList: true, subtree: true });
})();
