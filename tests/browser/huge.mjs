// `node huge.mjs EVIDENCE`: a page of more than it can hold is bounded, says what it left out, and its tools still work.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { launch, misdeeds, open } from "./browser.mjs";
import { read } from "./evidence.mjs";

const evidence = read(process.argv[2]);
const shots = process.env.PROCTOR_TEST_SCREENSHOTS;
assert.ok(statSync(evidence.page).size <= 8 * 1024 * 1024);
const browser = await launch();
for (const width of [1280, 390]) {
  const opened = await open(browser, evidence.page, { width });
  const { page } = opened;
  const said = await page.evaluate(() => ({
    events: document.querySelectorAll(".ev").length,
    first: document.querySelector(".ev .seq").textContent,
    last: [...document.querySelectorAll(".ev .seq")].at(-1).textContent,
    cuts: [...document.querySelectorAll(".cut")].map((one) => one.textContent),
    wide: document.documentElement.scrollWidth > innerWidth,
    bytes: [...document.querySelectorAll("#log-stdout .l")].reduce((sum, line) => sum + line.textContent.length + 1, 0),
  }));
  const { count } = evidence.report.events;
  assert.equal(said.first, "0");
  assert.equal(said.last, String(count - 1));
  const number = (pattern) => Number(said.cuts.map((one) => pattern.exec(one)).find(Boolean)?.[1]);
  assert.equal(number(/^(\d+) events between/), count - said.events);
  assert.ok(said.events < count && said.events >= 500, String(said.events));
  const log = evidence.text("backend.stdout.log");
  // ASCII, in short lines: what is shown and what is said to be left out is all of it.
  assert.equal(number(/^(\d+) bytes are left out here/) + said.bytes, log.length);
  assert.ok(number(/^(\d+) more rows of this diff/) > 0);
  assert.ok(!said.wide);
  await page.fill("#find", "done");
  await page.waitForFunction(() => / found/.test(document.getElementById("find-said").textContent));
  assert.deepEqual(await misdeeds(opened), []);
  if (shots) await page.screenshot({ path: join(shots, `huge-${width}.png`) });
  await opened.close();
}
await browser.close();
console.log("huge");
