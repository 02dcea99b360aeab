// Asks for what there is, and shows it.

import { controls } from "./control.js";
import { fold } from "./fold.js";
import { draw } from "./graph.js";
import { fits, reach, wanted } from "./listing.js";
import { h, whole } from "./parts.js";
import * as sections from "./sections.js";
import { Traffic } from "./traffic.js";

const EVERY = 2000;
const SOON = 700;
// What one answer of the server has at most, of routes and of problems.
const PART = 200;
const at = (id) => document.getElementById(id);

const traffic = new Traffic();
const tags = new Map();
const known = new Map();
let last = null;
let paused = false;
let timer = 0;
let lost = null;
let rounds = 0;

// The JSON of a page; what has not changed is not sent again.
async function get(path) {
  const headers = tags.has(path) ? { "If-None-Match": tags.get(path) } : {};
  const reply = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (reply.status === 304) return known.get(path);
  if (!reply.ok) throw new Error((await reply.text()).trim() || `it answers ${reply.status}`);
  const told = await reply.json();
  if (tags.size > 50) { tags.clear(); known.clear(); }
  const tag = reply.headers.get("etag");
  if (tag) { tags.set(path, tag); known.set(path, told); }
  return told;
}

async function look() {
  clearTimeout(timer);
  if (paused || document.hidden) return;
  try {
    const told = await get("/overview");
    found();
    show(told);
    await Promise.all([showRoutes(), showProblems()]);
  } catch (error) {
    lose(error);
  }
  rounds += 1;
  timer = setTimeout(look, rounds < 2 ? SOON : EVERY);
}

function lose(error) {
  if (!lost) {
    lost = new Date();
    document.body.classList.add("stale");
    const why = error instanceof TypeError || error.name === "TimeoutError" ? "" : ` (${error.message})`;
    at("gone").textContent = `No answer since ${lost.toLocaleTimeString()}${why}. What you see is what was told last; it is asked again.`;
  }
  state("bad", "no answer");
}

function found() {
  if (lost) {
    lost = null;
    document.body.classList.remove("stale");
    at("gone").textContent = "";
  }
}

function state(kind, words) {
  const pill = at("state");
  if (pill.textContent !== words) pill.textContent = words;
  pill.className = `pill ${kind}`;
}

function show({ proxies, left_out: leftOut, notes }) {
  last = proxies;
  const alive = proxies.filter((proxy) => !proxy.unreachable);
  const silent = proxies.length - alive.length;
  const unready = alive.filter((proxy) => !proxy.ready).length;
  if (silent) state("bad", `${silent} of ${proxies.length} silent`);
  else if (unready) state("warn", unready === 1 && proxies.length === 1 ? "not ready" : `${unready} not ready`);
  else state("good", proxies.length === 1 ? "ready" : `${proxies.length} ready`);
  const kind = proxies[0]?.kind || "";
  const one = proxies[0]?.name.includes(kind) ? proxies[0].name : `${kind} ${proxies[0]?.name}`;
  const who = proxies.length === 1 ? `${one} · version ${proxies[0].version || "?"}` : `a mesh of ${proxies.length} proxies${leftOut ? `, of ${whole(proxies.length + leftOut)}` : ""}`;
  if (at("who").textContent !== who) {
    at("who").textContent = who;
    document.title = `${proxies.length === 1 ? proxies[0].name : "Mesh"} · Sluice`;
  }
  const { edges, total } = traffic.observe(alive, performance.now());
  const doors = alive.flatMap((proxy) => proxy.doors || []);
  const nodes = nodesOf(alive, edges);
  sections.tiles(at("tiles"), total, traffic.history, `${whole(total.requests)} requests since the start`);
  at("traffic").dataset.edges = edges.length;
  seen = { nodes, edges, doors, leftOut: alive.reduce((sum, proxy) => sum + (proxy.traffic?.left_out || 0), 0) };
  showTraffic();
  sections.certificates(at("certificate-list"), proxies);
  sections.policies(at("policy-list"), proxies);
  sections.proxyList(at("proxy-list"), proxies, notes);
  controls(at("control-list"), proxies);
  parts(proxies);
  const wrong = alive.reduce((sum, proxy) => Math.max(sum, proxy.problem_counts?.error || 0), 0);
  at("problem-count").hidden = !wrong;
  at("problem-count").textContent = wrong ? whole(wrong) : "";
  choices(alive);
}

