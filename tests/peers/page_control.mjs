// Looks at the page of a control plane: node page_control.mjs CHROMIUM URL FOLDER AXE. Says on stdout what it saw, as JSON.
import fs from "node:fs";

import { axe, evaluate, frame, judged, open, picture, report, scheme, sideways, until } from "./browser.mjs";

const text = (id) => evaluate(`document.getElementById("${id}").innerText`);

async function look() {
  await open();
  await until("it shows who holds certificates", `document.querySelectorAll("#control-list tbody tr").length > 2`);
  const told = {
    title: await evaluate("document.title"), who: await text("who"), control: await text("control-list"),
    sections: await evaluate(`[...document.querySelectorAll("main > section")].filter((one) => one.offsetParent).map((one) => one.id)`),
    links: await evaluate(`[...document.querySelectorAll(".sections a")].filter((one) => one.offsetParent).map((one) => one.hash)`),
  };
  await picture("control-light");
  if (axe) {
    await evaluate(fs.readFileSync(axe, "utf8"));
    told.axe = await judged();
    await scheme("dark");
    told.axe.push(...await judged());
  }
  await picture("control-dark");
  await frame(360, 780);
  await until("it fits", "innerWidth === 360");
  told.sideways = await sideways();
  if (axe) told.axe.push(...await judged());
  await picture("control-360");
  return told;
}

report(look);
