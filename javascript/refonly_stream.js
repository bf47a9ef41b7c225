// gradio from 4 on (6.31 too) takes its event stream for open until it has read the server's last word on it, "close_stream". What is asked for in between is
// never answered: the server has left, and the page asks for no new stream. The hidden button's event makes it ask for one, and the answer comes with it.
(() => {
  "use strict";
  const SOON = 300; // ms: the page may well ask by itself
  const ask = window.fetch;
  let stream = null; // the one the page listens to, and whether something was asked for meanwhile

  function listening(signal) {
    const mine = { asked: false };
    stream = mine;
    signal?.addEventListener("abort", () => {
      if (stream === mine) stream = null;
      if (mine.asked) setTimeout(() => stream ?? document.getElementById("refonly-listen")?.click(), SOON);
    });
  }

  window.fetch = async (what, how) => {
    const address = String(what.url ?? what);
    if (address.includes("/queue/data?")) listening(how?.signal ?? what.signal);
    const answer = await ask.call(window, what, how);
    if (stream && address.includes("/queue/join?")) stream.asked = true;
    return answer;
  };
})();
