// From counters that only grow to rates: what was counted now, less what was counted some seconds ago.

const WINDOW = 10_000;
const MINUTE = 60_000;

const endName = (end) => (end.workload ? `${end.namespace}/${end.workload}` : "");

// One edge of the drawing for each pair and service; of two that report the same one, the source saw more.
function gather(proxies) {
  const merged = new Map();
  const entered = new Map();
  for (const proxy of proxies) {
    if (!proxy.traffic) continue;
    const own = proxy.name;
    for (const edge of proxy.traffic.edges) {
      const outgoing = edge.reporter === "source";
      const from = endName(edge.source) || (outgoing ? own : "outside");
      const service = edge.service;
      let to = endName(edge.destination);
      if (!to && outgoing && service) to = `service ${service}`;
      if (!to && !outgoing) to = own;
      if (outgoing && proxy.kind === "gateway") entered.set(own, add(entered.get(own), edge));
      if (!to) continue;
      const key = JSON.stringify([from, to, service, edge.protocol]);
      const known = merged.get(key);
      const told = { key, from, to, service, protocol: edge.protocol, bounds: proxy.traffic.bounds, reports: {} };
      const all = known || told;
      all.reports[edge.reporter] = add(all.reports[edge.reporter], edge);
      merged.set(key, all);
    }
  }
  for (const [own, came] of entered) {
    // What workloads of the mesh count as going there has not come from outside.
    const within = [...merged.values()].filter((edge) => edge.to === own && edge.reports.source);
    if (within.reduce((sum, edge) => sum + edge.reports.source.requests, 0) >= 0.9 * came.requests) continue;
    const { bounds } = proxies.find((proxy) => proxy.name === own).traffic;
    const key = `clients>${own}`;
    merged.set(key, { key, from: "clients", to: own, service: "", protocol: "http", client: true, bounds, reports: { source: came } });
  }
  return [...merged.values()].map((edge) => {
    const { source, destination } = edge.reports;
    const counted = source || destination;
    const proven = destination || source;
    return { ...edge, ...counted, mutual_tls: edge.client ? 0 : proven.mutual_tls, plain: edge.client ? 0 : proven.plain };
  });
}

// Several replicas, statuses or protocols of one pair.
function add(sum, edge) {
  if (!sum) {
    const { requests, client_errors, server_errors, mutual_tls, plain, connections, bytes } = edge;
    return { requests, client_errors, server_errors, mutual_tls, plain, connections, bytes, durations: [...edge.durations] };
  }
  for (const name of ["requests", "client_errors", "server_errors", "mutual_tls", "plain", "connections", "bytes"]) {
    sum[name] += edge[name];
  }
  edge.durations.forEach((count, at) => { sum.durations[at] = (sum.durations[at] || 0) + count; });
  return sum;
}

// The value below which this share of the observations lies, within its bucket by proportion.
export function quantile(share, counts, bounds) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (!all) return null;
  let before = 0;
  for (let at = 0; at < counts.length; at++) {
    const here = counts[at];
    if (here && before + here >= share * all) {
      const low = at ? bounds[at - 1] : 0;
      const high = at < bounds.length ? bounds[at] : bounds[bounds.length - 1];
      return low + (high - low) * ((share * all - before) / here);
    }
    before += here;
  }
  return bounds[bounds.length - 1];
}

const COUNTED = ["requests", "client_errors", "server_errors", "connections", "bytes"];

export class Traffic {
  constructor() {
    this.samples = [];
    this.history = [];
    this.routeSamples = new Map();
  }

