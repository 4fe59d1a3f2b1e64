// Opens one page in the browser as its readers would, and records whatever a page of evidence must not do: reach for
// anything but itself, break its own policy, run what is not its own, print an error, move while it is read.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
];

// The first of this name on PATH.
const found = () => {
  for (const dir of (process.env.PATH ?? "").split(delimiter)) {
    const file = join(dir || ".", "chromium");
    try { accessSync(file, constants.X_OK); return file; } catch { /* Not in this one. */ }
  }
  throw new Error("there is no chromium on PATH: install Debian's package chromium");
};

export const launch = () => chromium.launch({ executablePath: found(), args: FLAGS });

// `look`: width, scheme, script (false switches scripts off). Gives the page and what was recorded of it.
export const open = async (browser, file, look = {}) => {
  const url = pathToFileURL(file).href;
  const context = await browser.newContext({
    viewport: { width: look.width ?? 1280, height: 900 },
    colorScheme: look.scheme ?? "light",
    javaScriptEnabled: look.script ?? true,
    acceptDownloads: false,
  });
  const seen = { requests: [], problems: [] };
  await context.route("**/*", (route) => (route.request().url() === url ? route.continue() : route.abort()));
  await context.addInitScript(() => {
    globalThis.__broken = [];
    globalThis.__shift = 0;
    // Told at once: what ran may be gone with its page before anybody asks.
    let pwned = null;
    Object.defineProperty(globalThis, "pwned", { get: () => pwned, set: (value) => { pwned = value; console.debug("pwned"); } });
    addEventListener("securitypolicyviolation", (event) => globalThis.__broken.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
    new PerformanceObserver((list) => { for (const one of list.getEntries()) if (!one.hadRecentInput) globalThis.__shift += one.value; }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  context.on("page", (other) => seen.problems.push(`a window opened: ${other.url()}`));
  page.on("request", (request) => { if (request.url() !== url) seen.requests.push(request.url()); });
  page.on("framenavigated", (frame) => { if (frame !== page.mainFrame() || frame.url().split("#")[0] !== url) seen.problems.push(`went to ${frame.url()}`); });
  page.on("console", (message) => {
    if (message.type() === "debug" && message.text() === "pwned") seen.problems.push("ran: it says so");
    if (["error", "warning"].includes(message.type())) seen.problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => seen.problems.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { seen.problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("download", (download) => seen.problems.push(`download: ${download.url()}`));
  await page.goto(url, { waitUntil: "load" });
  return { page, seen, url, close: () => context.close() };
};

// What the page did that it must not have done.
export const misdeeds = async ({ page, seen }) => {
  const inside = await page
    .evaluate(() => ({ broken: globalThis.__broken ?? [], pwned: globalThis.pwned ?? null }))
    .catch((error) => ({ broken: [`gone: ${error.message}`], pwned: null }));
  const all = [...seen.requests.map((url) => `request: ${url}`), ...seen.problems, ...inside.broken.map((one) => `policy: ${one}`)];
  if (inside.pwned !== null) all.push(`ran: ${inside.pwned}`);
  return all;
};
