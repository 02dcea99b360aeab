// Everything below the drawing: tables, lists, the answer of the form.

import { listing, instead } from "./listing.js";
import { DAY, duration, empty, h, number, percent, quiet, share, stamp, svg, table, until, whole } from "./parts.js";

export function tiles(target, total, history, count) {
  const tile = (label, value, unit, spark) => h("div", { class: "card tile" }, h("p", { class: "label" }, label),
    h("p", { class: "value" }, value, unit ? h("span", { class: "unit" }, unit) : null), spark);
  const bad = total.errorShare > 0;
  const errors = total.errorShare === null ? "–" : percent(total.errorShare);
  target.replaceChildren(
    tile("Requests", total.known ? number(total.rate) : "–", "a second", spark(history.map((one) => one.rate))),
    tile("Errors (5xx)", h("span", { class: bad ? "bad-text" : "" }, errors), total.refusedShare ? `${percent(total.refusedShare)} are 4xx` : "",
      spark(history.map((one) => one.errors), "bad", 0.05)),
    tile("99th percentile", duration(total.p99), "", spark(history.map((one) => one.p99 || 0))),
    tile("Mutual TLS", total.mutual === null ? "–" : percent(total.mutual), total.mutual === null ? "" : "within the mesh", h("p", { class: "label" }, count)),
  );
}

