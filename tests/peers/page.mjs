// Looks at a page as a person would: node page.mjs CHROMIUM URL FOLDER AXE. Says on stdout what it saw, as JSON.
//
// Chromium is told what to do by its debugging protocol over two pipes. Scripts that come this way run whatever policy the page has.
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const [chromium, url, folder, axe] = process.argv.slice(2);
const PATIENCE = 30_000;
const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", "--disable-background-networking",
  `--user-data-dir=${path.join(folder, "profile")}`, "about:blank"];
const browser = spawn(chromium, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [orders, news] = [browser.stdio[3], browser.stdio[4]];
const waiting = new Map();
const seen = { errors: [], bytes: 0, elsewhere: [] };
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

function order(method, params = {}) {
  const id = ++last;
  const told = new Promise((done, failed) => waiting.set(id, { done, failed }));
  orders.write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
  return told;
}

async function evaluate(expression) {
  const { result, exceptionDetails } = await order("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || exceptionDetails.text);
  return result.value;
}

async function until(what, expression) {
  const end = Date.now() + PATIENCE;
  while (!(await evaluate(expression))) {
    if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE} ms; the page says ${await evaluate("document.body.innerText.slice(0, 3000)")}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

const frame = (width, height) => order("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
const scheme = (value) => order("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });

async function picture(name) {
  const { data } = await order("Page.captureScreenshot", { format: "png" });
  fs.writeFileSync(path.join(folder, `${name}.png`), Buffer.from(data, "base64"));
}

async function press(key, code, text) {
  const event = { key, code: key, windowsVirtualKeyCode: code, text };
  await order("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
  await order("Input.dispatchKeyEvent", { type: "keyUp", ...event, text: undefined });
}

// What the Tab key comes to, in order, until it is where it began.
async function reached() {
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

const judged = async () => (await evaluate(`axe.run(document, {resultTypes: ["violations"]})`)).violations
  .map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join(" | ")}`);

const sideways = () => evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");

async function look() {
  const { targetId } = await order("Target.createTarget", { url: "about:blank" });
  session = (await order("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await order(`${domain}.enable`);
  await frame(1440, 1000);
  await scheme("light");
  await order("Page.navigate", { url });
  await until("the page shows traffic", `Number(document.getElementById("traffic")?.dataset.edges) > 0 && document.querySelectorAll("#route-list tbody tr").length > 0`);
  await evaluate(`document.documentElement.style.scrollBehavior = "auto"`);
  await until("rates are known", `/[1-9]/.test(document.querySelector(".tile .value")?.innerText || "")`);
  const report = {
    title: await evaluate("document.title"),
    edges: await evaluate(`[...document.querySelectorAll("#edges tbody tr")].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))`),
    drawn: await evaluate(`[...document.querySelectorAll("#drawing .node title")].map((title) => title.textContent)`),
    routes: await evaluate(`document.getElementById("route-list").innerText`),
    certificates: await evaluate(`document.getElementById("certificate-list").innerText`),
    policies: await evaluate(`document.getElementById("policy-list").innerText`),
    proxies: await evaluate(`document.getElementById("proxy-list").innerText`),
    problems: await evaluate(`document.getElementById("problem-list").innerText`),
  };
  await picture("wide-light");
  report.keys = await reached();

  // The form, by keyboard.
  await evaluate(`document.getElementById("q-path").focus(); document.getElementById("q-path").select()`);
  await order("Input.insertText", { text: "/nowhere/../" });
  await press("Enter", 13, "\r");
  await until("the form is answered", `document.querySelector("#answer .verdict")`);
  report.answer = await evaluate(`document.getElementById("answer").innerText`);
  await evaluate(`document.getElementById("ask").scrollIntoView()`);
  await picture("ask-light");

  if (axe) {
    await evaluate(fs.readFileSync(axe, "utf8"));
    report.axe = { light: await judged() };
    await scheme("dark");
    report.axe.dark = await judged();
  }
  await scheme("dark");
  await evaluate("scrollTo(0, 0)");
  await picture("wide-dark");
  report.sideways = { 1440: await sideways() };
  for (const width of [360, 768]) {
    await frame(width, 780);
    await until("the drawing fits", `document.querySelector("#drawing svg")`);
    report.sideways[width] = await sideways();
    if (width === 360 && axe) report.axe.narrow = await judged();
    await picture(`${width}-dark`);
  }
  await frame(360, 780);
  await scheme("light");
  await picture("360-light");

  // Whoever is gone is said to be gone, until he is back. What the browser itself says of it is no error of the page.
  const before = seen.errors.length;
  const conditions = (offline) => order("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  const gone = `document.getElementById("gone").textContent`;
  await conditions(true);
  await until("it is said that nobody answers", `${gone}.startsWith("No answer since") && document.getElementById("state").innerText === "no answer"`);
  await conditions(false);
  await until("it goes on", `${gone} === ""`);
  seen.errors = seen.errors.slice(0, before).concat(seen.errors.slice(before).filter((text) => !text.includes("net::ERR_INTERNET_DISCONNECTED")));

  // The switch, against what the system prefers.
  const shade = `getComputedStyle(document.body).backgroundColor`;
  const light = await evaluate(shade);
  await evaluate(`document.getElementById("theme").click(); document.getElementById("theme").click()`);
  report.switched = [light, await evaluate(shade), await evaluate(`document.getElementById("theme").innerText`)];
  return report;
}

const ends = setTimeout(() => { console.log(JSON.stringify({ failed: "it takes too long", ...seen })); browser.kill("SIGKILL"); process.exit(1); }, 4 * PATIENCE);
look().then((report) => ({ ...report, ...seen }), (error) => ({ failed: String(error), ...seen })).then((report) => {
  console.log(JSON.stringify(report));
  clearTimeout(ends);
  browser.kill("SIGKILL");
  process.exit(report.failed ? 1 : 0);
});
