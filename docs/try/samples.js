// The samples of this page's user: classes by name, each with inputs of a base.

import { crc32, joined, little } from "./bytes.js";

const LONGEST_NAME = 24; // bytes that an adapter has for a name
export const MOST_CLASSES = 16; // that an adapter adds

export class Samples {
  constructor(base) {
    this.base = base;
    this.names = []; // of the classes
    this.taken = []; // samples in the order of recording: name and x
  }

  /** Adds a class. An error says what is wrong with its name. */
  add(name) {
    const clean = name.trim();
    if (!clean || /\p{C}/u.test(clean)) throw new Error("Give the class a name.");
    if (new TextEncoder().encode(clean).length > LONGEST_NAME) {
      throw new Error(`Give a shorter name: it may take ${LONGEST_NAME} bytes.`);
    }
    if (this.names.includes(clean)) throw new Error(`There is a class ${clean} already.`);
    if (this.names.length === MOST_CLASSES) throw new Error(`An adapter has room for ${MOST_CLASSES} classes.`);
    this.names.push(clean);
    return clean;
  }

  remove(name) {
    this.names = this.names.filter((one) => one !== name);
    this.taken = this.taken.filter((one) => one.name !== name);
  }

  take(name, x) {
    this.taken.push({ name, x });
  }

  /** Takes the last sample back; returns its class, undefined if there is none. */
  undo() {
    return this.taken.pop()?.name;
  }

  count(name) {
    return this.taken.filter((one) => one.name === name).length;
  }

  /** Classes with their numbers: the base's own, where it has the name, else the next one. */
  numbered() {
    let next = this.base.outputs;
    return this.names
      .filter((name) => this.count(name))
      .map((name) => {
        const known = this.base.labels.indexOf(name);
        return known < 0 ? { label: name, number: next++, name } : { label: name, number: known, name: "" };
      });
  }

  /** What `learn` takes. */
  toLearn() {
    const classes = this.numbered();
    const numbers = new Map(classes.map(({ label, number }) => [label, number]));
    return {
      xs: this.taken.map(({ x }) => x),
      labels: this.taken.map(({ name }) => numbers.get(name)),
      classes,
    };
  }

  /** A sample file `.eld` (SPEC.md, section 13). */
  file() {
    const { xs, labels } = this.toLearn();
    const checked = (...parts) => [...parts, little(crc32(joined(parts)), 4)];
    const head = [Uint8Array.of(69, 76, 68, 49, 1, 0, 32, 0), this.base.id, little(this.base.inputs, 4), little(0, 8)];
    const records = xs.flatMap((x, i) => checked(Uint8Array.of(labels[i]), x));
    return joined([...checked(...head), ...records]);
  }
}