function spark(values, kind = "", least = 0) {
  const root = svg("svg", { viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (values.length < 2) return root;
  const most = Math.max(...values, least, 1e-9);
  const points = values.map((value, at) => `${((at / (values.length - 1)) * 60).toFixed(2)} ${(18.5 - (value / most) * 16.5).toFixed(2)}`);
  root.append(svg("path", { d: `M0 20L${points.join("L")}L60 20Z`, class: `spark-fill ${kind}` }));
  root.append(svg("path", { d: `M${points.join("L")}`, class: `spark ${kind}` }));
  return root;
}

const shown = (name) => ({ clients: "clients", outside: "outside of the mesh" })[name] || name;

// What an edge can be found by.
export const edgeText = (edge) => [shown(edge.from), shown(edge.to), edge.service, edge.protocol].join(" ");

export function edges(target, all, doors, leftOut, again) {
  if (!all.length) return instead(target, empty("No request has been counted yet", ...first(doors)));
  const columns = [["From", "name"], ["To", "name"], ["Requests/s", "n"], ["5xx", "n"], ["4xx", "n wide"], ["p50", "n wide"], ["p99", "n"],
    ["Total", "n wide"], ["Mutual TLS", "wide"]];
  const sorted = [...all].sort((a, b) => b.rate - a.rate || b.requests - a.requests);
  const more = leftOut ? [h("p", { class: "muted" }, `${whole(leftOut)} more connections with fewer requests are not told; the metrics have them.`)] : [];
  listing(target, {
    noun: "Connections", again, after: more, items: sorted.map((edge) => ({ text: edgeText(edge), edge })),
    draw: (items) => [h("div", { class: "card" }, table("Traffic between workloads", columns, items.map(({ edge }) => edgeRow(edge))))],
  });
}

function edgeRow(edge) {
  return [
    shown(edge.from),
    [shown(edge.to.replace(/^service /, "")), edge.service || edge.protocol !== "http"
      ? h("small", {}, [edge.service, edge.protocol !== "http" ? edge.protocol : ""].filter(Boolean).join(" · ")) : null],
    edge.protocol === "tcp" ? [`${number(edge.opened)}`, h("small", {}, "connections")] : quiet(edge.rate, number(edge.rate)),
    share(edge.errors, "bad"), share(edge.refusals, "warn"), duration(edge.p50), duration(edge.p99), whole(edge.requests + edge.connections),
    secured(edge),
  ];
}

function secured(edge) {
  if (edge.client) return h("span", { class: "zero" }, "not of the mesh");
  if (!edge.mutual_tls && !edge.plain) return h("span", { class: "zero" }, "not known");
  if (!edge.plain) return h("span", { class: "good-text" }, "yes");
  return h("span", { class: "warn-text" }, edge.mutual_tls ? `partly (${percent(edge.mutual_tls / (edge.mutual_tls + edge.plain))})` : "no");
}

// What somebody could try who has seen nothing yet.
function first(doors) {
  const door = doors.find((one) => one.side === "gateway" && one.hosts.length);
  if (!door) return ["Send some through this proxy, and the drawing appears by itself."];
  const host = door.hosts[0].replace(/^\*\./, "www.").replace(/^\*$/, "localhost");
  const scheme = door.tls ? "https" : "http";
  return [`Send one through the gateway, and the drawing appears by itself. Port ${door.bound} takes requests for ${host}:`,
    `curl -k --connect-to ::127.0.0.1:${door.bound} ${scheme}://${host}/`];
}

// Routes of one group that are shown before somebody wants all of them.
const SOME = 20;
const opened = new Set();

export function routes(target, told, speed, again) {
  if (!told) return instead(target, empty("No routes", "This process serves no requests."));
  const items = told.tables.flatMap((one) => one.groups.map((group) => ({ one, group })));
  listing(target, {
    noun: "Hosts", again, step: 20, searched: true, items, beyond: told.left_out,
    draw: (all) => {
      const parts = [];
      let before = null;
      for (const { one, group } of all) {
        const what = one.side === "gateway" ? `Port ${one.port}${one.tls ? ", TLS" : ""}` : `To services, port ${one.port}`;
        if (what !== before) parts.push(h("p", { class: "port" }, what));
        before = what;
        parts.push(routeGroup(one, group, speed, again));
      }
      return parts;
    },
    after: items.length ? [] : [empty("No route", "Nothing here has these words. With no words at all, every route is shown.")],
  });
}

function routeGroup(one, group, speed, again) {
  const more = group.more_hosts ? ` and ${whole(group.more_hosts)} more` : "";
  const name = group.hosts.join(", ") + more;
  const key = `${one.side}${one.port}${group.hosts[0]}`;
  const head = h("header", {}, h("h3", {}, name), group.https_redirect ? h("span", { class: "pill" }, "redirects to https") : null);
  const columns = [["When", "name"], ["To", "name"], ["Requests/s", "n"], ["Total", "n"], ["5xx", "n"], ["4xx", "n wide"], ["VirtualService", "name wide"]];
  const routes = opened.has(key) ? group.routes : group.routes.slice(0, SOME);
  const seen = new Set();
  const rows = routes.map((route) => {
    // Of two alike the first one is followed.
    const own = `${key} ${route.source} ${route.name} ${route.when}`;
    const rate = seen.has(own) ? 0 : speed(own, route.requests);
    seen.add(own);
    const to = route.action === "route" ? route.to.map((text) => h("div", {}, cluster(text)))
      : `${route.action === "redirect" ? "redirect" : "answers"} ${route.to.join(", ")}`;
    return [[route.when, route.name ? h("small", {}, route.name) : null], to, quiet(rate, number(rate)), quiet(route.requests, whole(route.requests)),
      share(route.requests ? route.server_errors / route.requests : 0, "bad"), share(route.requests ? route.client_errors / route.requests : 0, "warn"),
      route.source || h("span", { class: "zero" }, "straight to the service")];
  });
  const label = `Routes of ${name}, ${one.side} port ${one.port}`;
  const parts = [head, table(label, columns, rows)];
  if (routes.length < group.routes.length) {
    const button = h("button", { type: "button", class: "more", "aria-label": `Show all ${group.routes.length} routes of ${name}` }, `Show all ${whole(group.routes.length)} routes`);
    button.addEventListener("click", () => { opened.add(key); again(); });
    parts.push(button);
  }
  if (group.more_routes) parts.push(h("p", { class: "muted note" }, `${whole(group.more_routes)} more routes are not told: /config_dump has them.`));
  return h("article", { class: "card group" }, parts);
}

// outbound|8080|v1|reviews.default.svc.cluster.local 90 %: reviews.default:8080 v1, 90 %
function cluster(text) {
  const [name, ...rest] = text.split(" ");
  const [, port, subset, host] = name.split("|");
  if (!host) return text;
  const short = host.replace(/\.svc\.cluster\.local$/, "");
  return [`${short}:${port}`, subset ? ` ${subset}` : "", rest.length ? h("small", {}, rest.join(" ")) : null];
}

const SEVERITY = { error: ["bad", "✕ Error"], warning: ["warn", "! Warning"], info: ["", "i Info"] };

// Silence is no good news: only who has a configuration in force can say that nothing is wrong with it.
const told = (proxies) => proxies.length > 0 && proxies.every((proxy) => !proxy.unreachable && (proxy.generation > 0 || proxy.kind === "control"));
const untold = () => empty("Not told", "Not every proxy has said what it has in force. The list of proxies below says who is silent, and why.");

// `beyond`: how many more there are with the words of the list, by what the proxies have counted.
export function problems(target, proxies, { beyond, searched }, again) {
  const all = new Map();
  for (const proxy of proxies) {
    for (const problem of proxy.problems || []) {
      const key = JSON.stringify([problem.code, problem.kind, problem.namespace, problem.name, problem.field, problem.file, problem.line, problem.message]);
      const known = all.get(key) || { problem, of: [] };
      known.of.push(proxy.name);
      all.set(key, known);
    }
  }
  if (!all.size && !searched && !told(proxies)) return instead(target, untold());
  if (!all.size && !searched) return instead(target, empty("Nothing is wrong", "Every object was read, and all that it asks for is in force."));
  const order = ["error", "warning", "info"];
  const sorted = [...all.values()].sort((a, b) => order.indexOf(a.problem.severity) - order.indexOf(b.problem.severity));
  listing(target, {
    noun: "Problems", again, beyond, searched,
    items: sorted.map(({ problem, of }) => ({ problem, of, text: Object.values(problem).join(" ") })),
    draw: (items) => [h("ul", { class: "card problems" }, items.map(({ problem, of }) => problemItem(problem, of, proxies.length)))],
  });
}

function problemItem(problem, of, count) {
  const [kind, words] = SEVERITY[problem.severity] || ["", problem.severity];
  const object = [problem.kind, [problem.namespace, problem.name].filter(Boolean).join("/")].filter(Boolean).join(" ");
  const where = problem.file ? `${problem.file}:${problem.line}:${problem.column}` : "";
  const place = [object, problem.field, where, count > 1 ? `told by ${of.length === 1 ? of[0] : `${of.length} proxies`}` : ""];
  return h("li", {}, h("div", {}, h("span", { class: `pill ${kind}` }, words)),
    h("div", {}, h("p", {}, problem.message), h("p", { class: "place" }, place.filter(Boolean).join(" · "))));
}

const total = (proxies, name) => proxies.reduce((sum, proxy) => sum + (proxy.left_out?.[name] || 0), 0);

export function certificates(target, proxies) {
  const rows = proxies.flatMap((proxy) => (proxy.certificates || []).map((one) => certificate(proxy, one)));
  rows.sort((a, b) => a.end - b.end);
  const columns = [["For", "name"], ["Ends", ""], ["Next one", "wide"], ["State", ""], ["Issued by", "name wide"]];
  if (!rows.length && !told(proxies)) return instead(target, untold());
  if (!rows.length) {
    return instead(target, empty("No certificate", "Neither a Gateway with TLS nor an identity in the mesh is configured here."));
  }
  const later = total(proxies, "certificates");
  listing(target, {
    noun: "Certificates", items: rows,
    draw: (items) => [h("div", { class: "card" }, table("Table of certificates", columns, items.map((row) => row.cells)))],
    after: later ? [h("p", { class: "muted" }, `${whole(later)} more that end later are told at /certs of their proxies.`)] : [],
  });
}

function certificate(proxy, one) {
  const plan = one.order || one.identity || {};
  const end = one.notAfter ? Date.parse(one.notAfter) : NaN;
  const left = end - Date.now();
  const gone = left <= 0;
  const soon = left < 2 * DAY && one.secret !== "workload";
  const tone = gone || plan.lastError ? "bad" : one.kept || soon ? "warn" : "good";
  const state = gone ? "ended" : plan.state || (one.kept ? "kept" : "served");
  const own = one.secret === "workload";
  const title = own ? proxy.name : one.hosts.slice(0, 4).join(", ") + (one.hosts.length > 4 ? ` and ${one.hosts.length - 4} more` : "");
  const about = own ? plan.principal || "identity in the mesh" : `${one.name} · ${one.secret}`;
  const next = plan.nextRenewal ? [stamp(plan.nextRenewal), h("small", {}, until(Date.parse(plan.nextRenewal)))]
    : h("span", { class: "zero" }, own ? "when it is given" : "by whoever made it");
  const trouble = plan.lastError || one.kept;
  return {
    end: Number.isNaN(end) ? 0 : end,
    text: [title, about, one.name, one.hosts.join(" "), one.issuer, state, trouble, proxy.name].join(" "),
    cells: [[title || one.name, h("small", {}, about)],
      Number.isNaN(end) ? h("span", { class: "zero" }, "not there yet") : [stamp(one.notAfter), h("small", {}, until(end))],
      next, [h("span", { class: `pill ${tone}` }, state), trouble ? h("small", {}, trouble) : null], one.issuer || "–"],
  };
}

const TONES = { denied: "bad", refused: "bad", allowed: "good", passed: "good" };

export function policies(target, proxies) {
  const rows = [];
  for (const proxy of proxies) {
    for (const policy of proxy.policies || []) {
      rows.push({ text: [policy.name, policy.kind, policy.action, proxy.name].join(" "),
        cells: [[policy.name || policy.kind, h("small", {}, policy.name ? policy.kind : "in effect")], policy.action, chips(policy.counts), proxy.name] });
    }
    const said = Object.entries(proxy.verdicts || {}).filter(([, count]) => count);
    if (said.length) {
      rows.push({ text: `AuthorizationPolicy ${proxy.name}`,
        cells: [["All of them together", h("small", {}, "AuthorizationPolicy")], "verdicts that no single policy gave", chips(Object.fromEntries(said)), proxy.name] });
    }
  }
  if (!rows.length && !told(proxies)) return instead(target, untold());
  if (!rows.length) {
    return instead(target, empty("No policy", "Everybody may ask everything here. AuthorizationPolicy, RequestAuthentication, PeerAuthentication and RateLimit change that."));
  }
  const columns = [["Policy", "name"], ["What it does", "name"], ["Verdicts", ""], ["At", "name wide"]];
  const more = total(proxies, "policies");
  listing(target, {
    noun: "Policies", items: rows, draw: (items) => [h("div", { class: "card" }, table("Table of policies", columns, items.map((row) => row.cells)))],
    after: more ? [h("p", { class: "muted" }, `${whole(more)} more are not told: the objects themselves say what they do.`)] : [],
  });
}

export function chips(counts) {
  const all = Object.entries(counts);
  if (!all.length) return h("span", { class: "zero" }, "none counted");
  return h("div", { class: "chips" }, all.map(([name, count]) => h("span", { class: `chip ${count ? TONES[name] || "" : ""}` }, `${name.replaceAll("_", " ")} `, h("b", {}, whole(count)))));
}

export function proxyList(target, proxies, notes) {
  const columns = [["Proxy", "name"], ["State", "name"], ["Hosts", "n wide"], ["Clusters", "n wide"], ["Endpoints", "n wide"], ["Problems", "n"], ["Configuration", "wide"], ["Version", "wide"]];
  // Who is in trouble comes first.
  const rank = (proxy) => (proxy.unreachable ? 0 : proxy.ready ? 2 : 1);
  const items = [...proxies].sort((a, b) => rank(a) - rank(b)).map((proxy) => ({
    proxy, text: [proxy.name, proxy.kind, proxy.target, proxy.readiness, proxy.unreachable && `silent ${proxy.unreachable}`, proxy.digest, proxy.version].filter(Boolean).join(" "),
  }));
  listing(target, {
    noun: "Proxies", items, draw: (some) => [h("div", { class: "card" }, table("Table of proxies", columns, some.map(({ proxy }) => proxyRow(proxy))))],
    after: (notes || []).map((note) => h("p", { class: "muted note" }, note)),
  });
}

function proxyRow(proxy) {
  if (proxy.unreachable) return [[proxy.name, h("small", {}, proxy.target || "")], [h("span", { class: "pill bad" }, "silent"), h("small", {}, proxy.unreachable)], "", "", "", "", "", ""];
  const trouble = (proxy.problem_counts?.error || 0) + (proxy.problem_counts?.warning || 0);
  const { hosts = 0, clusters = 0, endpoints = 0 } = proxy.counts || {};
  return [[proxy.name, h("small", {}, [proxy.kind, proxy.target].filter(Boolean).join(" · "))],
    [h("span", { class: `pill ${proxy.ready ? "good" : "bad"}` }, proxy.ready ? "ready" : "not ready"), proxy.readiness !== "ready" ? h("small", {}, proxy.readiness) : null],
    whole(hosts), whole(clusters), whole(endpoints), quiet(trouble, whole(trouble)),
    proxy.generation ? [`number ${proxy.generation}`, h("small", { class: "mono" }, proxy.digest)] : "–", proxy.version];
}

const MARKS = { passed: ["✓", "good-text", "goes on"], stopped: ["✕", "bad-text", "ends here"], note: ["•", "muted", "to know"] };
const OUTCOMES = { forwarded: ["good", "Forwarded"], redirected: ["", "Redirected"], answered: ["", "Answered"], refused: ["bad", "Refused"], closed: ["bad", "Closed"] };

export function answer(target, told) {
  const [kind, word] = OUTCOMES[told.outcome] || ["", told.outcome];
  const steps = told.steps.map((step) => {
    const [sign, tone, words] = MARKS[step.mark] || ["•", "", ""];
    return h("li", {}, h("span", { class: `mark ${tone}` }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "sr" }, words)),
      h("span", { class: "stage" }, step.stage), h("span", { class: "what" }, step.text, step.source ? h("small", {}, step.source) : null));
  });
  const columns = [["Destination", "name"], ["Share", "n"], ["Endpoints", "n"], ["Sent as", "name"]];
  const rows = told.destinations.map((one) => [cluster(one.cluster), `${Math.round(one.percent)} %`, one.endpoints === null ? "none" : whole(one.endpoints),
    one.target ? [one.target, h("small", {}, one.authority)] : "bytes"]);
  target.replaceChildren(h("span", { class: `pill ${kind}` }, told.status ? `${word}, ${told.status}` : word), h("p", { class: "verdict" }, told.answer),
    h("ol", { class: "steps" }, steps), ...(rows.length ? [table("Where it may go", columns, rows)] : []));
}

export function notAnswered(target, text) {
  target.replaceChildren(h("span", { class: "pill warn" }, "Not asked"), h("p", { class: "verdict" }, text));
}

export function unasked(target) {
  target.replaceChildren(h("div", { class: "muted" }, h("p", {}, "The answer stands here: which listener takes the request, which route it follows and why, what policies say, and where it goes.")));
}
