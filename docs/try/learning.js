// Learning as on a board (SPEC.md, section 13): rows for the classes, then layers. Held-out samples
// decide what is used: nothing that is worse.

import { crc32 } from "./bytes.js";
import { Session, TRAIN } from "./core.js";
import {
  LEARNING_RATES,
  _exceeds_chance as exceedsChance,
  _guesses as guesses,
  _rare as rare,
  apart,
  better,
  can_judge as canJudge,
  falling_rate as fallingRate,
  fitting_epochs as fittingEpochs,
  is_enough as isEnough,
  milder,
} from "./rules.js"; // the device's own Python, which tools/try_page.py translates

const MICRO_BATCH = 8;
const RATE = LEARNING_RATES[TRAIN];

/** Whether layers are so good that they replace rows: clearly better, and better than guessing. */
function accepts(layers, rows, labels) {
  const [right] = layers;
  const clear = exceedsChance(right - rows[0], labels.length - right);
  return !guesses(right, labels) && better(...layers, ...rows) && clear;
}

/** A score: how many held-out samples are right, and the sum of their losses. */
function judged(session, { xs, labels }) {
  let right = 0;
  let loss = 0;
  xs.forEach((x, i) => {
    const [named, lost] = session.evaluate(x, labels[i]);
    right += Number(named === labels[i]);
    loss += lost;
  });
  return [right, loss];
}

/** Trains the layers of an adapter that has rows; yields the share that is done.
 *
 * Returns the adapter of the epoch with the smallest loss on held-out samples, and its score.
 */
function* trained(session, rows, learned, held, seed) {
  const { core } = session;
  const { xs, labels } = learned;
  const byClass = new Map([...new Set(labels)].map((y) => [y, xs.filter((_, i) => labels[i] === y)]));
  const again = rare(labels);
  const places = xs.length + again.length;
  const epochs = fittingEpochs(places, MICRO_BATCH);
  const steps = epochs * places;
  const updates = Math.ceil(steps / MICRO_BATCH);
  const passed = (n) => (MICRO_BATCH > places ? n : Math.min(epochs, Math.floor((n * MICRO_BATCH) / places)));
  let best = null;
  session.load(seeded(rows, seed));
  session.renewRows(byClass);
  for (let done = 0, epoch = 0; done < updates; ) {
    const rate = fallingRate(RATE, done, updates);
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
    if (!best || milder(...score, ...best.score)) best = { score, epoch, adapter: session.save() };
    if (isEnough(epoch - best.epoch, epochs)) break;
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
  const parts = apart(samples.labels); // numbers of the samples to learn, and of those held out
  const judges = canJudge(parts[1].map((i) => samples.labels[i]));
  const part = (numbers) => ({
    xs: numbers.map((i) => samples.xs[i]),
    labels: numbers.map((i) => samples.labels[i]),
  });
  const [learned, held] = parts.map(part);
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
  return { ...result, layers: made.score[0], trained: made.adapter, ...used };
}
