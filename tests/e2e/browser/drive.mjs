// node drive.mjs CHROMIUM: reads commands, a line of JSON each, does them with a page, and answers each with a line.
// Everything that the page complains of, and every request that it sends, is written down: `noise`.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const patience = 15_000;

const browser = await chromium.launch({
  executablePath: process.argv[2], headless: true,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb"],
});
let context = null;
let page = null;
let noise = null;

function listen() {
  noise = { console: [], errors: [], requests: [], violations: [], keys: [] };
  page.on("console", (said) => {
    if (["error", "warning"].includes(said.type())) noise.console.push(`${said.type()}: ${said.text()} (${said.location().url})`);
  });
  page.on("pageerror", (error) => noise.errors.push(String(error.stack ?? error)));
  page.on("request", (request) => {
    noise.requests.push(`${request.method()} ${request.url()}`);
    const key = request.headers().authorization;
    if (key) noise.keys.push(`${new URL(request.url()).pathname} ${key}`);
  });
}

/** In front of a gateway without keys: these paths are refused to those who have not this one. */
async function guard({ paths, key, status }) {
  await page.route((url) => paths.some((path) => url.pathname.startsWith(path)), (route) => {
    if (route.request().headers().authorization === `Bearer ${key}`) return route.continue();
    return route.fulfill({ status, contentType: "application/json", body: '{"error":"a key is needed here"}' });
  });
}

const commands = {
  /** A new page, in a context of its own. */
  async open({ url, width = 1280, height = 800, scheme = "light", scale = 1, motion = "reduce", guarded = null }) {
    await context?.close();
    context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, deviceScaleFactor: scale,
      reducedMotion: motion });
    page = await context.newPage();
    page.setDefaultTimeout(patience);
    listen();
    await page.exposeFunction("testsViolation", (what) => noise.violations.push(what));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (e) => globalThis.testsViolation(`${e.violatedDirective} ${e.blockedURI}`));
      globalThis.testsLongTasks = [];
      new PerformanceObserver((list) => {
        for (const task of list.getEntries()) globalThis.testsLongTasks.push(Math.round(task.duration));
      }).observe({ type: "longtask", buffered: true });
    });
    if (guarded) await guard(guarded);
    const response = await page.goto(url);
    return { status: response.status(), headers: response.headers() };
  },
  text: ({ at }) => page.locator(at).first().innerText(),
  texts: ({ at }) => page.locator(at).allInnerTexts(),
  attribute: ({ at, name }) => page.locator(at).first().getAttribute(name),
  count: ({ at }) => page.locator(at).count(),
  visible: ({ at }) => page.locator(at).first().isVisible(),
  enabled: ({ at }) => page.locator(at).first().isEnabled(),
  click: ({ at }) => page.locator(at).first().click(),
  fill: ({ at, text }) => page.locator(at).first().fill(text),
  choose: ({ at, value }) => page.locator(at).first().selectOption(value),
  press: ({ keys }) => page.keyboard.press(keys),
  type: ({ text }) => page.keyboard.type(text),
  value: ({ script }) => page.evaluate(script),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  scheme: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }),
  shot: ({ path, whole = false }) => page.screenshot({ path, fullPage: whole }).then(() => null),
  noise: () => noise,
  async axe() {
    await page.evaluate(axe);
    const found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})");
    return found.violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help,
      where: v.nodes.slice(0, 5).map((n) => `${n.target.join(" ")}: ${n.failureSummary}`) }));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...how } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command](how)) ?? null };
  } catch (error) {
    answer = { failed: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
