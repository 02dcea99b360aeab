// The drawing of the traffic: workloads in columns, from those who ask to those who answer.

import { duration, number, percent, svg } from "./parts.js";

const NODE = { width: 182, height: 46 };
const GAP = { across: 132, along: 26 };
const NARROW = { width: 152, height: 44, across: 74, along: 16 };

export function draw(target, nodes, edges) {
  const wide = target.clientWidth > 720;
  const pairs = joined(edges);
  const columns = layers(nodes, pairs);
  const links = bridged(columns, pairs);
  const places = placed(arranged(columns, links), wide);
  const size = extent(places, wide);
  const root = svg("svg", {
    viewBox: `0 0 ${size.width} ${size.height}`, width: wide ? size.width : Math.max(size.width, 0), height: size.height,
    role: "img", "aria-label": `${nodes.length} workloads and ${pairs.length} connections between them`,
  });
  // Wider than there is room: smaller, as long as it can be read; else it can be scrolled.
  const room = target.clientWidth - 26;
  if (size.width > room) {
    const scale = Math.max(room / size.width, 0.78);
    root.setAttribute("width", Math.round(size.width * scale));
    root.setAttribute("height", Math.round(size.height * scale));
  }
  const lines = svg("g");
  const tags = svg("g");
  const most = Math.max(0.001, ...pairs.map((pair) => pair.rate));
  // What fails is drawn last, above the rest.
  const failing = (pair) => (pair.light ? -1 : pair.failed / (pair.rate || 1));
  for (const pair of [...pairs].sort((a, b) => failing(a) - failing(b))) line(lines, tags, pair, places, wide, most);
  const boxes = svg("g");
  for (const node of nodes) box(boxes, node, places.get(node.id), wide);
  root.append(lines, boxes, tags);
  const fresh = !target.firstElementChild || target.firstElementChild.getAttribute("width") !== root.getAttribute("width");
  target.replaceChildren(root);
  // What is in the middle is looked at first, until somebody scrolls.
  if (fresh) target.scrollLeft = (target.scrollWidth - target.clientWidth) / 2;
  return fresh;
}

// What several services or protocols between the same two come to.
function joined(edges) {
  const pairs = new Map();
  for (const edge of edges) {
    const key = `${edge.from} ${edge.to}`;
    const pair = pairs.get(key) || {
      from: edge.from, to: edge.to, rate: 0, failed: 0, refused: 0, requests: 0, connections: 0, opened: 0, mutual: 0, plain: 0, p99: null,
      client: edge.client, light: edge.light,
    };
    pair.rate += edge.rate;
    pair.failed += edge.rate * edge.errors;
    pair.refused += edge.rate * edge.refusals;
    pair.requests += edge.requests;
    pair.connections += edge.connections;
    pair.opened += edge.opened;
    pair.mutual += edge.mutual_tls;
    pair.plain += edge.plain;
    if (edge.p99 !== null) pair.p99 = Math.max(pair.p99 || 0, edge.p99);
    pairs.set(key, pair);
  }
  return [...pairs.values()];
}

// The longest way from somebody whom nobody asks; ways back are not followed.
// Boxes that stand for many are at the edges, and what goes there moves nobody.
function layers(all, pairs) {
  const nodes = all.filter((node) => !node.side);
  const depth = new Map(nodes.map((node) => [node.id, 0]));
  const forward = pairs.filter((pair) => pair.from !== pair.to && depth.has(pair.from) && depth.has(pair.to));
  const after = new Map(nodes.map((node) => [node.id, []]));
  const open = new Set();
  const seen = new Set();
  const kept = [];
  for (const pair of forward) after.get(pair.from).push(pair);
  const walk = (id) => {
    if (seen.has(id)) return;
    seen.add(id);
    open.add(id);
    for (const pair of after.get(id)) {
      if (open.has(pair.to)) continue;
      kept.push(pair);
      walk(pair.to);
    }
    open.delete(id);
  };
  const asked = new Set(forward.map((pair) => pair.to));
  nodes.filter((node) => !asked.has(node.id)).forEach((node) => walk(node.id));
  nodes.forEach((node) => walk(node.id));
  for (let round = 0; round < nodes.length; round++) {
    let moved = false;
    for (const pair of kept) {
      const next = depth.get(pair.from) + 1;
      if (depth.get(pair.to) < next) { depth.set(pair.to, next); moved = true; }
    }
    if (!moved) break;
  }
  const columns = [];
  for (const node of nodes) (columns[depth.get(node.id)] ||= []).push(node);
  const edge = (side) => all.filter((node) => node.side === side);
  return [edge("from"), ...columns.filter(Boolean), edge("to")].filter((column) => column.length);
}

