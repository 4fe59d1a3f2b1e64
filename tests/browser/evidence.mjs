// What a page of this evidence must show, worked out from the artifacts themselves and not by Proctor.
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const read = (dir) => {
  const text = (name) => readFileSync(join(dir, name), "utf8");
  const report = JSON.parse(text("report.json"));
  const events = text("events.normalized.jsonl").trimEnd().split("\n").map((line) => JSON.parse(line));
  return { dir, report, events, text, page: join(dir, "report.html") };
};

// RFC 3339 with microseconds.
const micros = (time) => Date.parse(`${time.slice(0, 19)}Z`) * 1000 + Number(time.slice(20, 26));
const seconds = (us) => `${us < 0 ? "−" : ""}${Math.trunc(Math.abs(us) / 1e6)}.${String(Math.trunc(Math.abs(us) / 1e3) % 1000).padStart(3, "0")} s`;

export const timeline = ({ report, events }) =>
  events.map((one) => ({
    seq: String(one.seq), at: seconds(micros(one.ts) - micros(report.run_start)), source: one.source, type: one.type, claim: one.trust === "claimed",
  }));

// By path: the rows of its diff, as [number before, number after, line].
export const diffs = (patch) => {
  const files = new Map();
  let rows = null, before = 0, after = 0, left = [0, 0];
  for (const line of patch.split("\n").slice(0, -1)) {
    if (left[0] + left[1] > 0) {
      const sign = line[0];
      rows.push([sign === "+" ? "" : String(before), sign === "-" ? "" : String(after), line]);
      if (sign !== "+") { before += 1; left[0] -= 1; }
      if (sign !== "-") { after += 1; left[1] -= 1; }
      continue;
    }
    const head = /^diff --git a\/(.*) b\/\1$/.exec(line);
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(line);
    if (head) files.set(head[1], (rows = files.get(head[1]) ?? []));
    else if (hunk) {
      [before, after] = [Number(hunk[1]), Number(hunk[3])];
      left = [Number(hunk[2] ?? 1), Number(hunk[4] ?? 1)];
      rows.push(["", "", line]);
    } else if (line.startsWith("\\ ")) rows.push(["", "", line]);
  }
  return files;
};

export const occurrences = (text, word) => text.toLowerCase().split(word.toLowerCase()).length - 1;
