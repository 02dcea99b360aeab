// Everything below the drawing: tables, lists, the answer of the form. Names come from YAML and from peers, and only ever become
// the text of nodes.

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

const DAY = 86_400_000;

function until(time) {
  const left = time - Date.now();
  const ago = left < 0;
  const size = Math.abs(left);
  const words = size >= 2 * DAY ? `${Math.floor(size / DAY)} days`
    : size >= 7_200_000 ? `${Math.floor(size / 3_600_000)} hours` : `${Math.max(1, Math.floor(size / 60_000))} min`;
  return ago ? `${words} ago` : `in ${words}`;
}

const stamp = (text) => (text ? text.slice(0, 16).replace("T", " ") : "–");

// A table in a frame that scrolls by itself where there is no room. Columns: [title, class].
function table(label, columns, rows) {
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
function put(target, ...children) {
  const frames = [...target.querySelectorAll(".table")];
  const focused = frames.indexOf(document.activeElement);
  const scrolled = frames.map((frame) => frame.scrollLeft);
  target.replaceChildren(...children.flat());
  const now = target.querySelectorAll(".table");
  scrolled.forEach((left, at) => { if (left && now[at]) now[at].scrollLeft = left; });
  if (focused >= 0 && now[focused]) now[focused].focus({ preventScroll: true });
}

function empty(title, text, code) {
  return h("div", { class: "card empty" }, h("strong", {}, title), text, code ? h("code", {}, code) : null);
}

const quiet = (value, text) => (value ? text : h("span", { class: "zero" }, text));

function share(value, kind) {
  return value ? h("span", { class: `${kind}-text` }, percent(value)) : h("span", { class: "zero" }, "0 %");
}

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

export function edges(target, all, doors, leftOut) {
  if (!all.length) return put(target, empty("No request has been counted yet", ...first(doors)));
  const columns = [["From", "name"], ["To", "name"], ["Requests/s", "n"], ["5xx", "n"], ["4xx", "n wide"], ["p50", "n wide"], ["p99", "n"],
    ["Total", "n wide"], ["Mutual TLS", "wide"]];
  const rows = [...all].sort((a, b) => b.rate - a.rate || b.requests - a.requests).map((edge) => [
    shown(edge.from),
    [shown(edge.to.replace(/^service /, "")), edge.service || edge.protocol !== "http"
      ? h("small", {}, [edge.service, edge.protocol !== "http" ? edge.protocol : ""].filter(Boolean).join(" · ")) : null],
    edge.protocol === "tcp" ? [`${number(edge.opened)}`, h("small", {}, "connections")] : quiet(edge.rate, number(edge.rate)),
    share(edge.errors, "bad"), share(edge.refusals, "warn"), duration(edge.p50), duration(edge.p99), whole(edge.requests + edge.connections),
    secured(edge),
  ]);
  const more = leftOut ? h("p", { class: "muted" }, `${whole(leftOut)} more edges with fewer requests are not shown.`) : null;
  put(target, [h("div", { class: "card" }, table("Traffic between workloads", columns, rows)), more].filter(Boolean));
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

export function routes(target, told, speed) {
  if (!told) return put(target, empty("No routes", "This process serves no requests."));
  const parts = [];
  for (const one of told.tables) {
    const what = one.side === "gateway" ? `Port ${one.port}${one.tls ? ", TLS" : ""}` : `To services, port ${one.port}`;
    parts.push(h("p", { class: "port" }, what));
    for (const group of one.groups) parts.push(routeGroup(one, group, speed));
  }
  if (!parts.length) parts.push(empty("No route", "Nothing here has these words. With no words at all, every route is shown."));
  if (told.left_out) parts.push(h("p", { class: "muted" }, `${whole(told.left_out)} more groups of hosts are not shown: narrow it down with words.`));
  put(target, parts);
}

function routeGroup(one, group, speed) {
  const more = group.more_hosts ? ` and ${whole(group.more_hosts)} more` : "";
  const name = group.hosts.join(", ") + more;
  const head = h("header", {}, h("h3", {}, name), group.https_redirect ? h("span", { class: "pill" }, "redirects to https") : null);
  const columns = [["When", "name"], ["To", "name"], ["Requests/s", "n"], ["Total", "n"], ["5xx", "n"], ["4xx", "n wide"], ["VirtualService", "name wide"]];
  const rows = group.routes.map((route, at) => {
    const rate = speed(`${one.side}${one.port}${group.hosts[0]}#${at}`, route.requests);
    const to = route.action === "route" ? route.to.map((text) => h("div", {}, cluster(text)))
      : `${route.action === "redirect" ? "redirect" : "answers"} ${route.to.join(", ")}`;
    return [[route.when, route.name ? h("small", {}, route.name) : null], to, quiet(rate, number(rate)), quiet(route.requests, whole(route.requests)),
      share(route.requests ? route.server_errors / route.requests : 0, "bad"), share(route.requests ? route.client_errors / route.requests : 0, "warn"),
      route.source || h("span", { class: "zero" }, "straight to the service")];
  });
  return h("article", { class: "card group" }, head, table(`Routes of ${name}, ${one.side} port ${one.port}`, columns, rows));
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

export function problems(target, proxies) {
  const all = new Map();
  for (const proxy of proxies) {
    for (const problem of proxy.problems || []) {
      const key = JSON.stringify([problem.code, problem.kind, problem.namespace, problem.name, problem.field, problem.file, problem.line, problem.message]);
      const known = all.get(key) || { problem, of: [] };
      known.of.push(proxy.name);
      all.set(key, known);
    }
  }
  if (!all.size && !told(proxies)) return put(target, untold());
  if (!all.size) return put(target, empty("Nothing is wrong", "Every object was read, and all that it asks for is in force."));
  const order = ["error", "warning", "info"];
  const sorted = [...all.values()].sort((a, b) => order.indexOf(a.problem.severity) - order.indexOf(b.problem.severity));
  const counted = Math.max(0, ...proxies.map((proxy) => Object.values(proxy.problem_counts || {}).reduce((sum, count) => sum + count, 0) - (proxy.problems || []).length));
  const more = counted ? h("p", { class: "muted" }, `${whole(counted)} more are not shown: sluice check lists them.`) : null;
  put(target, [h("ul", { class: "card problems" }, sorted.map(({ problem, of }) => {
    const [kind, words] = SEVERITY[problem.severity] || ["", problem.severity];
    const object = [problem.kind, [problem.namespace, problem.name].filter(Boolean).join("/")].filter(Boolean).join(" ");
    const where = problem.file ? `${problem.file}:${problem.line}:${problem.column}` : "";
    const place = [object, problem.field, where, proxies.length > 1 ? `told by ${of.length === 1 ? of[0] : `${of.length} proxies`}` : ""];
    return h("li", {}, h("div", {}, h("span", { class: `pill ${kind}` }, words)),
      h("div", {}, h("p", {}, problem.message), h("p", { class: "place" }, place.filter(Boolean).join(" · "))));
  })), more].filter(Boolean));
}

export function certificates(target, proxies) {
  const rows = [];
  const authorities = [];
  for (const proxy of proxies) {
    if (proxy.ca) authorities.push(authority(proxy));
    for (const one of proxy.certificates || []) rows.push(certificate(proxy, one));
  }
  rows.sort((a, b) => a.end - b.end);
  const columns = [["For", "name"], ["Ends", ""], ["Next one", "wide"], ["State", ""], ["Issued by", "name wide"]];
  if (!rows.length && !authorities.length && !told(proxies)) return put(target, untold());
  if (!rows.length && !authorities.length) {
    return put(target, empty("No certificate", "Neither a Gateway with TLS nor an identity in the mesh is configured here."));
  }
  const list = rows.length ? h("div", { class: "card" }, table("Table of certificates", columns, rows.map((row) => row.cells))) : null;
  put(target, [...authorities, list].filter(Boolean));
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
    cells: [[title || one.name, h("small", {}, about)],
      Number.isNaN(end) ? h("span", { class: "zero" }, "not there yet") : [stamp(one.notAfter), h("small", {}, until(end))],
      next, [h("span", { class: `pill ${tone}` }, state), trouble ? h("small", {}, trouble) : null], one.issuer || "–"],
  };
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

const TONES = { denied: "bad", refused: "bad", allowed: "good", passed: "good" };

export function policies(target, proxies) {
  const rows = [];
  for (const proxy of proxies) {
    for (const policy of proxy.policies || []) {
      rows.push([[policy.name || policy.kind, h("small", {}, policy.name ? policy.kind : "in effect")], policy.action, chips(policy.counts), proxy.name]);
    }
    const said = Object.entries(proxy.verdicts || {}).filter(([, count]) => count);
    if (said.length) rows.push([["All of them together", h("small", {}, "AuthorizationPolicy")], "verdicts that no single policy gave", chips(Object.fromEntries(said)), proxy.name]);
  }
  if (!rows.length && !told(proxies)) return put(target, untold());
  if (!rows.length) {
    return put(target, empty("No policy", "Everybody may ask everything here. AuthorizationPolicy, RequestAuthentication, PeerAuthentication and RateLimit change that."));
  }
  const columns = [["Policy", "name"], ["What it does", "name"], ["Verdicts", ""], ["At", "name wide"]];
  put(target, h("div", { class: "card" }, table("Table of policies", columns, rows)));
}

function chips(counts) {
  const all = Object.entries(counts);
  if (!all.length) return h("span", { class: "zero" }, "none counted");
  return h("div", { class: "chips" }, all.map(([name, count]) => h("span", { class: `chip ${count ? TONES[name] || "" : ""}` }, `${name.replaceAll("_", " ")} `, h("b", {}, whole(count)))));
}

export function proxyList(target, proxies) {
  const columns = [["Proxy", "name"], ["State", "name"], ["Hosts", "n wide"], ["Clusters", "n wide"], ["Endpoints", "n wide"], ["Problems", "n"], ["Configuration", "wide"], ["Version", "wide"]];
  const rows = proxies.map((proxy) => {
    if (proxy.unreachable) return [[proxy.name, h("small", {}, proxy.target || "")], [h("span", { class: "pill bad" }, "silent"), h("small", {}, proxy.unreachable)], "", "", "", "", "", ""];
    const trouble = (proxy.problem_counts?.error || 0) + (proxy.problem_counts?.warning || 0);
    const { hosts = 0, clusters = 0, endpoints = 0 } = proxy.counts || {};
    return [[proxy.name, h("small", {}, [proxy.kind, proxy.target].filter(Boolean).join(" · "))],
      [h("span", { class: `pill ${proxy.ready ? "good" : "bad"}` }, proxy.ready ? "ready" : "not ready"), proxy.readiness !== "ready" ? h("small", {}, proxy.readiness) : null],
      whole(hosts), whole(clusters), whole(endpoints), quiet(trouble, whole(trouble)),
      proxy.generation ? [`number ${proxy.generation}`, h("small", { class: "mono" }, proxy.digest)] : "–", proxy.version];
  });
  put(target, h("div", { class: "card" }, table("Table of proxies", columns, rows)));
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