// A line that goes past columns gets a place of its own in each of them, or it would cross whoever stands there.
function bridged(columns, pairs) {
  const depth = new Map(columns.flatMap((column, at) => column.map((node) => [node.id, at])));
  const links = [];
  for (const pair of pairs) {
    let before = pair.from;
    pair.via = [];
    if (pair.light) continue;
    for (let at = depth.get(pair.from) + 1; at < depth.get(pair.to); at++) {
      const id = `${pair.from}>${pair.to}@${at}`;
      columns[at].push({ id, bridge: true });
      pair.via.push(id);
      links.push({ from: before, to: id });
      before = id;
    }
    links.push({ from: before, to: pair.to });
  }
  return links;
}

// Neighbours side by side, so that lines cross less.
function arranged(columns, pairs) {
  const row = new Map();
  const number = () => columns.forEach((column) => column.forEach((node, at) => row.set(node.id, at - column.length / 2)));
  columns.forEach((column) => column.sort((a, b) => a.id.localeCompare(b.id)));
  number();
  for (let sweep = 0; sweep < 4; sweep++) {
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const weight = (node) => {
        const near = pairs.filter((pair) => pair.from === node.id || pair.to === node.id)
          .map((pair) => row.get(pair.from === node.id ? pair.to : pair.from)).filter((at) => at !== undefined);
        return near.length ? near.reduce((sum, at) => sum + at, 0) / near.length : row.get(node.id);
      };
      const weights = new Map(column.map((node) => [node.id, weight(node)]));
      column.sort((a, b) => weights.get(a.id) - weights.get(b.id));
      number();
    }
  }
  return columns;
}

function placed(columns, wide) {
  const places = new Map();
  const gap = wide ? GAP.along : NARROW.along;
  // Along the column: a place that only a line goes through needs less.
  const size = (node) => (wide ? (node.bridge ? 24 : NODE.height) : node.bridge ? 92 : NARROW.width);
  const length = (column) => column.reduce((sum, node) => sum + size(node) + gap, -gap);
  const most = Math.max(...columns.map(length));
  columns.forEach((column, depth) => {
    let along = (most - length(column)) / 2;
    for (const node of column) {
      const place = wide
        ? { x: depth * (NODE.width + GAP.across), y: along, width: NODE.width, height: size(node) }
        : { x: along, y: depth * (NARROW.height + NARROW.across), width: size(node), height: NARROW.height };
      places.set(node.id, { ...place, x: place.x + 6, y: place.y + 8 });
      along += size(node) + gap;
    }
  });
  return places;
}

function extent(places) {
  let [width, height] = [0, 0];
  for (const place of places.values()) {
    width = Math.max(width, place.x + place.width);
    height = Math.max(height, place.y + place.height);
  }
  return { width: width + 6, height: height + 22 };
}

function line(lines, tags, pair, places, wide, most) {
  const [a, b] = [places.get(pair.from), places.get(pair.to)];
  if (!a || !b) return;
  const active = pair.rate > 0 || pair.opened > 0;
  const errors = pair.rate ? pair.failed / pair.rate : 0;
  const refusals = pair.rate ? pair.refused / pair.rate : 0;
  const tone = !active ? "idle" : errors >= 0.005 ? "bad" : refusals >= 0.005 ? "warn" : "";
  const course = way(a, b, wide, pair.via.map((id) => places.get(id)));
  if (pair.light) return lines.append(svg("path", { d: course.path, class: `edge light ${tone}` }));
  const width = 1.6 + 3.4 * Math.sqrt(pair.rate / most);
  lines.append(svg("path", { d: course.path, class: `edge ${tone}`, "stroke-width": width.toFixed(1) }));
  if (active) lines.append(svg("path", { d: course.path, class: "flow" }));
  lines.append(svg("path", { d: course.arrow, class: `arrow ${tone}` }));
  tag(tags, pair, course.middle, { active, errors, refusals, tone });
}

