// A browser that is told what to do, and says what it saw: Chromium by its debugging protocol over two pipes. Scripts that come this way
// run whatever policy the page has.
//
// node SCRIPT CHROMIUM URL FOLDER AXE
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

export const [chromium, url, folder, axe] = process.argv.slice(2);
export const PATIENCE = 30_000;
const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", "--disable-background-networking",
  `--user-data-dir=${path.join(folder, "profile")}`, "about:blank"];
const browser = spawn(chromium, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [orders, news] = [browser.stdio[3], browser.stdio[4]];
const waiting = new Map();
export const seen = { errors: [], bytes: 0, elsewhere: [] };
let last = 0;
let rest = "";

news.setEncoding("utf8");
news.on("data", (text) => {
  const parts = (rest + text).split("\0");
  rest = parts.pop();
  parts.map((part) => JSON.parse(part)).forEach(hear);
});

function hear({ id, result, error, method, params }) {
  if (id) {
    const { done, failed } = waiting.get(id);
    waiting.delete(id);
    return error ? failed(new Error(error.message)) : done(result);
  }
  if (method === "Runtime.exceptionThrown") seen.errors.push(params.exceptionDetails.exception?.description || params.exceptionDetails.text);
  if (method === "Runtime.consoleAPICalled" && params.type === "error") seen.errors.push(JSON.stringify(params.args));
  if (method === "Log.entryAdded" && params.entry.level === "error") seen.errors.push(`${params.entry.text} ${params.entry.url || ""}`);
  if (method === "Network.responseReceived") {
    if (!params.response.url.startsWith(url)) seen.elsewhere.push(params.response.url);
    if (/\.(js|css|svg)$|\/$/.test(params.response.url)) files.set(params.requestId, params.response.url);
  }
  if (method === "Network.loadingFinished" && files.has(params.requestId)) seen.bytes += params.encodedDataLength;
}

const files = new Map();
let session;

export function order(method, params = {}) {
  const id = ++last;
  const told = new Promise((done, failed) => waiting.set(id, { done, failed }));
  orders.write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
  return told;
}

export async function evaluate(expression) {
  const { result, exceptionDetails } = await order("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || exceptionDetails.text);
  return result.value;
}

export async function until(what, expression) {
  const end = Date.now() + PATIENCE;
  while (!(await evaluate(expression))) {
    if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE} ms; the page says ${await evaluate("document.body.innerText.slice(0, 3000)")}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

export const frame = (width, height) => order("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
export const scheme = (value) => order("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });

export async function picture(name) {
  const { data } = await order("Page.captureScreenshot", { format: "png" });
  fs.writeFileSync(path.join(folder, `${name}.png`), Buffer.from(data, "base64"));
}

export async function press(key, code, text) {
  const event = { key, code: key, windowsVirtualKeyCode: code, text };
  await order("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
  await order("Input.dispatchKeyEvent", { type: "keyUp", ...event, text: undefined });
}

// What the Tab key comes to, in order, until it is where it began.
export async function reached() {
  const all = [];
  await evaluate("document.body.focus(); document.activeElement.blur(); scrollTo(0, 0)");
  for (let number = 0; number < 120; number++) {
    await press("Tab", 9);
    const at = await evaluate(`(() => { const e = document.activeElement; return e === document.body ? "" : e.id || e.hash || e.getAttribute("aria-label") || e.tagName; })()`);
    if (!at || (all.length && at === all[0])) break;
    all.push(at);
  }
  return all;
}

export const judged = async () => (await evaluate(`axe.run(document, {resultTypes: ["violations"]})`)).violations
  .map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join(" | ")}`);

export const sideways = () => evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");

// A tab at the page.
export async function open() {
  const { targetId } = await order("Target.createTarget", { url: "about:blank" });
  session = (await order("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await order(`${domain}.enable`);
  await frame(1440, 1000);
  await scheme("light");
  await order("Page.navigate", { url });
}

// Writes what `look` reports, with what was seen meanwhile, as JSON on stdout.
export function report(look) {
  const ends = setTimeout(() => { console.log(JSON.stringify({ failed: "it takes too long", ...seen })); browser.kill("SIGKILL"); process.exit(1); }, 4 * PATIENCE);
  look().then((told) => ({ ...told, ...seen }), (error) => ({ failed: String(error), ...seen })).then((told) => {
    console.log(JSON.stringify(told));
    clearTimeout(ends);
    browser.kill("SIGKILL");
    process.exit(told.failed ? 1 : 0);
  });
}