  // What all of it comes to now. `at`: milliseconds of a clock that never goes back.
  observe(proxies, at) {
    // Counters are compared among the same proxies only: whoever comes back would bring all that it has ever counted.
    const who = JSON.stringify(proxies.map((proxy) => [proxy.target, proxy.name]));
    if (who !== this.who) this.samples = [];
    this.who = who;
    const edges = gather(proxies);
    this.samples.push({ at, edges: new Map(edges.map((edge) => [edge.key, edge])) });
    while (this.samples.length > 2 && this.samples[1].at <= at - WINDOW) this.samples.shift();
    const first = this.samples[0];
    const seconds = (at - first.at) / 1000;
    const rated = edges.map((edge) => this.rate(edge, first.edges.get(edge.key), seconds));
    const entries = rated.filter((edge) => isEntry(edge, rated));
    const total = sum(entries, seconds);
    const secured = rated.filter((edge) => !edge.client);
    const count = (name) => secured.reduce((all, edge) => all + edge[name], 0);
    const [mutual, plain] = [count("mutual_tls"), count("plain")];
    total.mutual = mutual + plain ? mutual / (mutual + plain) : null;
    total.known = seconds > 0;
    if (seconds > 0) this.history.push({ at, rate: total.rate, errors: total.errorShare || 0, p99: total.p99 });
    while (this.history.length && this.history[0].at < at - MINUTE) this.history.shift();
    return { edges: rated, total };
  }

  rate(edge, before, seconds) {
    // A proxy that starts again counts from nothing.
    const fresh = !before || before.requests > edge.requests || before.connections > edge.connections;
    const since = (name) => edge[name] - (fresh ? 0 : before[name]);
    const delta = Object.fromEntries(COUNTED.map((name) => [name, since(name)]));
    const durations = edge.durations.map((count, at) => count - ((!fresh && before.durations[at]) || 0));
    const per = (count) => (seconds > 0 ? count / seconds : 0);
    const share = (count) => (delta.requests ? count / delta.requests : 0);
    // What is new since the page was opened has no time before it to be compared with.
    const quiet = seconds <= 0 || (fresh && !before && this.samples.length < 2);
    return {
      ...edge,
      rate: quiet ? 0 : per(delta.requests),
      errors: quiet ? 0 : share(delta.server_errors),
      refusals: quiet ? 0 : share(delta.client_errors),
      opened: quiet ? 0 : per(delta.connections),
      throughput: quiet ? 0 : per(delta.bytes),
      recent: quiet ? edge.durations.map(() => 0) : durations,
      delta,
      p50: quantile(0.5, quiet ? [] : durations, edge.bounds),
      p99: quantile(0.99, quiet ? [] : durations, edge.bounds),
      p99All: quantile(0.99, edge.durations, edge.bounds),
    };
  }

  // Requests a second of something else that is counted.
  speed(key, count, at) {
    const samples = this.routeSamples.get(key) || [];
    if (samples.length && samples[samples.length - 1].count > count) samples.length = 0;
    samples.push({ at, count });
    while (samples.length > 2 && samples[1].at <= at - WINDOW) samples.shift();
    this.routeSamples.set(key, samples);
    const seconds = (at - samples[0].at) / 1000;
    return seconds > 0 ? (count - samples[0].count) / seconds : 0;
  }

  // Routes that are gone, or that nobody looks at any more, are forgotten.
  forget(at) {
    for (const [key, samples] of this.routeSamples) if (samples[samples.length - 1].at < at - MINUTE) this.routeSamples.delete(key);
  }
}

// Requests are counted where they come in, or they would count at each hop.
function isEntry(edge, all) {
  if (edge.client) return true;
  if (all.some((other) => other.client)) return edge.from === "outside" && !all.some((o) => o.client && o.to === edge.to);
  return !all.some((other) => other.to === edge.from && other !== edge);
}

function sum(edges, seconds) {
  const total = { rate: 0, requests: 0, failed: 0, refused: 0, recent: [] };
  let bounds = [];
  let delta = 0;
  for (const edge of edges) {
    total.rate += edge.rate;
    total.requests += edge.requests;
    if (!edge.rate) continue;
    delta += edge.delta.requests;
    total.failed += edge.delta.server_errors;
    total.refused += edge.delta.client_errors;
    edge.recent.forEach((count, at) => { total.recent[at] = (total.recent[at] || 0) + count; });
    bounds = edge.bounds;
  }
  total.errorShare = delta && seconds > 0 ? total.failed / delta : null;
  total.refusedShare = delta && seconds > 0 ? total.refused / delta : null;
  total.p99 = quantile(0.99, total.recent, bounds);
  return total;
}
