// Long lists: words narrow them down, and a button shows more. Both stay as they are while what they are about is told anew.

import { h, put, whole } from "./parts.js";

// Fewer than these need no words.
const FEW = 9;
const states = new WeakMap();

// The frame of a list, made once: what somebody types into is never replaced.
function frame(target, noun, step, again) {
  const known = states.get(target);
  if (known) return known;
  const id = `${target.id}-words`;
  const words = h("input", { id, type: "search", placeholder: "words to look for", autocomplete: "off", spellcheck: "false" });
  const form = h("form", { class: "inline", role: "search", "aria-label": `Search in ${noun}` }, h("label", { for: id }, `${noun} with`), words);
  const count = h("p", { class: "muted", role: "status" });
  const body = h("div");
  const more = h("button", { type: "button", class: "more" });
  const state = { step, shown: step, words, bar: h("div", { class: "bar" }, form, count), count, body, more, again: null };
  form.addEventListener("submit", (event) => event.preventDefault());
  words.addEventListener("input", () => { state.shown = step; state.again?.(); });
  more.addEventListener("click", () => {
    state.shown += step;
    state.again?.();
    // Who pressed a button that is gone goes on at what it has shown.
    if (more.hidden) (body.querySelector(".table") || words).focus({ preventScroll: true });
  });
  target.replaceChildren(state.bar, body, more);
  states.set(target, state);
  return state;
}

// What somebody looks for in a list, as words that all have to be there.
export const wanted = (target) => (states.get(target)?.words.value || "").toLowerCase().split(/\s+/).filter(Boolean);
export const fits = (words, text) => words.every((word) => text.toLowerCase().includes(word));
// How much of it somebody wants to see.
export const reach = (target) => states.get(target)?.shown || 0;

// Shows items {text, ...}: those that fit, as many as are wanted, drawn by `draw`. `beyond`: how many more there are that were not told.
// `again`: what shows the list anew when somebody types or wants more.
export function listing(target, { noun, items, draw, again, step = 50, beyond = 0, searched = false, after = [] }) {
  const state = frame(target, noun, step);
  state.again = again || (() => listing(target, { noun, items, draw, step, beyond, searched, after }));
  const words = wanted(target);
  const fitting = searched ? items : items.filter((item) => fits(words, item.text));
  const shown = fitting.slice(0, state.shown);
  const left = fitting.length - shown.length + beyond;
  state.bar.hidden = items.length + beyond < FEW && !words.length;
  const total = fitting.length + beyond;
  const say = words.length && !total ? "none has these words" : left ? `${whole(shown.length)} of ${whole(total)}` : `${whole(total)}${words.length ? " with these words" : ""}`;
  if (state.count.textContent !== say) state.count.textContent = say;
  state.more.hidden = !left;
  const label = `Show ${whole(Math.min(left, step))} more ${noun.toLowerCase()}`;
  if (state.more.textContent !== label) state.more.textContent = label;
  put(state.body, [...(shown.length ? draw(shown) : []), ...after]);
}

// Instead of a list: why there is none.
export function instead(target, ...children) {
  states.delete(target);
  put(target, children);
}
