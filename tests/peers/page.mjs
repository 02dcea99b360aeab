// Looks at a page as a person would: node page.mjs CHROMIUM URL FOLDER AXE. Says on stdout what it saw, as JSON.
import fs from "node:fs";

import { axe, evaluate, frame, judged, open, order, picture, press, reached, report, scheme, seen, sideways, until } from "./browser.mjs";

async function look() {
  await open();
  await until("the page shows traffic", `Number(document.getElementById("traffic")?.dataset.edges) > 0 && document.querySelectorAll("#route-list tbody tr").length > 0`);
  await evaluate(`document.documentElement.style.scrollBehavior = "auto"`);
  await until("rates are known", `/[1-9]/.test(document.querySelector(".tile .value")?.innerText || "")`);
  const told = {
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
  told.keys = await reached();

  // The form, by keyboard.
  await evaluate(`document.getElementById("q-path").focus(); document.getElementById("q-path").select()`);
  await order("Input.insertText", { text: "/nowhere/../" });
  await press("Enter", 13, "\r");
  await until("the form is answered", `document.querySelector("#answer .verdict")`);
  told.answer = await evaluate(`document.getElementById("answer").innerText`);
  await evaluate(`document.getElementById("ask").scrollIntoView()`);
  await picture("ask-light");

  if (axe) {
    await evaluate(fs.readFileSync(axe, "utf8"));
    told.axe = { light: await judged() };
    await scheme("dark");
    told.axe.dark = await judged();
  }
  await scheme("dark");
  await evaluate("scrollTo(0, 0)");
  await picture("wide-dark");
  told.sideways = { 1440: await sideways() };
  for (const width of [360, 768]) {
    await frame(width, 780);
    await until("the drawing fits", `document.querySelector("#drawing svg")`);
    told.sideways[width] = await sideways();
    if (width === 360 && axe) told.axe.narrow = await judged();
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
  told.switched = [light, await evaluate(shade), await evaluate(`document.getElementById("theme").innerText`)];
  return told;
}

report(look);
