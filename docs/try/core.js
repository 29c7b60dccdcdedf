// The board's own C core as WebAssembly, and a session of a base in its memory.

import { unpacked } from "./bytes.js";

export const INFER = 0;
export const TRAIN = 1; // B trains, A is frozen
const MOMENTUM = [0, 2];
const CLASSES = 1; // record of added classes in an adapter
const CLASS_HEAD = 32; // bytes of a class before its row
const MOST = 1024; // samples that a row is made of
const PAGE = 65536;

// A function that makes a vector of 16 zeros.
const VECTORS = Uint8Array.of(
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 8, 1, 6, 0, 65, 0, 253, 15, 11],
);

export const hasVectors = () => WebAssembly.validate(VECTORS);

export class Core {
  /** Compiles the core; without `vectors`, the one for browsers that lack them. Both compute the same bytes. */
  static async load(vectors = hasVectors()) {
    const { default: packed } = await import(vectors ? "./core-simd.js" : "./core-plain.js");
    const { instance } = await WebAssembly.instantiate(await unpacked(packed));
    return new Core(instance.exports, vectors);
  }

  constructor(exports, vectors) {
    this.calls = exports;
    this.vectors = vectors;
    this._top = exports.__heap_base.value;
  }

  /** Takes memory, which is never given back: the address, a multiple of 64. */
  take(size) {
    const at = (this._top + 63) & ~63;
    const { memory } = this.calls;
    const missing = at + size - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
    this._top = at + size;
    return at;
  }

  /** Bytes in memory. The view ends with the next `take`. */
  bytes(at, size) {
    return new Uint8Array(this.calls.memory.buffer, at, size);
  }

  /** Copies bytes into memory that it takes: their address. */
  put(bytes) {
    const at = this.take(bytes.length);
    this.bytes(at, bytes.length).set(bytes);
    return at;
  }

  u32(at) {
    return new DataView(this.calls.memory.buffer).getUint32(at, true);
  }

  /** The result of a call; an error with the core's own words if it is a status below 0. */
  check(result) {
    if (result >= 0) return result;
    const text = this.bytes(this.calls.edgelora_status_text(result), 400);
    throw new Error(new TextDecoder().decode(text.slice(0, text.indexOf(0))));
  }
}

/** A base in an arena. Adapters are bytes; null is the base alone. */
export class Session {
  constructor(core, base, mode) {
    const { calls } = core;
    this.core = core;
    this.base = base;
    this._model = core.put(base.elm);
    core.check(calls.edgelora_model_check(this._model, base.elm.length));
    const layout = [core.put(base.ranks), mode, MOMENTUM[mode]];
    const scratch = core.take(calls.page_scratch_size(this._model));
    const size = core.check(calls.page_arena_size(this._model, ...layout, scratch));
    this._arena = core.take(size);
    core.check(calls.page_init(this._arena, size, this._model, ...layout));
    this._x = core.take(base.inputs);
    this._word = core.take(4);
    this._chances = core.take(2 * 1024);
    this.classSize = calls.edgelora_class_size(this._model);
    this._sums = core.take(4 * this.classSize);
    this._loaded = null; // address and size of the adapter that `load` took
  }

  _sample(x) {
    this.core.bytes(this._x, x.length).set(x);
    return this._x;
  }

  /** Infers with an adapter from now on. */
  use(adapter) {
    const at = adapter ? this.core.put(adapter) : 0;
    this.core.check(this.core.calls.edgelora_use(this._arena, at, adapter?.length ?? 0));
  }

  /** Trains, and infers, with an adapter from now on. */
  load(adapter) {
    const at = this.core.put(adapter);
    this.core.check(this.core.calls.edgelora_load(this._arena, at, adapter.length));
    this._loaded = { at, size: adapter.length };
  }

  /** The class of an input, int8. */
  infer(x) {
    return this.core.check(this.core.calls.edgelora_infer_sample(this._arena, this._sample(x)));
  }

  /** Probabilities of all classes in the last inference, in 1/32768: the base's, then added ones. */
  probabilities() {
    const { calls } = this.core;
    const count = calls.edgelora_class_count(this._arena);
    this.core.check(calls.edgelora_probabilities(this._arena, this._chances));
    return new Uint16Array(calls.memory.buffer, this._chances, count).slice();
  }

  /** The class of a sample, and its loss in 1/4096 nat. */
  evaluate(x, label) {
    const { calls } = this.core;
    const at = this._sample(x);
    const named = calls.edgelora_evaluate(this._arena, at, label, 0, this._word);
    return [this.core.check(named), this.core.u32(this._word) | 0];
  }

  train(x, label, rate) {
    const { calls } = this.core;
    const at = this._sample(x);
    this.core.check(calls.edgelora_train(this._arena, at, label, 0, rate, this._word));
  }

  /** Updates with the samples since the last update. */
  flush(rate) {
    this.core.check(this.core.calls.edgelora_flush(this._arena, rate));
  }

  /** The adapter in training. */
  save() {
    const size = this.core.calls.edgelora_adapter_size(this._arena, 0);
    const at = this.core.take(size);
    this.core.check(this.core.calls.edgelora_save(this._arena, 0, at, size));
    return this.core.bytes(at, size).slice();
  }

  /** Computes bias, number of samples and row of a class from its samples, in place. */
  _row(samples, entry) {
    const { calls } = this.core;
    this.core.bytes(this._sums, 4 * this.classSize).fill(0);
    const taken = samples.slice(0, MOST);
    for (const x of taken) {
      const at = this._sample(x);
      this.core.check(calls.edgelora_class_sample(this._arena, at, this._sums));
    }
    this.core.check(calls.edgelora_class_row(this._arena, this._sums, taken.length, entry));
  }

  /** An adapter that has a row for each of these classes, and nothing else.
   *
   * classes: by rising `number`, each with `samples` and a `name`, "" for a class of the base.
   */
  rows(classes) {
    const { core } = this;
    const span = CLASS_HEAD + ((2 * this.classSize + 3) & ~3);
    const size = 4 + span * classes.length;
    const body = core.take(size);
    core.bytes(body, size).fill(0);
    core.bytes(body, 4).set([classes.length, 0, this.classSize & 255, this.classSize >> 8]);
    this.use(null);
    classes.forEach(({ number, name, samples }, i) => {
      const entry = body + 4 + span * i;
      this._row(samples, entry);
      const head = core.bytes(entry, CLASS_HEAD);
      head.set([number & 255, number >> 8], 4);
      head.set(new TextEncoder().encode(name), 8);
    });
    const made = (...out) =>
      core.check(
        core.calls.edgelora_with_record(this._arena, 0, 0, CLASSES, body, size, ...out),
      );
    const whole = made(0, 0);
    const at = core.take(whole);
    made(at, whole);
    return core.bytes(at, whole).slice();
  }

  /** Computes the rows of the adapter in training again, with its layers. samples: by class number. */
  renewRows(samples) {
    const { core } = this;
    const { at, size } = this._loaded;
    const record = core.calls.edgelora_record(at, size, CLASSES);
    const span = CLASS_HEAD + ((2 * this.classSize + 3) & ~3);
    const count = core.u32(record + 8) & 0xffff;
    for (let i = 0; i < count; i++) {
      const entry = record + 12 + span * i;
      const of = samples.get(core.u32(entry + 4) & 0xffff);
      if (of) this._row(of, entry);
    }
    const crc = core.calls.edgelora_crc32(0, at + 16, size - 16);
    new DataView(core.calls.memory.buffer).setUint32(at + 12, crc >>> 0, true);
  }
}
