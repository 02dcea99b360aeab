// A drawing that can be read has few boxes: the busiest and those that fail stay. The others become boxes at its edges, one for each
// namespace: on one side those who ask somebody who is drawn, on the other those who are asked.

const FOLDS = 4;

const whereOf = (node) => (node.id.includes("/") ? node.id.split("/")[0] : "outside of the mesh");

// `most`: boxes of workloads. `before`: who was drawn the last time; he stays until somebody else is clearly busier, or boxes would
// come and go.
export function fold(nodes, edges, most, before = new Set()) {
  if (nodes.length <= most + FOLDS) return { nodes, edges, hidden: 0, kept: new Set(nodes.map((node) => node.id)) };
  const weight = weights(nodes, edges, before);
  const order = [...nodes].sort((a, b) => weight.get(b.id) - weight.get(a.id) || (a.id < b.id ? -1 : 1));
  const [kept, rest] = [order.slice(0, most), order.slice(most)];
  const names = new Set(kept.map((node) => node.id));
  const group = grouped(rest);
  const folds = new Map();
  const drawn = [];
  for (const edge of edges) {
    const [from, to] = [names.has(edge.from), names.has(edge.to)];
    if (from && to) drawn.push(edge);
    else if (from) drawn.push({ ...edge, to: into(folds, group.get(edge.to), "to", edge.to), light: true });
    else if (to) drawn.push({ ...edge, from: into(folds, group.get(edge.from), "from", edge.from), light: true });
  }
  const boxes = [...folds.values()].map(({ of, ...fold }) => ({ ...fold, name: `${of.size} more`, title: [...of].slice(0, 20).join(", ") + (of.size > 20 ? ` and ${of.size - 20} more` : "") }));
  return { nodes: [...kept, ...boxes], edges: drawn, hidden: rest.length, kept: names };
}

function weights(nodes, edges, before) {
  const weight = new Map(nodes.map((node) => [node.id, node.kind === "clients" || node.trouble ? 1e9 : node.kind === "gateway" ? 1e6 : 0]));
  for (const edge of edges) {
    const value = edge.rate + edge.opened + 100 * edge.rate * edge.errors + Math.log1p(edge.requests + edge.connections) / 1000;
    for (const id of [edge.from, edge.to]) weight.set(id, (weight.get(id) || 0) + value);
  }
  for (const id of before) if (weight.has(id)) weight.set(id, weight.get(id) * 1.5);
  return weight;
}

// The largest namespaces by themselves, all others as one.
function grouped(nodes) {
  const count = new Map();
  for (const node of nodes) count.set(whereOf(node), (count.get(whereOf(node)) || 0) + 1);
  const largest = [...count].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([where]) => where);
  const own = new Set(largest.length > FOLDS ? largest.slice(0, FOLDS - 1) : largest);
  return new Map(nodes.map((node) => [node.id, own.has(whereOf(node)) ? whereOf(node) : `${largest.length - own.size} namespaces`]));
}

function into(folds, where, side, id) {
  const key = `folded ${side} ${where}`;
  if (!folds.has(key)) folds.set(key, { id: key, sub: where, kind: "folded", side, of: new Set() });
  folds.get(key).of.add(id);
  return key;
}
