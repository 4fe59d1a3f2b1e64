// `node inert.mjs inert|live PAGE [EVIDENCE]`: of a page full of payloads nothing runs, loads or leads anywhere, whatever
// is pressed. `live` is the proof that it would: the same payloads in a page that escapes nothing do run in this browser.
import assert from "node:assert/strict";
import { join } from "node:path";
import { launch, misdeeds, open } from "./browser.mjs";
import { read } from "./evidence.mjs";

const [kind, file, dir] = process.argv.slice(2);
const shots = process.env.PROCTOR_TEST_SCREENSHOTS;
const browser = await launch();

if (kind === "live") {
  const opened = await open(browser, file);
  await opened.page.waitForTimeout(200);
  const all = await misdeeds(opened);
  const found = (what) => assert.ok(all.some((one) => one.startsWith(what)), `${what}: ${all.join("\n")}`);
  found("ran: ");
  found("request: http://evil.example/");
  await browser.close();
  console.log("live");
  process.exit(0);
}

for (const look of [{}, { width: 390, scheme: "dark" }, { script: false }]) {
  const opened = await open(browser, file, look);
  const { page } = opened;
  const made = await page.evaluate(() => {
    const count = (selector) => document.querySelectorAll(selector).length;
    const attributes = new Set();
    for (const one of document.querySelectorAll("*")) for (const { name } of one.attributes) attributes.add(name);
    return {
      scripts: count("script"), styles: count("style, link"), strange: count("img, iframe, object, embed, base, form, video, audio, foreignObject, animate, use, image, template, noscript, math"),
      links: [...document.querySelectorAll("[href], [src], [action], [formaction], [data], [srcdoc], [ping]")].map((one) => one.getAttribute("href") ?? "something else"),
      refresh: [...document.querySelectorAll("meta[http-equiv]")].map((one) => one.httpEquiv.toLowerCase()),
      handlers: [...attributes].filter((name) => name.startsWith("on") || name === "style"),
      controls: [...document.body.textContent].filter((c) => /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff]/u.test(c)).length,
      shown: document.body.innerText,
      hidden: getComputedStyle(document.body).display,
    };
  });
  assert.equal(made.scripts, 1);
  assert.equal(made.styles, 1);
  assert.equal(made.strange, 0);
  assert.ok(made.links.length > 5 && made.links.every((to) => /^#[a-z-]+$/.test(to)), made.links);
  assert.deepEqual(made.refresh, ["content-security-policy"]);
  assert.deepEqual(made.handlers, []);
  assert.equal(made.controls, 0);
  assert.equal(made.hidden, "block");
  // The payloads are there to be read, every escape of theirs with them.
  for (const text of ["<script>window.pwned=", "<img src=http://evil.example/", "javascript:", "<meta http-equiv=refresh", "\\x1b]8;;http://evil.example/", "\\u{202e}", "m\\u{430}in.rs", "\\u{2028}", "\\u{301}\\u{301}"]) {
    assert.ok(made.shown.includes(text), text);
  }
  // Everything that can be pressed is pressed, and the pointer goes over everything.
  if (look.script !== false) {
    await page.evaluate(() => { for (const one of document.querySelectorAll("details")) one.open = true; });
    await page.evaluate(() => {
      for (const one of document.body.querySelectorAll("*")) {
        for (const kind of ["mouseover", "focus", "click", "toggle", "load", "error"]) one.dispatchEvent(new Event(kind, { bubbles: false }));
      }
    });
    for (const payload of ["<img src=http://evil.example/", "pwned", "\u{202e}"]) {
      await page.fill("#find", payload);
      await page.press("#find", "Enter");
    }
    await page.fill("#find", "");
  }
  await page.waitForTimeout(200);
  assert.deepEqual(await misdeeds(opened), []);
  assert.ok(page.url().split("#")[0] === opened.url);
  if (dir) {
    const { report } = read(dir);
    assert.equal(await page.textContent("h1 .word"), report.status.toUpperCase());
    assert.equal(await page.locator(".file").count(), report.changed_files.length);
    assert.equal(await page.locator(".ev").count(), report.events.count);
    assert.equal(await page.locator(".blocker").count(), report.blockers.length);
  }
  if (shots) await page.screenshot({ path: join(shots, `inert-${look.width ?? 1280}-${look.scheme ?? "light"}-${look.script ?? true}.png`), fullPage: true });
  await opened.close();
}
await browser.close();
console.log("inert");
