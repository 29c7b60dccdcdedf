// Learning as on a board (SPEC.md, section 13): rows for the classes, then layers. Held-out samples
// decide what is used: nothing that is worse.

import { crc32 } from "./bytes.js";
import { Session, TRAIN } from "./core.js";

const HELD_OUT = 4; // one in so many samples of a class is held out
const LEAST_JUDGED = 6; // held-out samples that can decide
const MICRO_BATCH = 8;
const RATE = 6000;
const LEAST_UPDATES = 600;
const LEAST_EPOCHS = 6;
const MOST_TIMES = 4; // that a sample of a rare class occurs in an epoch

/** Numbers of the samples to learn, and of those held out: the last quarter of each class. */
export function apart(labels) {
  const left = new Map();
  for (const label of labels) left.set(label, (left.get(label) ?? 0) + 1);
  const held = new Map([...left].map(([label, n]) => [label, Math.floor(n / HELD_OUT)]));
  const parts = [[], []];
  labels.forEach((label, i) => {
    parts[Number(left.get(label) <= held.get(label))].push(i);
    left.set(label, left.get(label) - 1);
  });
  return { learned: parts[0], held: parts[1] };
}

/** Whether held-out samples with these labels can decide. */
export const canJudge = (labels) => labels.length >= LEAST_JUDGED && new Set(labels).size > 1;

/** Numbers of the samples that an epoch repeats, as their classes are rare. */
function repeated(labels) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const most = Math.max(...counts.values());
  const again = [];
  for (let turn = 1; turn < MOST_TIMES; turn++) {
    labels.forEach((label, i) => {
      const n = counts.get(label);
      if (turn < Math.floor((2 * most + n) / (2 * n))) again.push(i);
    });
  }
  return again;
}

const milder = (a, b) => a.loss < b.loss || (a.loss === b.loss && a.right > b.right);
const better = (a, b) => a.right > b.right || (a.right === b.right && a.loss < b.loss);

/** Whether a gain of so many samples, with `wrong` still wrong, is more than chance. */
const isClear = (gained, wrong) => gained > 0 && gained ** 2 > 2 * (gained + 2 * wrong);

/** Whether layers are so good that they replace rows: clearly better, and better than guessing. */
function accepts(layers, rows, labels) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const most = Math.max(...counts.values());
  const { right } = layers;
  const above = (right - most) ** 2 * labels.length > 4 * most * (labels.length - most);
  const clear = isClear(right - rows.right, labels.length - right);
  return right > most && above && better(layers, rows) && clear;
}

/** How many held-out samples are right, and the sum of their losses. */
function judged(session, { xs, labels }) {
  let right = 0;
  let loss = 0;
  xs.forEach((x, i) => {
    const [named, lost] = session.evaluate(x, labels[i]);
    right += Number(named === labels[i]);
    loss += lost;
  });
  return { right, loss };
}

/** Trains the layers of an adapter that has rows; yields the share that is done.
 *
 * Returns the adapter of the epoch with the smallest loss on held-out samples, and its score.
 */
function* trained(session, rows, learned, held, seed) {
  const { core } = session;
  const { xs, labels } = learned;
  const byClass = new Map([...new Set(labels)].map((y) => [y, xs.filter((_, i) => labels[i] === y)]));
  const again = repeated(labels);
  const places = xs.length + again.length;
  const epochs = Math.max(LEAST_EPOCHS, Math.ceil((LEAST_UPDATES * MICRO_BATCH) / places));
  const steps = epochs * places;
  const updates = Math.ceil(steps / MICRO_BATCH);
  const enough = Math.max(2, Math.floor((34 * epochs + 50) / 100));
  const passed = (n) => (MICRO_BATCH > places ? n : Math.min(epochs, Math.floor((n * MICRO_BATCH) / places)));
  let best = null;
  session.load(seeded(rows, seed));
  session.renewRows(byClass);
  for (let done = 0, epoch = 0; done < updates; ) {
    const rate = Math.max(1, Math.floor((RATE * (updates - done)) / updates));
    for (let at = done * MICRO_BATCH; at < Math.min(steps, (done + 1) * MICRO_BATCH); at++) {
      const place = core.calls.edgelora_order(seed, Math.floor(at / places), places, at % places);
      const i = place < xs.length ? place : again[place - xs.length];
      session.train(xs[i], labels[i], rate);
    }
    session.flush(rate);
    done++;
    yield done / updates;
    if (passed(done) === passed(done - 1)) continue;
    session.renewRows(byClass);
    const score = judged(session, held);
    if (!best || milder(score, best.score)) best = { score, epoch, adapter: session.save() };
    if (epoch - best.epoch > enough) break;
    epoch++;
  }
  return best;
}

/** An adapter with another seed of its A. */
function seeded(adapter, seed) {
  const made = adapter.slice();
  const view = new DataView(made.buffer);
  view.setUint32(24, seed, true);
  view.setUint32(12, crc32(made.subarray(16)), true);
  return made;
}

/** Learns samples: a generator of the share that is done. Returns what came of it.
 *
 * samples: `xs`, int8 inputs, `labels`, their classes' numbers, and `classes`, each with `number`
 * and `name` ("" for one of the base). The result: `adapter` to use, null for the base alone;
 * `used`, "layers", "rows" or "base"; `held`, how many samples decided, 0 if too few; `base`, `rows`
 * and `layers`, how many of these each has right; `trained`, the adapter with layers, in use or not.
 */
export function* learn(core, base, samples, seed = 0) {
  const session = new Session(core, base, TRAIN);
  const parts = apart(samples.labels);
  const judges = canJudge(parts.held.map((i) => samples.labels[i]));
  const part = (numbers) => ({
    xs: numbers.map((i) => samples.xs[i]),
    labels: numbers.map((i) => samples.labels[i]),
  });
  const [learned, held] = [part(parts.learned), part(parts.held)];
  const right = () => held.xs.filter((x, i) => session.infer(x) === held.labels[i]).length;
  const classes = samples.classes
    .map(({ number, name }) => ({
      number,
      name,
      samples: learned.xs.filter((_, i) => learned.labels[i] === number),
    }))
    .filter((one) => one.samples.length)
    .sort((a, b) => a.number - b.number);
  session.use(null);
  const before = right();
  const rows = session.rows(classes);
  if (!judges) return { adapter: rows, used: "rows", held: 0 };
  session.use(rows);
  const result = { held: held.xs.length, base: before, rows: right() };
  if (result.rows <= before) return { ...result, adapter: null, used: "base" };
  session.load(seeded(rows, 0));
  const score = judged(session, held);
  const made = yield* trained(session, rows, learned, held, seed);
  const wins = accepts(made.score, score, held.labels);
  const used = wins ? { adapter: made.adapter, used: "layers" } : { adapter: rows, used: "rows" };
  return { ...result, layers: made.score.right, trained: made.adapter, ...used };
}
