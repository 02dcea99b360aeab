// What a control plane does: its CA and the rotation of that, who holds certificates and who got none, pods and objects.

import { listing, instead } from "./listing.js";
import { empty, h, put, stamp, table, until, whole } from "./parts.js";

const frames = new WeakMap();

// One control plane after the other, each in a frame of its own that stays.
export function controls(target, proxies) {
  const all = proxies.filter((proxy) => proxy.control);
  const key = all.map((proxy) => proxy.target || proxy.name).join();
  let known = frames.get(target);
  if (known?.key !== key) {
    known = { key, parts: all.map((proxy, at) => frame(target.id, at, all.length > 1 ? proxy.target || proxy.name : "")) };
    frames.set(target, known);
    target.replaceChildren(...known.parts.map((part) => part.whole));
  }
  all.forEach((proxy, at) => fill(known.parts[at], proxy));
}

function frame(id, at, name) {
  const part = { top: h("div"), holders: h("div", { id: `${id}-${at}-holders` }), refusals: h("div", { id: `${id}-${at}-refusals` }) };
  part.whole = h("div", {}, name ? h("h3", {}, name) : null, part.top, h("h3", { class: "within" }, "Who holds certificates"), part.holders,
    h("h3", { class: "within" }, "Who was refused"), part.refusals);
  return part;
}

function fill(part, proxy) {
  const { control } = proxy;
  put(part.top, authority(proxy), h("div", { class: "facts" },
    facts("Certificates", [["asked for", control.asked], ...by("issued, by ", control.issued), ...by("refused: ", control.refused, true)]),
    facts("Roots of the mesh", [...by("written to a namespace: ", control.roots_written), ...by("connections to ", control.connections)], "Nothing was written yet."),
    facts("Pods", by("", control.pods)),
    facts("Objects that were judged", control.validated.flatMap((one) => [[one.kind, one.allowed], ...(one.refused ? [[`${one.kind}, refused`, one.refused, "bad"]] : [])]), "None was.")));
  holders(part.holders, control);
  refusals(part.refusals, control);
}

const by = (words, counts, trouble) => Object.entries(counts).map(([name, count]) => [words + name, count, trouble && count ? "bad" : ""]);

function facts(title, rows, none) {
  const list = rows.length ? h("dl", {}, rows.flatMap(([name, count, tone]) => [h("dt", {}, name), h("dd", { class: tone ? `${tone}-text` : "" }, whole(count))]))
    : h("p", { class: "muted note" }, none);
  return h("div", { class: "card" }, h("h3", {}, title), list);
}

function authority(proxy) {
  const { ca, trouble } = proxy.ca;
  if (!ca) return empty("The CA of the mesh is not there yet", trouble || "It is being read.");
  const rows = ca.roots.map((root) => [[root.issuer, h("small", {}, root.serial)], [stamp(root.notAfter), h("small", {}, until(Date.parse(root.notAfter)))]]);
  const rotation = ca.rotation ? `${ca.rotation.phase}; it goes on ${stamp(ca.rotation.next)}` : "no rotation is under way";
  return h("div", { class: "card group" }, h("header", {}, h("h3", {}, `CA of the mesh (${ca.origin})`),
    h("span", { class: "muted" }, `ends ${stamp(ca.notAfter)} · ${rotation}`), trouble ? h("span", { class: "pill bad" }, trouble) : null),
  table("Roots of the mesh", [["Root", "name"], ["Ends", ""]], rows));
}

const short = (identity) => identity.replace(/^spiffe:\/\/[^/]*\/ns\/([^/]*)\/sa\//, "$1/");

function holders(target, control) {
  if (!control.holders.length) return instead(target, empty("Nobody yet", "Since this process began it has issued no certificate. Proxies ask when they start, and again at half of the lifetime."));
  const columns = [["Identity", "name"], ["Pod or address", "name"], ["Ends", ""], ["Issued", "wide"], ["Proof", "wide"], ["Times", "n"]];
  const items = control.holders.map((one) => ({
    text: [one.identity, one.from, one.proof, one.serial].join(" "),
    cells: [[short(one.identity), h("small", {}, one.identity)], one.from, [stamp(one.notAfter), h("small", {}, until(Date.parse(one.notAfter)))],
      [stamp(one.issued), h("small", { class: "mono" }, one.serial)], one.proof, whole(one.count)],
  }));
  listing(target, {
    noun: "Certificates", items, draw: (some) => [h("div", { class: "card" }, table("Holders of certificates", columns, some.map((one) => one.cells)))],
    after: control.more_holders ? [h("p", { class: "muted note" }, `${whole(control.more_holders)} older ones are not told; the log has all of them.`)] : [],
  });
}

function refusals(target, control) {
  if (!control.refusals.length) return instead(target, empty("Nobody", "Whoever has asked since this process began got a certificate."));
  const columns = [["Who", "name"], ["From", ""], ["When", ""], ["Why", "name"]];
  const items = control.refusals.map((one) => ({
    text: [one.identity, one.from, one.why].join(" "), cells: [one.identity ? short(one.identity) : "not known", one.from, stamp(one.at), one.why],
  }));
  listing(target, { noun: "Refusals", items, draw: (some) => [h("div", { class: "card" }, table("Refusals", columns, some.map((one) => one.cells)))] });
}
