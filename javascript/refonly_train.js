// The Train page: a finished file is tried where it is used; and looks at jobs that run, under a gradio that has no timer.
(() => {
  "use strict";
  const SECONDS = 2;
  const LATER = 3000; // ms
  const byId = (id) => document.getElementById(id);

  function write(id, text) {
    const field = byId(id)?.querySelector("textarea, input");
    if (!field) return;
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // What was tried before makes room for what is tried now; what else stands in the prompt stays.
  let tried = "";
  function intoPrompt(tab, text) {
    const field = byId(`${tab}_prompt`)?.querySelector("textarea, input");
    if (!field) return;
    const rest = (tried ? field.value.replace(tried, "") : field.value).trim().replace(/^,|,$/g, "").trim();
    tried = text;
    write(`${tab}_prompt`, rest.includes(text) ? rest : [text, rest].filter(Boolean).join(", "));
  }

  function showPage(title) {
    const name = window.localization?.[title] ?? title;
    const tabs = document.querySelectorAll('#tabs > .tab-nav > button, #tabs [role="tab"], #studio-tabs [role="tab"]');
    [...tabs].find((tab) => [title, name].includes(tab.textContent.trim()))?.click();
  }

  // The WebUI's own cards and its list of checkpoints.
  function listAnew() {
    document.querySelectorAll('[id$="_extra_refresh_internal"]').forEach((button) => button.click());
    byId("refresh_sd_model_checkpoint")?.click();
  }

  window.refonlyTry = (text) => {
    const { page, tab, prompt, checkpoint } = JSON.parse(text);
    if (page) showPage(page);
    if (checkpoint) {
      // While the WebUI lists its checkpoints anew it has none, and could not find the one that it is told to load.
      window.refonlyLoad?.(checkpoint);
      setTimeout(listAnew, LATER);
    } else listAnew();
    if (!tab) return;
    if (prompt) intoPrompt(tab, prompt);
    window[`switch_to_${tab}`]?.();
  };

  // A job may have been queued elsewhere since the page was last in sight. Where gradio has a timer, that looks at those that run.
  let seen = false;
  setInterval(() => {
    const poll = byId("refonly-train-poll");
    if (!poll || document.hidden) return;
    const shown = Boolean(byId("refonly-train-page")?.offsetParent);
    const busy = document.querySelector('#refonly-train-jobs :is([data-state="running"], [data-state="stopping"], [data-state="waiting"])');
    const timed = poll.closest(".refonly-train-timed") || poll.querySelector(".refonly-train-timed");
    if (shown && (!seen || (busy && !timed))) poll.click();
    seen = shown;
  }, SECONDS * 1000);
})();
