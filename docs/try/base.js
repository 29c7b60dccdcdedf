// A base network: what its .elm says of its input, its classes and its layers (SPEC.md, section 8).

import { unpacked } from "./bytes.js";

const ADAPTED = new Set([1, 2, 25]); // dense, conv, project
const FRONTS = ["none", "audio", "spectral"];
const RANK = 8;
const ABOUT = {
  motion: "seven exercises of a wrist",
  sound: "ten spoken words, other words, silence",
};

/** Reads the signal record at this offset. */
function signalAt(view, at) {
  const normals = view.getUint16(at + 16, true);
  return {
    front: FRONTS[view.getUint8(at + 1)],
    channels: view.getUint16(at + 2, true),
    rate: view.getUint32(at + 4, true) / 1000,
    window: view.getUint32(at + 8, true),
    hop: view.getUint32(at + 12, true),
    scales: Array.from({ length: normals }, (_, i) => view.getFloat32(at + 20 + 20 * i, true)),
  };
}

export class Base {
  /** The base of this site with this name: "motion" or "sound". */
  static async named(name) {
    const { default: packed } = await import(`./base-${name}.js`);
    return new Base(name, await unpacked(packed));
  }

  constructor(name, elm) {
    const view = new DataView(elm.buffer, elm.byteOffset, elm.length);
    const u16 = (at) => view.getUint16(at, true);
    const u32 = (at) => view.getUint32(at, true);
    const size = (tensor) => [0, 2, 4].reduce((n, at) => n * u16(u32(28) + 12 * tensor + at), 1);
    const labels = elm.subarray(u32(36), u32(36) + u32(40));
    this.name = name;
    this.about = ABOUT[name];
    this.elm = elm;
    this.id = elm.slice(16, 24);
    this.inputs = size(0);
    this.outputs = size(u16(24) - 1);
    this.labels = new TextDecoder().decode(labels).split("\n");
    this.signal = signalAt(view, 4 * u16(66));
    this.ranks = Uint8Array.from({ length: u16(26) }, (_, op) =>
      ADAPTED.has(elm[u32(32) + 36 * op]) ? RANK : 0,
    );
  }
}
