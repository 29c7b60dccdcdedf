// Frames of the link to a board (SPEC.md, section 10).

import { crc32, joined, little } from "./bytes.js";

export const OPS = {
  HELLO: 0x01,
  QUIT: 0x02,
  REPEAT: 0x03,
  PUT_OPEN: 0x10,
  PUT_DATA: 0x11,
  PUT_DONE: 0x12,
  STAT: 0x13,
  GET_DATA: 0x14,
  LIST: 0x15,
  REMOVE: 0x16,
  SPACE: 0x17,
  MODEL: 0x20,
  EVAL: 0x24,
  STORE: 0x30,
  SENSE_OPEN: 0x32,
  SENSE_DATA: 0x33,
};
export const STATUS = { OK: 0, WORKING: 1, NAK: 2, ERROR: 3, NO_SESSION: 4 };
export const LINK_VERSION = 2;
const SYNC = 0xe5;
const HEADER = 9;
const CTRL_C = 3;

const u14 = (value) => [(value & 127) | 128, ((value >> 7) & 127) | 128];

function start(sequence, code, size) {
  return [SYNC, sequence | 128, code | 128, ...u14(size)];
}

function header(first, fixes) {
  const head = [...first, ...u14(fixes)];
  return [...head, ...u14(crc32(head))];
}

/** A request's bytes on the line to a board. None of them is 3, Ctrl-C. */
export function encode(sequence, op, payload) {
  const first = start(sequence, op, payload.length);
  const raw = joined([payload, little(crc32(joined([first, payload])), 4)]);
  const positions = [...raw.keys()].filter((i) => raw[i] === CTRL_C);
  const body = raw.map((byte) => (byte === CTRL_C ? 0 : byte));
  return joined([header(first, positions.length), body, positions.flatMap(u14)]);
}

/** Finds the intact frames in what a board says. */
export class FrameReader {
  constructor() {
    this._data = new Uint8Array();
    this.damaged = 0;
  }

  /** Takes bytes; returns the frames that they complete: `sequence`, `code` and `payload` each. */
  feed(bytes) {
    this._data = joined([this._data, bytes]);
    const found = [];
    for (let frame = this._next(); frame; frame = this._next()) found.push(frame);
    return found;
  }

  _next() {
    for (;;) {
      const from = this._data.indexOf(SYNC);
      this._data = from < 0 ? new Uint8Array() : this._data.subarray(from);
      const data = this._data;
      if (data.length < HEADER) return null;
      const first = [...data.subarray(0, 5)];
      if (header(first, 0).some((byte, i) => byte !== data[i])) {
        this._data = data.subarray(1);
        continue;
      }
      const end = HEADER + ((data[3] & 127) | ((data[4] & 127) << 7)) + 4;
      if (data.length < end) return null;
      const payload = data.slice(HEADER, end - 4);
      const crc = little(crc32(joined([first, payload])), 4);
      if (crc.some((byte, i) => byte !== data[end - 4 + i])) {
        this.damaged++;
        this._data = data.subarray(1);
        continue;
      }
      this._data = data.slice(end);
      return { sequence: data[1] & 127, code: data[2] & 127, payload };
    }
  }
}
