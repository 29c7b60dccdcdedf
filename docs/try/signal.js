// From a sensor's counts to a base's inputs, by the board's front ends: what edgelora.pipeline does.

const RAW = 0;
const AUDIO = { window: 160, hop: 160, stride: 160, size: 40 };
const SPECTRAL = { window: 512, hop: 512, size: 68 };
const KEPT_ROWS = 600; // of a front end, to choose samples from
const PAUSE = 2; // seconds in which one sound is recorded

/** No front end: a window of counts is an input. */
class Plain {
  constructor(core, { window, hop, channels }) {
    this.window = window;
    this.hop = hop;
    this.stride = hop;
    this.size = window * channels;
    this.rows = 1;
    this.every = 1;
    this._out = 0;
  }

  step(counts) {
    return counts;
  }
}

/** Sound or vibration: rows of features, of which the newest are an input. */
class Front {
  constructor(core, base) {
    const { calls } = core;
    const { front, channels, window, hop } = base.signal;
    const kind = front === "audio" ? AUDIO : SPECTRAL;
    this.window = kind.window;
    this.hop = kind.hop;
    this.size = kind.size;
    this.rows = base.inputs / kind.size;
    const frames = window / (SPECTRAL.window * this.rows);
    this.stride = kind.stride ?? SPECTRAL.window * frames;
    this.every = hop / this.stride;
    this._step = calls[`edgelora_${front}_step`];
    const bytes = calls[`edgelora_${front}_state_size`]();
    this._state = core.take(bytes);
    const settings = front === "audio" ? [] : [channels, 0, frames];
    core.check(calls[`edgelora_${front}_begin`](this._state, bytes, ...settings, RAW, 0, 0));
    this._out = core.take(2 * this.size);
  }

  /** The address of the features that a window of counts, at an address, completes; else 0. */
  step(counts) {
    return this._step(this._state, counts, this._out) ? this._out : 0;
  }
}

export class Pipeline {
  constructor(core, base) {
    const { front, channels } = base.signal;
    this.core = core;
    this.base = base;
    this._front = front === "none" ? new Plain(core, base.signal) : new Front(core, base);
    this._channels = channels;
    this._model = core.put(base.elm);
    core.check(core.calls.edgelora_model_check(this._model, base.elm.length));
    this._window = core.take(2 * this._front.window * channels);
    this._x = core.take(this._front.size);
    this._have = 0; // counts in the window
    this._missing = this._front.rows; // rows until the next input
    this._rows = []; // int8 rows, each with how loud it is
    this.seconds = this._front.stride / base.signal.rate; // of a row
  }

  /** Takes counts, int16 of all channels in turn. Calls `onInput` with each input, int8, as a board would infer it. */
  feed(counts, onInput) {
    const { calls } = this.core;
    const whole = this._front.window * this._channels;
    for (let at = 0; at < counts.length; ) {
      const part = counts.subarray(at, at + whole - this._have);
      new Int16Array(calls.memory.buffer, this._window, whole).set(part, this._have);
      at += part.length;
      this._have += part.length;
      if (this._have < whole) return;
      const row = this._front.step(this._window);
      const keep = (this._front.window - this._front.hop) * this._channels;
      if (row) this._keep(row);
      new Int16Array(calls.memory.buffer, this._window, whole).copyWithin(0, whole - keep, whole);
      this._have = keep;
      if (row && !--this._missing) {
        this._missing = this._front.every;
        onInput(this.newest());
      }
    }
  }

  _keep(row) {
    const { core, _front: front } = this;
    core.check(core.calls.edgelora_quantize(this._model, row, front.size, this._x));
    const q = core.bytes(this._x, front.size).slice();
    const values = new Int8Array(q.buffer);
    this._rows.push({ q, loud: values.reduce((sum, v) => sum + v, 0) });
    if (this._rows.length > KEPT_ROWS) this._rows.shift();
  }

  /** The input that ends so many rows ago. */
  newest(ago = 0) {
    const end = this._rows.length - ago;
    const x = new Uint8Array(this.base.inputs);
    this._rows.slice(end - this._front.rows, end).forEach(({ q }, i) => x.set(q, i * q.length));
    return x;
  }

  /** The loudest input of the last so many rows. */
  loudest(rows) {
    const { length } = this._rows;
    const sum = (ago) => {
      const end = length - ago;
      return this._rows.slice(end - this._front.rows, end).reduce((all, row) => all + row.loud, 0);
    };
    const most = Math.min(rows, length) - this._front.rows;
    let best = 0;
    for (let ago = 1; ago <= most; ago++) if (sum(ago) > sum(best)) best = ago;
    return this.newest(best);
  }

  /** What records samples: it takes each input as it comes or, of sound, the loudest of each two seconds. */
  recorder(onSample) {
    if (this.base.signal.front !== "audio") return { input: onSample, every: this.base.signal.hop / this.base.signal.rate };
    const rows = Math.round(PAUSE / this.seconds);
    const inputs = Math.round(rows / this._front.every);
    let waiting = inputs;
    const input = () => {
      if (--waiting) return;
      waiting = inputs;
      onSample(this.loudest(rows));
    };
    return { input, every: PAUSE };
  }
}
