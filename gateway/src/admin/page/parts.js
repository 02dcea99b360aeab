// What sections are made of. Names come from YAML and from peers, and only ever become the text of nodes.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(name, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function number(value) {
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(1);
  if (value < 100_000) return grouped.format(value);
  return value < 10_000_000 ? `${(value / 1000).toFixed(0)}k` : `${(value / 1_000_000).toFixed(1)}M`;
}

export const whole = (value) => grouped.format(value);

export function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return share < 0.0995 ? `${(share * 100).toFixed(1)} %` : `${Math.round(share * 100)} %`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}

export const DAY = 86_400_000;

export function until(time) {
  const left = time - Date.now();
  const ago = left < 0;
  const size = Math.abs(left);
  const words = size >= 2 * DAY ? `${Math.floor(size / DAY)} days`
    : size >= 7_200_000 ? `${Math.floor(size / 3_600_000)} hours` : `${Math.max(1, Math.floor(size / 60_000))} min`;
  return ago ? `${words} ago` : `in ${words}`;
}

export const stamp = (text) => (text ? text.slice(0, 16).replace("T", " ") : "–");

// A table in a frame that scrolls by itself where there is no room. Columns: [title, class].
export function table(label, columns, rows) {
  const head = h("tr", {}, columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)));
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, at) => {
    const attributes = at ? { class: columns[at][1] } : { class: columns[at][1], scope: "row" };
    return h(at ? "td" : "th", attributes, cell);
  })));
  const caption = h("caption", { class: "sr" }, label);
  const frame = { class: "table", role: "region", "aria-label": label, tabindex: "0" };
  return h("div", frame, h("table", {}, caption, h("thead", {}, head), h("tbody", {}, body)));
}

// What is looked at or scrolled stays where it is.
export function put(target, ...children) {
  const frames = [...target.querySelectorAll(".table")];
  const focused = frames.indexOf(document.activeElement);
  const scrolled = frames.map((frame) => frame.scrollLeft);
  target.replaceChildren(...children.flat());
  const now = target.querySelectorAll(".table");
  scrolled.forEach((left, at) => { if (left && now[at]) now[at].scrollLeft = left; });
  if (focused >= 0 && now[focused]) now[focused].focus({ preventScroll: true });
}

export function empty(title, text, code) {
  return h("div", { class: "card empty" }, h("strong", {}, title), text, code ? h("code", {}, code) : null);
}

export const quiet = (value, text) => (value ? text : h("span", { class: "zero" }, text));

export function share(value, kind) {
  return value ? h("span", { class: `${kind}-text` }, percent(value)) : h("span", { class: "zero" }, "0 %");
}