// A control plane serves no requests, and a proxy is no control plane.
function parts(proxies) {
  const serving = proxies.some((proxy) => proxy.kind !== "control");
  const issuing = proxies.some((proxy) => proxy.control);
  for (const [id, there] of [["tiles", serving], ["traffic", serving], ["routes", serving], ["ask", serving], ["problems", serving],
    ["certificates", serving], ["policies", serving], ["control", issuing]]) {
    at(id).hidden = !there;
    const link = links.get(id);
    if (link) link.parentElement.hidden = !there;
  }
}

let seen = null;
let busy = new Set();

// The table, and the drawing of what its words leave.
function showTraffic() {
  sections.edges(at("edges"), seen.edges, seen.doors, seen.leftOut, showTraffic);
  const words = wanted(at("edges"));
  const edges = words.length ? seen.edges.filter((edge) => fits(words, sections.edgeText(edge))) : seen.edges;
  const named = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  const nodes = words.length ? seen.nodes.filter((node) => named.has(node.id)) : seen.nodes;
  const few = fold(nodes, edges, at("drawing").clientWidth > 720 ? 28 : 12, busy);
  busy = few.kept;
  const fewer = few.hidden ? `Drawn are the ${nodes.length - few.hidden} busiest of ${whole(nodes.length)} workloads, with thin lines to the others, whom dashed boxes stand for. Words below draw whom they fit.`
    : words.length ? `Drawn is what has the words below: ${whole(nodes.length)} of ${whole(seen.nodes.length)} workloads.` : "";
  if (at("folded").textContent !== fewer) at("folded").textContent = fewer;
  drawing(few.nodes, few.edges);
}

function drawing(nodes, edges) {
  const target = at("drawing");
  target.hidden = !edges.length && nodes.length < 2;
  document.querySelector(".legend").hidden = target.hidden;
  if (!target.hidden) {
    const left = target.scrollLeft;
    if (!draw(target, nodes, edges)) target.scrollLeft = left;
  }
}

// Everybody who is named by an edge, and every proxy that has told of itself.
function nodesOf(proxies, edges) {
  const nodes = new Map();
  const kinds = new Map(proxies.map((proxy) => [proxy.name, proxy]));
  const enter = (id) => {
    if (nodes.has(id)) return;
    const proxy = kinds.get(id);
    const [namespace, name] = id.includes("/") ? id.split("/") : ["", id];
    const outside = id === "outside";
    const service = id.startsWith("service ");
    const kind = id === "clients" ? "clients" : outside || service ? "outside" : proxy?.kind === "gateway" ? "gateway" : "workload";
    const title = service ? id.slice(8) : outside ? "outside of the mesh" : name;
    const sub = service ? "no workload answered" : kind === "gateway" ? `gateway · ${namespace}` : namespace;
    nodes.set(id, { id, name: title, sub, kind, trouble: proxy && !proxy.ready });
  };
  for (const proxy of proxies) if (proxy.kind !== "control") enter(proxy.name);
  for (const edge of edges) { enter(edge.from); enter(edge.to); }
  return [...nodes.values()];
}

// What can be chosen; a choice that was made stays.
function choices(proxies) {
  const serving = proxies.filter((proxy) => (proxy.doors || []).length);
  const names = serving.map((proxy) => [proxy.target || proxy.name, proxy.name]);
  options(at("route-proxy"), names);
  options(at("q-proxy"), names);
  const chosen = serving.find((proxy) => (proxy.target || proxy.name) === at("q-proxy").value);
  const doors = chosen?.doors || [];
  const words = { gateway: "gateway port", inbound: "the workload, port", outbound: "a service (from the application), port" };
  options(at("q-door"), doors.map((door) => [`${door.side}:${door.port}`, `${words[door.side]} ${door.port}${door.tls ? ", TLS" : ""}`]));
  const door = doors.find((one) => `${one.side}:${one.port}` === at("q-door").value);
  const hosts = (door?.hosts || []).filter((host) => !host.includes("*"));
  options(at("hosts"), hosts.map((host) => [host, host]));
  if (!at("q-host").value && !at("q-host").dataset.touched && hosts.length) at("q-host").value = hosts[0];
}

