// `node whole.mjs EVIDENCE [LOG WORD]`: a page of ordinary evidence says what the artifacts say, its tools work, it can
// be read in the dark, on a phone, without scripts and with the keyboard, and it does nothing else.
import assert from "node:assert/strict";
import { join } from "node:path";
import { launch, misdeeds, open } from "./browser.mjs";
import { diffs, occurrences, read, timeline } from "./evidence.mjs";

const [dir, word = "line"] = process.argv.slice(2);
const evidence = read(dir);
const { report } = evidence;
const shots = process.env.PROCTOR_TEST_SCREENSHOTS;
const browser = await launch();

// Everything that is compared, out of the page; scripts or none.
const shown = (page) => page.evaluate(() => {
  const text = (root, selector) => root.querySelector(selector)?.textContent ?? null;
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    title: document.title,
    verdict: text(document, "h1 .word"),
    blockers: all(".blocker").map((one) => [text(one, ".codeword"), text(one, ".message"), text(one, ".remedy")]),
    files: all(".file").map((one) => ({
      kind: text(one, ".kind"), name: text(one, ".name").trim(), meta: text(one, ".meta"), binary: text(one, ".stat").includes("binary"),
      plus: text(one, ".plus"), minus: text(one, ".minus"),
      rows: [...one.querySelectorAll("tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
      signs: [...one.querySelectorAll("tbody tr")].map((row) => row.className),
    })),
    events: all(".ev").map((one) => ({ seq: text(one, ".seq"), at: text(one, ".at"), source: text(one, ".src"), type: one.dataset.type, claim: one.querySelector(".claim") !== null })),
    typed: all(".ev").every((one) => text(one, ".type").startsWith(one.dataset.type)),
    phases: all(".row").filter((one) => one.querySelector(".phase")).map((one) => text(one, ".label")),
    logs: Object.fromEntries(all(".log").map((one) => [text(one, "h3"), [...one.querySelectorAll(".l")].map((line) => line.textContent)])),
    main: document.querySelector("main").textContent,
    order: all("h1, .blocker, h2").map((one) => one.className || one.id || one.tagName),
  };
});

const right = (page, said) => {
  assert.equal(said.verdict, report.status.toUpperCase());
  assert.ok(said.title.startsWith(`${said.verdict} ${report.run_id}`), said.title);
  assert.deepEqual(said.blockers, report.blockers.map((one) => [one.code, one.message, `What to do: ${one.remedy}`]));
  // Verdict first, then every blocker, then the rest.
  assert.equal(said.order[0], "H1");
  assert.equal(said.order.lastIndexOf("blocker") + 1, report.blockers.length ? report.blockers.length + 2 : 0);
  const patch = diffs(evidence.text("patch.diff"));
  assert.equal(said.files.length, report.changed_files.length);
  report.changed_files.forEach((change, place) => {
    const file = said.files[place];
    assert.equal(file.kind, change.kind);
    assert.ok(file.name.endsWith(change.path), file.name);
    for (const mode of [change.old_mode, change.new_mode].filter(Boolean)) assert.ok(file.meta.includes(mode), file.meta);
    if (change.not_in_patch) return;
    const rows = patch.get(change.path) ?? [];
    // The removal of a renamed file stands before its addition, unless it has an entry of its own.
    assert.deepEqual(file.rows.slice(-rows.length || file.rows.length), rows, change.path);
    assert.equal(file.binary, rows.length === 0 && evidence.text("patch.diff").includes(`b/${change.path}\n`) && evidence.text("patch.diff").split(`diff --git a/${change.path} `)[1].split("diff --git")[0].includes("GIT binary patch"));
    if (!file.binary) {
      const count = (sign) => file.rows.filter((row) => row[2].startsWith(sign) && row.some((cell, at) => at < 2 && cell)).length;
      assert.deepEqual([file.plus, file.minus], [`+${count("+")}`, `−${count("-")}`]);
      file.rows.forEach((row, at) => assert.equal(file.signs[at], row[0] || row[1] ? { "+": "a", "-": "d", " ": "" }[row[2][0]] : row[2].startsWith("@@") ? "h" : "m"));
    }
  });
  assert.deepEqual(said.events, timeline(evidence));
  assert.ok(said.typed && said.events.length === report.events.count);
  assert.deepEqual(said.phases, report.timings.map((one) => one.phase));
  for (const [name, lines] of Object.entries(said.logs)) {
    const plain = evidence.text(name).replace(/\x1b\[[0-9;]*m/g, "").split("\n").map((line) => line.replace(/\r(?=.)/g, "\\r\n").replace(/\r$/, "\\r"));
    assert.deepEqual(lines, plain.at(-1) === "" ? plain.slice(0, -1) : plain, name);
  }
  assert.ok(Object.keys(said.logs).includes("test.log") && Object.keys(said.logs).includes("backend.stdout.log"));
  for (const value of [report.freshness.nonce, report.base_commit, report.base_tree, report.profile.digest, report.host.kernel, report.events.last_hash, ...report.digest_manifest.filter((one) => !/^report\./.test(one.name)).map((one) => one.digest.sha256)]) {
    assert.ok(said.main.includes(value), value);
  }
  assert.ok(said.main.includes("digests without a signature show that the parts fit together, not where they come from"));
};

// Contrast of every text that is seen, by WCAG's formula: 4.5 at least.
const contrast = (page) => page.evaluate(() => {
  const parse = (colour) => { const n = colour.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), alpha: n[3] ?? 1 }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (element) => { for (let at = element; at; at = at.parentElement) { const { rgb, alpha } = parse(getComputedStyle(at).backgroundColor); if (alpha === 1) return rgb; } return [255, 255, 255]; };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName) || element.disabled || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color).rgb), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className} ${node.data.trim().slice(0, 30)}`);
  }
  return [...new Set(poor)].slice(0, 10);
});

const accessible = (page) => page.evaluate(() => {
  const wrong = [];
  const count = (selector) => document.querySelectorAll(selector).length;
  for (const one of ["main", "nav[aria-label]", "body > header", "body > footer", "h1"]) if (count(one) !== 1) wrong.push(`${count(one)} ${one}`);
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3")) { const n = Number(heading.tagName[1]); if (n > level + 1) wrong.push(`${heading.tagName} ${heading.textContent} after h${level}`); level = n; }
  for (const control of document.querySelectorAll("input, select")) if (!control.labels.length) wrong.push(`no label: ${control.id}`);
  for (const one of document.querySelectorAll("[tabindex]")) if (!one.getAttribute("aria-label")) wrong.push(`no name: ${one.className}`);
  for (const one of document.querySelectorAll("section")) if (!document.getElementById(one.getAttribute("aria-labelledby"))) wrong.push(`no name: ${one.id}`);
  for (const link of document.querySelectorAll("a")) if (!document.querySelector(link.getAttribute("href"))) wrong.push(`leads nowhere: ${link.href}`);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) wrong.push("an id twice");
  return wrong;
});

const tools = async (page) => {
  const visible = (selector) => page.evaluate((selector) => [...document.querySelectorAll(selector)].filter((one) => !one.hidden).length, selector);
  const said = () => page.textContent("#events-said");
  const { events } = evidence;
  const count = (test) => events.filter(test).length;
  for (const source of new Set(events.map((one) => one.source))) {
    await page.selectOption("#by-source", source);
    assert.equal(await visible(".ev"), count((one) => one.source === source));
    assert.ok((await said()).startsWith(String(count((one) => one.source === source))));
  }
  await page.selectOption("#by-source", "supervisor");
  await page.selectOption("#by-type", "artifact.written");
  assert.equal(await visible(".ev"), count((one) => one.source === "supervisor" && one.type === "artifact.written"));
  await page.selectOption("#by-source", "");
  await page.selectOption("#by-type", "");
  await page.check("#no-claims");
  assert.equal(await visible(".ev"), count((one) => one.trust !== "claimed"));
  await page.uncheck("#no-claims");
  assert.equal(await visible(".ev"), events.length);

  const logs = await page.evaluate(() => [...document.querySelectorAll(".l")].map((one) => one.textContent));
  const hits = logs.reduce((sum, line) => sum + occurrences(line, word), 0);
  const lines = logs.filter((line) => occurrences(line, word)).length;
  assert.ok(hits > 2, `the evidence has ${hits} of ${word}`);
  await page.fill("#find", word.toUpperCase());
  await page.waitForFunction((hits) => document.getElementById("find-said").textContent === `${hits} found`, hits);
  assert.equal(await page.evaluate(() => CSS.highlights.get("found").size), hits);
  const marked = await page.evaluate(() => [...CSS.highlights.get("found")].map((one) => one.toString().toLowerCase()));
  assert.ok(marked.every((text) => text === word.toLowerCase()), marked);
  await page.press("#find", "Enter");
  assert.equal(await page.textContent("#find-said"), `1 of ${hits}`);
  await page.click("#find-on");
  assert.equal(await page.textContent("#find-said"), `2 of ${hits}`);
  await page.press("#find", "Shift+Enter");
  await page.click("#find-back");
  assert.equal(await page.textContent("#find-said"), `${hits} of ${hits}`);
  assert.ok(await page.evaluate(() => { const at = document.querySelector(".l.on").getBoundingClientRect(); return at.top >= -1 && at.bottom <= innerHeight + 1; }), "what was found is seen");
  await page.check("#find-only");
  assert.equal(await visible(".l"), lines);
  await page.uncheck("#find-only");
  await page.fill("#find", "no such text anywhere");
  await page.waitForFunction(() => document.getElementById("find-said").textContent === "nothing found");
  await page.fill("#find", "");
  await page.waitForFunction(() => document.getElementById("find-said").textContent === "");
  assert.equal(await visible(".l"), logs.length);
};

for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    const opened = await open(browser, evidence.page, { scheme, width });
    const { page } = opened;
    right(page, await shown(page));
    assert.deepEqual(await accessible(page), []);
    assert.deepEqual(await contrast(page), [], scheme);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `wider than ${width}`);
    assert.ok(await page.evaluate(() => globalThis.__shift < 0.01), "it moves while it loads");
    if (shots) await page.screenshot({ path: join(shots, `${report.run_id}-${scheme}-${width}.png`), fullPage: true });
    if (scheme === "light") await tools(page);
    await page.evaluate(() => scrollTo(0, 0));
    await page.reload();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the report");
    assert.deepEqual(await misdeeds(opened), []);
    await opened.close();
  }
}

// Without scripts: everything is there, nothing of what needs them, and what is folded opens.
const still = await open(browser, evidence.page, { script: false });
right(still.page, await shown(still.page));
assert.equal(await still.page.locator(".tools:visible").count(), 0);
const fold = still.page.locator(".fold > summary").first();
await fold.click();
assert.ok(await still.page.locator(".fold table").first().isVisible());
// On paper: no tools, nothing behind a scroll bar.
await still.page.emulateMedia({ media: "print" });
assert.equal(await still.page.locator("nav:visible").count(), 0);
assert.ok(await still.page.evaluate(() => [...document.querySelectorAll(".lines, .scroll-y, .diff")].every((one) => one.scrollHeight <= one.clientHeight + 1)), "cut on paper");
assert.deepEqual(await misdeeds(still), []);
await still.close();
await browser.close();
console.log("whole");
