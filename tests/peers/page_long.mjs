// Looks at a page that has much to show: node page_long.mjs CHROMIUM URL FOLDER AXE. Says on stdout what it saw, as JSON.
import fs from "node:fs";

import { axe, evaluate, frame, judged, open, order, picture, press, report, scheme, sideways, until } from "./browser.mjs";

const rows = (id) => evaluate(`document.querySelectorAll("#${id} tbody tr, #${id} .problems li").length`);
const count = (id) => evaluate(`document.querySelector("#${id} .bar p").innerText`);
const groups = () => evaluate(`document.querySelectorAll("#route-list article").length`);
const boxes = () => evaluate(`[...document.querySelectorAll("#drawing .node")].map((node) => [node.getAttribute("class").trim(), node.querySelector("title").textContent])`);

async function write(id, text) {
  await evaluate(`document.getElementById("${id}").focus(); document.getElementById("${id}").select()`);
  if (text) await order("Input.insertText", { text });
  else await press("Backspace", 8);
}

// Presses the button of a list by keyboard.
async function more(id) {
  await evaluate(`document.querySelector("#${id} > button.more").focus()`);
  await press("Enter", 13, "\r");
}

async function look() {
  await open();
  await until("the page shows traffic", `document.querySelectorAll("#edges tbody tr").length > 10 && document.querySelectorAll("#route-list article").length > 0`);
  await until("problems are there", `document.querySelectorAll("#problem-list li").length > 0`);
  await evaluate(`document.documentElement.style.scrollBehavior = "auto"`);
  await until("rates are known", `/[1-9]/.test(document.querySelector(".tile .value")?.innerText || "")`);
  const told = { edges: [await rows("edges")], count: [await count("edges")], boxes: await boxes(), folded: await evaluate(`document.getElementById("folded").innerText`) };
  await picture("long-light");
  await more("edges");
  told.edges.push(await rows("edges"));
  // What was wanted stays while it is told anew.
  const before = await evaluate(`document.querySelector("#edges tbody").innerText`);
  await until("it is told anew", `document.querySelector("#edges tbody").innerText !== ${JSON.stringify(before)}`);
  told.edges.push(await rows("edges"));
  await write("edges-words", "w-123 shop");
  await until("the words are followed", `document.querySelectorAll("#edges tbody tr").length < 20`);
  told.found = { edges: await evaluate(`document.querySelector("#edges tbody").innerText`), boxes: (await boxes()).length, status: await count("edges"),
    focus: await evaluate(`document.activeElement.id`) };
  await write("edges-words", "nobody-has-this");
  await until("nobody is found", `document.querySelectorAll("#edges tbody tr").length === 0`);
  told.found.none = await count("edges");
  await write("edges-words", "");
  await until("all are back", `document.querySelectorAll("#edges tbody tr").length > 20`);

  told.problems = [await rows("problem-list"), await count("problem-list")];
  for (let at = 0; at < 4; at++) await more("problem-list");
  await until("more than one answer holds", `document.querySelectorAll("#problem-list li").length > 200`);
  told.problems.push(await rows("problem-list"));
  await write("problem-list-words", "vs-0499");
  await until("the last one is found", `document.querySelectorAll("#problem-list li").length === 1`);
  told.problems.push(await evaluate(`document.querySelector("#problem-list li").innerText`));

  told.routes = [await groups()];
  await more("route-list");
  await until("more groups", `document.querySelectorAll("#route-list article").length > ${told.routes[0]}`);
  await write("route-list-words", "h-0333");
  await until("the group is found", `document.querySelectorAll("#route-list article").length === 1`);
  told.routes.push(await evaluate(`document.querySelector("#route-list article").innerText`));
  await evaluate(`document.querySelector("#route-list article button.more").click()`);
  await until("all of its routes", `document.querySelectorAll("#route-list article tbody tr").length === 60`);

  if (axe) {
    await evaluate(fs.readFileSync(axe, "utf8"));
    told.axe = [await judged()];
    await scheme("dark");
    told.axe.push(...await judged());
  }
  await evaluate("scrollTo(0, 0)");
  await picture("long-dark");
  told.sideways = [await sideways()];
  await frame(360, 780);
  await until("the drawing fits", `document.querySelector("#drawing svg")`);
  told.sideways.push(await sideways());
  await picture("long-360");
  await frame(768, 1000);
  await evaluate(`document.getElementById("problems").scrollIntoView()`);
  await picture("long-768-problems");
  return told;
}

report(look);