function way(a, b, wide, via) {
  const back = wide ? b.x <= a.x : b.y <= a.y;
  const start = wide ? { x: a.x + a.width, y: a.y + a.height / 2 } : { x: a.x + a.width / 2, y: a.y + a.height };
  const end = wide ? { x: b.x - 7, y: b.y + b.height / 2 } : { x: b.x + b.width / 2, y: b.y - 7 };
  if (back) {
    // Below both of them.
    const low = Math.max(a.y + a.height, b.y + b.height) + 16;
    const from = { x: a.x + a.width / 2 - 12, y: a.y + a.height };
    const to = { x: b.x + b.width / 2 + 12, y: b.y + b.height + 7 };
    return {
      path: `M${from.x} ${from.y}C${from.x} ${low},${to.x} ${low},${to.x} ${to.y}`,
      arrow: `M${to.x - 5} ${to.y}L${to.x + 5} ${to.y}L${to.x} ${to.y - 7}Z`,
      middle: { x: (from.x + to.x) / 2, y: low - 4 },
    };
  }
  // From the middle of one side to that of the next, straight through places of its own.
  const stops = via.map((place) => wide
    ? [{ x: place.x, y: place.y + place.height / 2 }, { x: place.x + place.width, y: place.y + place.height / 2 }]
    : [{ x: place.x + place.width / 2, y: place.y }, { x: place.x + place.width / 2, y: place.y + place.height }]);
  const points = [start, ...stops.flat(), end];
  let path = `M${start.x} ${start.y}`;
  for (let at = 1; at < points.length; at += 2) {
    const [p, q] = [points[at - 1], points[at]];
    const bend = wide ? (q.x - p.x) / 2 : (q.y - p.y) / 2;
    path += wide ? `C${p.x + bend} ${p.y},${q.x - bend} ${q.y},${q.x} ${q.y}` : `C${p.x} ${p.y + bend},${q.x} ${q.y - bend},${q.x} ${q.y}`;
    if (points[at + 1]) path += `L${points[at + 1].x} ${points[at + 1].y}`;
  }
  const arrow = wide
    ? `M${end.x} ${end.y - 5}L${end.x} ${end.y + 5}L${end.x + 7} ${end.y}Z`
    : `M${end.x - 5} ${end.y}L${end.x + 5} ${end.y}L${end.x} ${end.y + 7}Z`;
  const middle = stops.length ? stops[Math.floor((stops.length - 1) / 2)] : [start, end];
  return { path, arrow, middle: { x: (middle[0].x + middle[1].x) / 2, y: (middle[0].y + middle[1].y) / 2 } };
}

function tag(tags, pair, middle, { active, errors, refusals, tone }) {
  const parts = [];
  if (pair.rate > 0) parts.push([`${number(pair.rate)}/s`, ""]);
  else if (pair.opened > 0) parts.push([`${number(pair.opened)} conn/s`, ""]);
  else parts.push([pair.requests || pair.connections ? "quiet" : "no traffic", "quiet"]);
  if (errors >= 0.005) parts.push([percent(errors), "err"]);
  else if (refusals >= 0.005) parts.push([percent(refusals), "err4"]);
  else if (active && pair.p99 !== null) parts.push([duration(pair.p99), "quiet"]);
  const text = svg("text", { "text-anchor": "start", "dominant-baseline": "central" });
  parts.forEach(([words, kind], at) => {
    const part = svg("tspan", kind ? { class: kind } : {});
    part.textContent = (at ? "\u2002" : "") + words;
    text.append(part);
  });
  const secured = pair.mutual + pair.plain > 0;
  const letters = parts.reduce((sum, [words]) => sum + words.length, 0) + parts.length - 1;
  const width = letters * 6.3 + 16 + (secured ? 15 : 0);
  const [left, top] = [middle.x - width / 2, middle.y - 10];
  const group = svg("g", { class: `tag ${tone}` });
  group.append(svg("rect", { x: left, y: top, width, height: 20, rx: 10, class: "frame" }));
  if (secured) group.append(...lock(left + 8, top + 5, pair.plain > 0));
  text.setAttribute("x", left + 8 + (secured ? 15 : 0));
  text.setAttribute("y", middle.y + 0.5);
  group.append(text);
  tags.append(group);
}

function lock(x, y, open) {
  const kind = open ? " open" : "";
  const bow = open ? `M${x + 1.8} ${y + 4}v-1.600a2.700 2.700 0 0 1 5.200-1` : `M${x + 1.8} ${y + 4.5}v-1.800a2.700 2.700 0 0 1 5.400 0v1.800`;
  return [
    svg("path", { d: bow, class: `lock-shape${kind}` }),
    svg("rect", { x, y: y + 4.3, width: 9, height: 6.4, rx: 1.4, class: `lock-body${kind}` }),
  ];
}

function box(boxes, node, place, wide) {
  const group = svg("g", { class: `node ${node.kind} ${node.trouble ? "bad" : ""}` });
  const title = svg("title");
  title.textContent = node.title || node.id;
  group.append(title, svg("rect", { x: place.x, y: place.y, width: place.width, height: place.height, rx: 10 }));
  const letters = wide ? 21 : 18;
  const name = svg("text", { x: place.x + 12, y: place.y + (node.sub ? 20 : 27) });
  name.textContent = cut(node.name, letters);
  group.append(name);
  if (node.sub) {
    const sub = svg("text", { x: place.x + 12, y: place.y + 35, class: "sub" });
    sub.textContent = cut(node.sub, letters + 3);
    group.append(sub);
  }
  boxes.append(group);
}

function cut(text, letters) {
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}