function options(select, wanted) {
  const now = JSON.stringify(wanted);
  if (select.dataset.now === now) return;
  const before = select.value;
  select.dataset.now = now;
  select.replaceChildren(...wanted.map(([value, words]) => h("option", { value }, words)));
  if (wanted.some(([value]) => value === before)) select.value = before;
}

// As many parts of a long answer as somebody wants to see.
async function told(path, target, words, most) {
  const all = [];
  for (let from = 0; from < most; from += PART) {
    const part = await get(`${path}?${new URLSearchParams({ q: words, proxy: target, from })}`);
    all.push(part);
    if (!part.left_out) break;
  }
  return all;
}

async function showRoutes() {
  const target = at("route-proxy").value;
  const list = at("route-list");
  if (!target) return sections.routes(list, null);
  const answers = await told("/routes", target, wanted(list).join(" "), reach(list) + 1);
  const now = performance.now();
  const again = () => { showRoutes().catch(lose); };
  const all = { tables: answers.flatMap((one) => one.tables), left_out: answers[answers.length - 1].left_out };
  sections.routes(list, all, (key, count) => traffic.speed(`${target} ${key}`, count, now), again);
  traffic.forget(now);
}

// What a proxy has told with everything else, or, where that is not all, what it answers about its problems alone.
async function showProblems() {
  const list = at("problem-list");
  const words = wanted(list).join(" ");
  const rest = (proxy) => Object.values(proxy.problem_counts || {}).reduce((sum, count) => sum + count, 0) - (proxy.problems || []).length;
  if (!last.some((proxy) => rest(proxy) > 0)) return sections.problems(list, last, { beyond: 0, searched: false }, again);
  let beyond = 0;
  const all = await Promise.all(last.map(async (proxy) => {
    if (rest(proxy) <= 0) return words ? { ...proxy, problems: proxy.problems?.filter((one) => fits(wanted(list), Object.values(one).join(" "))) } : proxy;
    const answers = await told("/problems", proxy.target || "", words, reach(list) + 1);
    // Several proxies mostly tell the same.
    beyond = Math.max(beyond, answers[answers.length - 1].left_out);
    return { ...proxy, problems: answers.flatMap((one) => one.problems) };
  }));
  sections.problems(list, all, { beyond, searched: true }, again);
  function again() { showProblems().catch(lose); }
}

async function ask(event) {
  event.preventDefault();
  const [side, port] = at("q-door").value.split(":");
  const query = new URLSearchParams({ proxy: at("q-proxy").value, side, port, method: at("q-method").value, host: at("q-host").value, path: at("q-path").value });
  for (const [name, id] of [["header", "q-headers"], ["client", "q-client"], ["address", "q-address"], ["peer", "q-peer"], ["claims", "q-claims"]]) {
    if (at(id).value.trim()) query.set(name, at(id).value);
  }
  try {
    sections.answer(at("answer"), await get(`/explain?${query}`));
  } catch (error) {
    sections.notAnswered(at("answer"), error.message);
  }
}

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  at("theme").textContent = `Theme: ${name}`;
}

function remembered() {
  try { return localStorage.getItem("theme") || "auto"; } catch { return "auto"; }
}

at("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "auto";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  theme(next);
  try { localStorage.setItem("theme", next); } catch { /* it holds until the page is left */ }
});
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
  if (paused) clearTimeout(timer); else look();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
addEventListener("resize", () => { if (seen) showTraffic(); });
at("question").addEventListener("submit", ask);
at("q-host").addEventListener("input", () => { at("q-host").dataset.touched = "yes"; });
for (const id of ["q-proxy", "q-door"]) at(id).addEventListener("change", () => { if (last) choices(last.filter((proxy) => !proxy.unreachable)); });
at("route-search").addEventListener("submit", (event) => event.preventDefault());
at("route-proxy").addEventListener("change", () => { showRoutes().catch(lose); });
const links = new Map([...document.querySelectorAll(".sections a")].map((link) => [link.hash.slice(1), link]));
const watch = new IntersectionObserver((all) => {
  for (const one of all) if (one.isIntersecting) links.forEach((link, id) => { if (id === one.target.id) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current"); });
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) watch.observe(at(id));
theme(remembered());
sections.unasked(at("answer"));
look();
