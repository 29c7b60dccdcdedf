// A board behind a serial port: the link's session, its files, its store.

import { hex, joined, little, unpacked } from "./bytes.js";
import { FrameReader, LINK_VERSION, OPS, STATUS, encode } from "./link.js";
import { Line, RawRepl } from "./repl.js";

const PROBE = `try:
 from edgelora.agent import run, LINK_VERSION
except ImportError:
 pass
print(globals().get('LINK_VERSION') == ${LINK_VERSION})`;
const BLOCK = 8192; // most bytes of a file in a request
const TRIES = 8;
const ANSWER = 5_000; // ms until the answer to a request
const WORK = 120_000; // ms until a board that works says so again
const IDLE = 20_000; // ms without a request, after which the agent ends
const UPLOAD = "/store.upload";

export async function sha256(bytes) {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

const asJson = (value) => new TextEncoder().encode(JSON.stringify(value));
const fromJson = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

/** What a board says of a request that it can't carry out. */
export class Refused extends Error {}

export class Board {
  /** Opens a port, and starts the agent. */
  static async on(port) {
    const board = new Board(await Line.open(port));
    try {
      await board.start();
    } catch (error) {
      await board.close();
      throw error;
    }
    return board;
  }

  constructor(line) {
    this._line = line;
    this._repl = new RawRepl(line);
    this._reader = new FrameReader();
    this._frames = [];
    this._sequence = 0;
    this._payload = 256; // most bytes of a request, until the board tells
  }

  /** Restarts MicroPython without main.py, which may fill the memory, then starts the agent.
   *
   * `hello` is what the board says of itself.
   */
  async start() {
    await this._repl.enter();
    await this._repl.softReset();
    if ((await this._repl.run(PROBE)).trim() === "False") {
      const { default: packed } = await import("./agent.js");
      await this._repl.run(new TextDecoder().decode(await unpacked(packed)));
    }
    await this._repl.leave();
    await this._repl.start(`run(${IDLE})`);
    this._sequence = 0;
    this._frames = [];
    this.hello = fromJson(await this._exchange(OPS.HELLO, asJson({ session: newSession() }), 0));
    this._payload = this.hello.max_payload;
  }

  /** Ends the agent; the board is at its prompt. */
  async _quit() {
    await this._exchange(OPS.QUIT, new Uint8Array(), 0);
  }

  /** Starts again, so that the board imports new modules. */
  async reload() {
    await this._quit();
    await this.start();
  }

  /** Restarts MicroPython, which runs main.py. */
  async restart() {
    await this._quit();
    await this._repl.enter();
    await this._repl.restart();
  }

  /** Ends the agent and lets MicroPython restart, which runs main.py. Does not wait for that. */
  async release() {
    await this._quit();
    await this._repl.reboot();
  }

  close() {
    return this._line.close();
  }

  async _frame(ms) {
    const most = performance.now() + ms;
    while (!this._frames.length) {
      const left = most - performance.now();
      if (left <= 0) return null;
      this._frames.push(...this._reader.feed(await this._line.read(left)));
    }
    return this._frames.shift();
  }

  /** Sends a request until it is answered; returns the answer's payload. */
  async _exchange(op, payload, sequence) {
    const request = encode(sequence, op, payload);
    let message = request;
    for (let tries = 0; tries < TRIES; tries++) {
      await this._line.write(message);
      let wait = ANSWER;
      for (let frame = await this._frame(wait); frame; frame = await this._frame(wait)) {
        const { code } = frame;
        if (code === STATUS.NAK) {
          message = request;
          break;
        }
        if (frame.sequence !== sequence) continue; // an answer that came twice
        if (code === STATUS.WORKING) {
          wait = WORK;
          message = encode(sequence, OPS.REPEAT, new Uint8Array());
          continue;
        }
        if (code === STATUS.OK) return frame.payload;
        if (code === STATUS.ERROR) throw new Refused(`The board says: ${fromJson(frame.payload).error}`);
        throw new Error("The board was restarted meanwhile. Start again.");
      }
    }
    throw new Error("The board does not answer. Check the cable, reset the board, then start again.");
  }

  request(op, payload) {
    this._sequence = (this._sequence % 127) + 1;
    return this._exchange(op, payload, this._sequence);
  }

  async control(op, fields) {
    return fromJson(await this.request(op, asJson(fields)));
  }

  // --- files

  /** Writes a file in one step, unless the board has it. */
  async put(path, bytes, progress = () => {}) {
    if (await this.holds(path, bytes)) return false;
    const whole = { path, size: bytes.length, sha256: await sha256(bytes), fresh: true };
    await this.control(OPS.PUT_OPEN, whole);
    const block = Math.min(BLOCK, this._payload - 4);
    for (let at = 0; at < bytes.length; at += block) {
      const part = bytes.subarray(at, at + block);
      await this.request(OPS.PUT_DATA, joined([little(at, 4), part]));
      progress(part.length);
    }
    await this.request(OPS.PUT_DONE, new Uint8Array());
    return true;
  }

  /** Size and SHA-256 of a file, read back on the board; null if there is none. */
  async stat(path) {
    try {
      return await this.control(OPS.STAT, { path });
    } catch (error) {
      if (error instanceof Refused) return null;
      throw error;
    }
  }

  async holds(path, bytes) {
    const there = await this.stat(path);
    return there?.size === bytes.length && there.sha256 === (await sha256(bytes));
  }

  /** The bytes of a file, or of what the board has made ready under a name. */
  async get(path, size) {
    const parts = [];
    for (let at = 0; at < size; at += parts.at(-1).length) {
      const part = await this.request(OPS.GET_DATA, joined([little(at, 4), little(BLOCK, 4), new TextEncoder().encode(path)]));
      if (!part.length) break;
      parts.push(part);
    }
    return joined(parts);
  }

  // --- model and store

  /** Opens a base to infer with adapters of these ranks. */
  open(path, ranks) {
    return this.control(OPS.MODEL, { path, ranks: [...ranks], mode: "infer" });
  }

  /** The class of each input, by the adapter in use. */
  async infer(xs) {
    const each = Math.max(1, Math.floor((this._payload - 4) / xs[0].length));
    const classes = [];
    for (let at = 0; at < xs.length; at += each) {
      const part = xs.slice(at, at + each);
      const answer = await this.request(OPS.EVAL, joined([little(0, 4), ...part]));
      classes.push(...answer.subarray(4, 4 + part.length));
    }
    return classes;
  }

  /** Keeps an adapter under a name, and uses it, also after a reset. Returns its bytes as the board reads them. */
  async keep(name, adapter) {
    await this.put(UPLOAD, adapter);
    await this.control(OPS.STORE, { do: "put", name, path: UPLOAD, version: null, place: null });
    await this.control(OPS.REMOVE, { path: UPLOAD });
    await this.control(OPS.STORE, { do: "activate", name });
    const { size } = await this.control(OPS.STORE, { do: "get", name });
    return this.get(`:${name}`, size);
  }
}

/** A session's number, such that HELLO has no control characters: it may end up at a prompt. */
function newSession() {
  for (;;) {
    const session = (crypto.getRandomValues(new Uint32Array(1))[0] >>> 2) | 1;
    if (encode(0, OPS.HELLO, asJson({ session })).every((byte) => byte >= 32)) return session;
  }
}
