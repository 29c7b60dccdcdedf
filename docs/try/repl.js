// A serial port, and MicroPython's raw REPL over it.

const BAUD = 115200;
const BUFFER = 16384;
const ROUNDS = 5; // of attempts to reach a prompt
const QUIET = 100; // ms of silence after an interrupt
const PROMPT = 5_000; // ms until a prompt
const CODE = 120_000; // ms for code to print something, or to end
const RAW = "raw REPL; CTRL-B to exit\r\n>";
const STARTED = 6_000; // ms in which a program that can't start says so
const LOST = "The board was disconnected. Connect it, then press the button again.";

function lost() {
  throw new Error(LOST);
}

/** Bytes from and to a port of WebSerial. */
export class Line {
  static async open(port) {
    try {
      await port.open({ baudRate: BAUD, bufferSize: BUFFER });
    } catch {
      throw new Error("The port can't be opened. Another program may use the board: end it, then try again.");
    }
    // MicroPython's USB port is silent without DTR. With RTS, too, serial adapters don't reset an ESP32.
    await port.setSignals({ dataTerminalReady: true, requestToSend: true }).catch(() => {});
    return new Line(port);
  }

  constructor(port) {
    this._port = port;
    this._reader = port.readable.getReader();
    this._writer = port.writable.getWriter();
    this._pending = null; // a read that no call has waited for to its end
    this._rest = new Uint8Array();
  }

  write(bytes) {
    return this._writer.write(bytes).catch(lost);
  }

  /** What comes next; nothing after so many milliseconds. */
  async read(ms) {
    if (this._rest.length) {
      const rest = this._rest;
      this._rest = new Uint8Array();
      return rest;
    }
    this._pending ??= this._reader.read().catch(() => ({ done: true }));
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, ms, null);
    });
    const got = await Promise.race([this._pending, late]);
    clearTimeout(timer);
    if (!got) return new Uint8Array();
    this._pending = null;
    if (got.done) lost();
    return got.value;
  }

  /** Puts bytes back, for the next read. */
  unread(bytes) {
    this._rest = bytes;
  }

  /** Lets the port go, also one that is lost. */
  async close() {
    await this._reader.cancel().catch(() => {});
    this._reader.releaseLock();
    this._writer.releaseLock();
    await this._port.close().catch(() => {});
  }
}

const bytesOf = (text) => new TextEncoder().encode(text);
const textOf = (bytes) => String.fromCharCode(...bytes);

export class RawRepl {
  constructor(line) {
    this._line = line;
    this._text = ""; // a character for each byte
  }

  /** Stops whatever runs on the board, and enters the raw prompt. */
  async enter() {
    for (let round = 0; round < ROUNDS; round++) {
      await this._line.write(bytesOf("\r\x03\x03"));
      await this._quiet();
      await this._line.write(bytesOf("\r\x01"));
      if ((await this._until(RAW, PROMPT)) !== null) {
        await this._quiet();
        return;
      }
    }
    throw new Error("No MicroPython answers on this port. Put MicroPython on the board first, or reset it.");
  }

  async _quiet() {
    while ((await this._line.read(QUIET)).length);
    this._text = "";
  }

  /** The text before `end`; null if it does not come. */
  async _until(end, ms) {
    const most = performance.now() + ms;
    for (let at = this._text.indexOf(end); ; at = this._text.indexOf(end)) {
      if (at >= 0) {
        const found = this._text.slice(0, at);
        this._text = this._text.slice(at + end.length);
        return found;
      }
      const left = most - performance.now();
      if (left <= 0) return null;
      this._text += textOf(await this._line.read(left));
    }
  }

  async _expect(end) {
    const found = await this._until(end, CODE);
    if (found === null) throw new Error("The board stopped answering. Reset it, then try again.");
    return found;
  }

  async _exactly(size) {
    const most = performance.now() + CODE;
    while (this._text.length < size && performance.now() < most) this._text += textOf(await this._line.read(CODE));
    const found = this._text.slice(0, size);
    this._text = this._text.slice(size);
    return found;
  }

  /** Runs code; returns what it prints. */
  async run(code) {
    await this._line.write(bytesOf("\x05A\x01"));
    if ((await this._exactly(2)) !== "R\x01") {
      throw new Error("This MicroPython is too old. Put version 1.25 or later on the board.");
    }
    const size = await this._exactly(2);
    const window = size.charCodeAt(0) | (size.charCodeAt(1) << 8);
    let rest = bytesOf(code);
    for (let room = window; rest.length; ) {
      if (!room) {
        if ((await this._exactly(1)) !== "\x01") throw new Error("The board interrupted the transfer. Reset it, then try again.");
        room += window;
        continue;
      }
      const part = rest.subarray(0, room);
      await this._line.write(part);
      rest = rest.subarray(part.length);
      room -= part.length;
    }
    await this._line.write(bytesOf("\x04"));
    await this._expect("\x04");
    const printed = await this._expect("\x04");
    const error = (await this._expect("\x04>")).trim();
    if (error) throw new Error(`The board could not run the code: ${error.split("\n").pop()}`);
    return printed;
  }

  /** Goes to the friendly prompt. */
  async leave() {
    await this._line.write(bytesOf("\r\x02"));
    await this._expect(">>> ");
  }

  /** At the friendly prompt: starts a statement that goes on. */
  async start(statement) {
    await this._line.write(bytesOf(`${statement}\r`));
    if (this._text) this._line.unread(bytesOf(this._text));
  }

  /** At the raw prompt: restarts MicroPython without main.py, and stays there. */
  async softReset() {
    await this._line.write(bytesOf("\x04"));
    await this._expect(RAW);
  }

  /** At the friendly prompt: restarts MicroPython with main.py. */
  reboot() {
    return this._line.write(bytesOf("\r\x04"));
  }

  /** At the raw prompt: restarts MicroPython with main.py. An error says why that ended at once. */
  async restart(ms = STARTED) {
    await this.leave();
    await this._line.write(bytesOf("\x04"));
    await this._expect("soft reboot");
    const ended = await this._until(">>> ", ms);
    if (ended === null) return;
    const [error] = ended.split("\r\n").filter((line) => /^\w+Error\b/.test(line)).slice(-1);
    throw new Error(`All is on the board, but its program ended: ${error ?? "no error was told"}. ` +
      "Check how the sensor is wired, then reset the board.");
  }
}
