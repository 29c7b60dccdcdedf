// Draws the last seconds of a signal.

const SECONDS = { sound: 2, motion: 6 };
const COLUMNS = 320;

export class Chart {
  constructor(canvas, base) {
    this._canvas = canvas;
    this._channels = base.signal.channels;
    this._per = Math.ceil((base.signal.rate * SECONDS[base.name]) / COLUMNS); // samples of a column
    this._columns = []; // lowest and highest count of each channel
    this._now = null;
    this._have = 0;
    this._asked = false;
  }

  feed(counts) {
    for (let at = 0; at < counts.length; at += this._channels) {
      this._now ??= Array.from({ length: this._channels }, (_, c) => [counts[at + c], counts[at + c]]);
      this._now.forEach((range, c) => {
        range[0] = Math.min(range[0], counts[at + c]);
        range[1] = Math.max(range[1], counts[at + c]);
      });
      if (++this._have < this._per) continue;
      this._columns.push(this._now);
      if (this._columns.length > COLUMNS) this._columns.shift();
      this._now = null;
      this._have = 0;
    }
    if (this._asked) return;
    this._asked = true;
    requestAnimationFrame(() => this._draw());
  }

  _draw() {
    this._asked = false;
    const { width, height } = this._canvas;
    const context = this._canvas.getContext("2d");
    const most = this._columns.flat(2).reduce((high, v) => Math.max(high, Math.abs(v)), 1024);
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(this._canvas).color;
    context.globalAlpha = this._channels > 1 ? 0.6 : 1;
    const step = width / COLUMNS;
    this._columns.forEach((column, x) => {
      for (const [low, high] of column) {
        const top = (height / 2) * (1 - high / most);
        context.fillRect(x * step, top, step, Math.max(1.5, ((high - low) / most) * (height / 2)));
      }
    });
  }
}
