// This device's microphone and motion sensor, as a board's source: counts, int16, at a base's rate.

const GRAVITY = 9.80665; // m/s2
const LONGEST_GAP = 0.5; // seconds without an event, after which a stream begins anew
const PATIENCE = 3000; // ms until the first event
const TAPS = 16; // on each side of a resampled value

const asCounts = (values, scale) =>
  Int16Array.from(values, (v, i) =>
    Math.max(-32768, Math.min(32767, Math.round(v / (scale[i % scale.length] ?? 1)))),
  );

/** Sound at another rate: a low-pass that ends below half of the lower rate, at fractional places. */
export class Resampler {
  constructor(from, to) {
    this._step = from / to;
    this._cut = Math.min(1, to / from) * 0.9;
    this._half = Math.ceil(TAPS * Math.max(1, this._step));
    this._kept = new Float32Array(2 * this._half);
    this._at = this._half; // of the next value, in `_kept`
  }

  feed(samples) {
    const all = new Float32Array(this._kept.length + samples.length);
    all.set(this._kept);
    all.set(samples, this._kept.length);
    const out = [];
    for (; this._at + this._half < all.length; this._at += this._step) out.push(this._value(all, this._at));
    const used = Math.max(0, Math.floor(this._at) - this._half);
    this._kept = all.slice(used);
    this._at -= used;
    return Float32Array.from(out);
  }

  _value(all, at) {
    let sum = 0;
    for (let i = Math.ceil(at - this._half); i <= at + this._half; i++) {
      const x = i - at;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * x) / this._half);
      const phase = Math.PI * x * this._cut;
      sum += (all[i] ?? 0) * this._cut * window * (phase ? Math.sin(phase) / phase : 1);
    }
    return sum;
  }
}

/** Opens the microphone. Returns a function that closes it. */
export async function microphone(signal, onCounts) {
  const exact = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: exact });
  let context = new AudioContext({ sampleRate: signal.rate });
  let source;
  try {
    source = context.createMediaStreamSource(stream);
  } catch {
    context = new AudioContext(); // this browser has no other rate than the microphone's
    source = context.createMediaStreamSource(stream);
  }
  await context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
  const node = new AudioWorkletNode(context, "capture");
  const resampler = context.sampleRate === signal.rate ? null : new Resampler(context.sampleRate, signal.rate);
  node.port.onmessage = ({ data }) =>
    onCounts(asCounts(resampler ? resampler.feed(data) : data, [1 / 32767]));
  source.connect(node).connect(context.destination);
  await context.resume();
  return () => {
    for (const track of stream.getTracks()) track.stop();
    context.close();
  };
}

/** Values at even times, from events at their own. */
export class Clocked {
  constructor(rate) {
    this._step = 1 / rate;
    this._last = null; // time and values of the last event
    this._next = 0;
  }

  /** Values of the moments up to this event, each one interpolated. */
  feed(time, values) {
    const last = this._last;
    this._last = { time, values };
    if (!last || time - last.time > LONGEST_GAP || time <= last.time) {
      this._next = time;
      return [];
    }
    const out = [];
    for (; this._next <= time; this._next += this._step) {
      const share = (this._next - last.time) / (time - last.time);
      out.push(...values.map((v, i) => last.values[i] + share * (v - last.values[i])));
    }
    return out;
  }
}

/** Opens the motion sensor: acceleration in g, rotation in rad/s. Returns a function that closes it. */
export async function motion(signal, onCounts) {
  if (DeviceMotionEvent.requestPermission && (await DeviceMotionEvent.requestPermission()) !== "granted") {
    throw new Error("This page may not read the motion sensor. Allow it, then try again.");
  }
  const clocked = new Clocked(signal.rate);
  const found = new AbortController();
  const moved = (event) => {
    const a = event.accelerationIncludingGravity;
    if (a?.x == null) return;
    found.abort();
    const turn = event.rotationRate ?? {};
    const degrees = [turn.beta, turn.gamma, turn.alpha];
    const values = [a.x, a.y, a.z].map((v) => v / GRAVITY);
    values.push(...degrees.map((v) => ((v ?? 0) * Math.PI) / 180));
    onCounts(asCounts(clocked.feed(event.timeStamp / 1000, values), signal.scales));
  };
  window.addEventListener("devicemotion", moved);
  const close = () => window.removeEventListener("devicemotion", moved);
  const there = await new Promise((resolve) => {
    found.signal.addEventListener("abort", () => resolve(true));
    setTimeout(() => resolve(false), PATIENCE);
  });
  if (there) return close;
  close();
  throw new Error("This device has no motion sensor. Open this page on a phone, or use the microphone.");
}
