"use strict";
// Search in the logs and filters of the events. It reads the page and hides or marks parts of it; it writes no markup,
// and keeps and sends nothing. Where it does not run everything is there, unfiltered.
(() => {
  const $ = (id) => document.getElementById(id);
  for (const tools of document.querySelectorAll("[data-tool]")) tools.hidden = false;

  const events = [...document.querySelectorAll(".ev")];
  const source = $("by-source"), type = $("by-type"), noClaims = $("no-claims"), said = $("events-said");
  const filter = () => {
    let shown = 0;
    for (const event of events) {
      const { source: from, type: kind, claim } = event.dataset;
      const hide = (source.value && from !== source.value) || (type.value && kind !== type.value) || (noClaims.checked && claim !== undefined);
      event.hidden = Boolean(hide);
      if (!hide) shown += 1;
    }
    said.textContent = shown === events.length ? `${shown} shown` : `${shown} of ${events.length} shown`;
  };
  if (source) for (const control of [source, type, noClaims]) control.addEventListener("change", filter);
  // A browser that comes back to the page may have kept what was chosen.
  if (source) filter();

  const find = $("find"), back = $("find-back"), on = $("find-on"), only = $("find-only"), result = $("find-said");
  if (find) {
    const logs = [...document.querySelectorAll(".log")].map((log) => ({ log, lines: [...log.querySelectorAll(".l")], said: log.querySelector(".hits") }));
    const MOST = 5000;
    let hits = [], total = 0, at = -1, timer = 0;
    // Where in the text nodes below a line a part of its text is.
    const range = (line, start, end) => {
      const walk = document.createTreeWalker(line, NodeFilter.SHOW_TEXT), made = new Range();
      let place = 0, begun = false;
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const after = place + node.data.length;
        if (!begun && start < after) { made.setStart(node, start - place); begun = true; }
        if (begun && end <= after) { made.setEnd(node, end - place); return made; }
        place = after;
      }
      return begun ? made : null;
    };
    const mark = (name, ranges) => {
      if (!("highlights" in CSS)) return;
      if (ranges.length) CSS.highlights.set(name, new Highlight(...ranges)); else CSS.highlights.delete(name);
    };
    const show = (step) => {
      for (const line of document.querySelectorAll(".l.on")) line.classList.remove("on");
      const more = total > hits.length ? `, the first ${hits.length} can be gone through` : "";
      back.disabled = on.disabled = hits.length === 0;
      if (hits.length === 0) { mark("current", []); result.textContent = find.value ? "nothing found" : ""; return; }
      if (step !== 0) {
        at = (at + step + hits.length) % hits.length;
        const hit = hits[at];
        hit.log.open = true;
        hit.line.classList.add("on");
        mark("current", hit.range ? [hit.range] : []);
        hit.line.scrollIntoView({ block: "nearest", behavior: "instant" });
      } else mark("current", []);
      result.textContent = at < 0 ? `${total} found${more}` : `${at + 1} of ${total}${more}`;
    };
    const search = () => {
      const wanted = find.value.toLowerCase();
      hits = []; total = 0; at = -1;
      for (const { log, lines, said: count } of logs) {
        let here = 0;
        for (const line of lines) {
          let found = 0;
          if (wanted) {
            const text = line.textContent.toLowerCase();
            for (let place = text.indexOf(wanted); place >= 0; place = text.indexOf(wanted, place + wanted.length)) {
              found += 1;
              // Lower case can be longer: then the line is marked as a whole, by its ground.
              const exact = text.length === line.textContent.length;
              if (hits.length < MOST) hits.push({ log, line, range: exact ? range(line, place, place + wanted.length) : null });
            }
          }
          line.hidden = Boolean(wanted && only.checked && !found);
          here += found;
        }
        total += here;
        count.textContent = wanted ? `${here} found` : "";
      }
      mark("found", hits.map((hit) => hit.range).filter(Boolean));
      show(0);
    };
    const later = () => { clearTimeout(timer); timer = setTimeout(search, 120); };
    find.addEventListener("input", later);
    only.addEventListener("change", search);
    find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); clearTimeout(timer); if (at < 0) search(); show(event.shiftKey ? -1 : 1); }
    });
    back.addEventListener("click", () => show(-1));
    on.addEventListener("click", () => show(1));
    search();
  }

  // What is folded is printed, too.
  let folded = [];
  addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; for (const one of folded) one.open = true; });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; folded = []; });
})();
