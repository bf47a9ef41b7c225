// gradio from 4 on (6.31 too) takes its event stream for open until it has read the server's last word on it. What is asked for in between is never answered:
// the server has left, and the page asks for no new stream. The hidden button's event makes it ask for one, and all answers come with it.
(() => {
  "use strict";
  const SOON = 300; // ms: the page may well ask by itself
  const ask = window.fetch;
  let [open, opened] = [0, 0]; // streams that the server is still writing; all there ever were
  let asked = false; // something, since the last one was opened

  function look() {
    const before = opened;
    setTimeout(() => {
      if (!open && opened === before) document.getElementById("refonly-listen")?.click();
    }, SOON);
  }

  async function follow(stream) {
    try {
      const reader = stream.body.getReader();
      while (!(await reader.read()).done);
    } catch { /* the page has hung up */ }
    open -= 1;
    if (asked) look();
  }

  window.fetch = async (what, how) => {
    const address = String(what.url ?? what);
    const listens = address.includes("/queue/data?");
    if (listens) [open, opened, asked] = [open + 1, opened + 1, false];
    try {
      const answer = await ask.call(window, what, how);
      if (listens) follow(answer.clone());
      else if (address.includes("/queue/join?")) {
        asked = true;
        look();
      }
      return answer;
    } catch (error) {
      if (listens) open -= 1;
      throw error;
    }
  };
})();
