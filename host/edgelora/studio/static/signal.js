// The signal of a board's sensor on a canvas: traces, or a spectrogram; below, the class of each window, and bars.
//
// The page requests a frame when it has drawn the one before, so a hidden page requests none. All buffers have a
// fixed size. Names are only put into text nodes or drawn as text.

const SPAN = 8; // seconds shown
const LEAST_MS = 30; // between frames
const DASHES = [[], [7, 3], [2, 2.5]]; // lines differ not in color alone
const LIGHT = ["#0b6e5e", "#b3480f", "#3b4fa3"];
const DARK = ["#6fd0bc", "#ffb38a", "#aab8ff"];
const SOUND = [[11, 16, 28], [27, 58, 107], [18, 125, 120], [139, 190, 86], [250, 232, 120]];
const STRIP = 26; // pixels: the classes of windows
const TAIL = 18; // pixels: the time axis
const IDLE = "Not listening yet: choose a source below, and press Start.";

function spread(stops) {
  const table = new Uint8ClampedArray(1024);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const k = Math.min(Math.floor(at), stops.length - 2);
    for (let c = 0; c < 3; c++) table[4 * i + c] = stops[k][c] + (at - k) * (stops[k + 1][c] - stops[k][c]);
    table[4 * i + 3] = 255;
  }
  return table;
}
const TABLE = spread(SOUND);

function lanesOf(channels) {
  if (channels % 3 === 0) return Array.from({ length: channels / 3 }, (_, i) => [3 * i, 3 * i + 1, 3 * i + 2]);
  return Array.from({ length: Math.min(channels, 6) }, (_, i) => [i]);
}

export default {
  template: `
    <div class="signal">
      <div ref="headline" class="headline" hidden><span ref="seen" class="headline-name"></span><span ref="sure" class="headline-share"></span></div>
      <div class="signal-head">
        <span ref="source" class="signal-source"></span>
        <span ref="state" class="chip"></span>
        <span class="grow"></span>
        <span ref="numbers" class="signal-numbers"></span>
      </div>
      <canvas ref="canvas" role="img" aria-label="What the board senses: nothing yet"></canvas>
      <div ref="bars" class="bars" role="group" aria-label="Probability of each class"></div>
      <div ref="polite" class="only-read" aria-live="polite"></div>
    </div>`,
  props: { board: String, bars: { type: Boolean, default: true } },
  mounted() {
    this.told = null;
    this.rows = [];
    this.spokenAt = 0;
    this.spoken = "";
    this.clear(1);
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.$refs.canvas);
    this.shown = () => this.ask();
    document.addEventListener("visibilitychange", this.shown);
    this.themed = new MutationObserver(() => this.colors());
    this.themed.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.colors();
    this.fit();
    this.open();
  },
  beforeUnmount() {
    this.gone = true;
    clearTimeout(this.later);
    document.removeEventListener("visibilitychange", this.shown);
    this.resized.disconnect();
    this.themed.disconnect();
    this.socket?.close();
  },
  methods: {
    open() {
      if (this.gone) return;
      const socket = new WebSocket(`ws://${location.host}/senses/live?board=${encodeURIComponent(this.board)}`);
      socket.binaryType = "arraybuffer";
      socket.onopen = () => { this.waits = false; this.ask(); };
      socket.onmessage = (event) => {
        this.waits = false;
        this.came = performance.now();
        if (event.data.byteLength) this.take(event.data);
        this.schedule();
      };
      socket.onclose = () => { if (!this.gone) setTimeout(() => this.open(), 1000); };
      this.socket = socket;
    },
    // Requests new data, unless an answer is on its way or the page is hidden.
    ask() {
      if (this.waits || document.hidden || this.socket?.readyState !== WebSocket.OPEN) return;
      this.waits = true;
      this.askedAt = performance.now();
      this.socket.send("");
    },
    schedule() {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.ask(), Math.max(0, LEAST_MS - (performance.now() - this.askedAt)));
    },
    take(buffer) {
      const size = new DataView(buffer).getUint32(0, true);
      const text = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
      if (text.told) this.begin(text);
      if (!this.told) return;
      if (this.told.fast) this.takeColumns(new Uint8Array(buffer, 4 + size), text.first);
      else this.takeSamples(new Int16Array(buffer, 4 + size), text.first);
      this.end = text.end;
      this.lost = text.lost;
      for (const one of text.said) this.said.push(one);
      if (this.said.length > 120) this.said.splice(0, this.said.length - 120);
      if (text.said.length) this.tell();
      this.number();
      this.frame = text.now;
      if (!this.drawing) this.drawing = requestAnimationFrame(() => this.draw());
    },
    clear(channels) {
      this.end = this.columns = this.lost = 0;
      this.said = [];
      if (this.$refs.headline) this.$refs.headline.hidden = true;
      this.scales = [];
      this.samples = new Int16Array(0);
      this.channels = channels;
    },
    begin(text) {
      const told = text.told;
      this.$refs.source.textContent = told.rate ? [told.source, told.base.replace(/\.elm$/, "")].filter(Boolean).join(" → ") : IDLE;
      this.$refs.state.hidden = this.$refs.canvas.hidden = !told.rate;
      if (!told.rate) return;
      if (text.run !== this.run) {
        this.run = text.run;
        this.clear(told.scales.length || 1);
        this.room = Math.ceil(told.rate * SPAN) + 1;
        if (told.fast) {
          this.picture = document.createElement("canvas");
          this.picture.width = SPAN * 50;
          this.picture.height = told.column - 2;
          this.envelope = new Uint8Array(2 * SPAN * 50).fill(128);
          this.wave = document.createElement("canvas");
          this.wave.width = SPAN * 50;
          this.wave.height = 128;
          const context = this.picture.getContext("2d");
          context.fillStyle = `rgb(${SOUND[0]})`;
          context.fillRect(0, 0, this.picture.width, this.picture.height);
        } else this.samples = new Int16Array(this.room * this.channels);
      }
      this.told = told;
      this.$refs.state.textContent = told.paused ? "paused" : told.base ? `adapter: ${told.adapter || "none"}` : "no network";
      const what = told.fast ? "Spectrogram" : `Traces of ${told.scales.length} channels`;
      this.$refs.canvas.setAttribute("aria-label", `${what} of ${told.source}, ${told.rate} samples per second`);
      this.makeBars();
    },
    takeSamples(rows, first) {
      const { channels, room } = this;
      const count = rows.length / channels;
      for (let i = Math.max(0, count - room); i < count; i++) {
        const at = ((first + i) % room) * channels;
        for (let c = 0; c < channels; c++) this.samples[at + c] = rows[i * channels + c];
      }
    },
    takeColumns(bytes, first) {
      const size = this.told.column, width = this.picture.width, height = size - 2;
      const count = bytes.length / size;
      const context = this.picture.getContext("2d");
      for (let i = Math.max(0, count - width); i < count; i++) {
        const image = context.createImageData(1, height);
        for (let y = 0; y < height; y++) {
          const level = bytes[i * size + 2 + height - 1 - y];
          image.data.set(TABLE.subarray(4 * level, 4 * level + 4), 4 * y);
        }
        const x = (first + i) % width;
        context.putImageData(image, x, 0);
        this.envelope[2 * x] = bytes[i * size];
        this.envelope[2 * x + 1] = bytes[i * size + 1];
        this.drawColumn(x);
      }
      this.columns = first + count;
    },
    // Draws a column of the waveform's outline.
    drawColumn(x) {
      const pen = this.wave.getContext("2d"), low = this.envelope[2 * x], most = this.envelope[2 * x + 1];
      pen.clearRect(x, 0, 1, 128);
      pen.fillStyle = this.lines[0];
      pen.fillRect(x, 128 - (most + 1) / 2, 1, Math.max(2, (most - low) / 2));
    },
    colors() {
      const style = getComputedStyle(document.body);
      const of = (name) => style.getPropertyValue(name).trim();
      this.ink = { text: of("--text"), quiet: of("--quiet"), line: of("--line"), main: of("--main"), soft: of("--soft"), card: of("--card") };
      this.lines = document.body.classList.contains("body--dark") ? DARK : LIGHT;
      if (this.told?.fast) for (let x = 0; x < this.wave.width; x++) this.drawColumn(x);
      if (this.told) this.draw();
    },
    fit() {
      const canvas = this.$refs.canvas, sharp = window.devicePixelRatio || 1;
      this.width = canvas.clientWidth;
      this.height = canvas.clientHeight;
      canvas.width = Math.max(1, Math.round(this.width * sharp));
      canvas.height = Math.max(1, Math.round(this.height * sharp));
      canvas.getContext("2d").setTransform(sharp, 0, 0, sharp, 0, 0);
      if (this.told) this.draw();
    },
    draw() {
      cancelAnimationFrame(this.drawing);
      this.drawing = 0;
      if (this.gone || !this.told || !this.width) return;
      const pen = this.$refs.canvas.getContext("2d");
      pen.clearRect(0, 0, this.width, this.height);
      pen.font = "12px system-ui, sans-serif";
      const strip = this.told.base ? STRIP : 0;
      const high = this.height - TAIL - strip;
      if (this.told.fast) this.drawSound(pen, high);
      else this.drawTraces(pen, high);
      if (strip) this.drawSaid(pen, high);
      this.drawTime(pen);
      this.$el.dispatchEvent(new CustomEvent("drawn", { detail: { end: this.end, newest: this.newest(), sent: this.frame, came: this.came } }));
    },
    newest() {
      if (this.told.fast || !this.end) return [];
      const at = ((this.end - 1) % this.room) * this.channels;
      return Array.from(this.samples.subarray(at, at + this.channels));
    },
    x(sample) {
      return this.width * (1 - (this.end - sample) / (this.told.rate * SPAN));
    },
    drawTraces(pen, high) {
      const { channels, room, samples, told } = this;
      const lanes = lanesOf(channels), tall = high / lanes.length;
      const first = Math.max(0, this.end - room + 1), right = this.width - 14;
      lanes.forEach((lane, number) => {
        const top = number * tall;
        let low = 0, most = 0;
        for (const c of lane)
          for (let i = first; i < this.end; i++) {
            const value = samples[(i % room) * channels + c] * told.scales[c];
            if (value < low) low = value;
            if (value > most) most = value;
          }
        const kept = this.scales[number] || { low: 0, most: 0 };
        const wide = Math.max(most - low, 20 * told.scales[lane[0]]) * 0.08;
        // The scale grows at once and shrinks slowly.
        kept.low = Math.min(low - wide, kept.low + (low - wide - kept.low) * 0.04);
        kept.most = Math.max(most + wide, kept.most + (most + wide - kept.most) * 0.04);
        this.scales[number] = kept;
        const y = (value) => top + 6 + (tall - 12) * (1 - (value - kept.low) / (kept.most - kept.low));
        pen.strokeStyle = this.ink.line;
        pen.setLineDash([]);
        pen.lineWidth = 1;
        pen.strokeRect(0.5, Math.round(top) + 0.5, this.width - 1, Math.round(tall) - 1);
        pen.beginPath();
        pen.moveTo(0, y(0));
        pen.lineTo(this.width, y(0));
        pen.stroke();
        lane.forEach((c, k) => {
          pen.strokeStyle = this.lines[k % 3];
          pen.setLineDash(DASHES[k % 3]);
          pen.lineWidth = 1.6;
          pen.beginPath();
          const step = Math.max(1, Math.floor((this.end - first) / (2 * this.width)));
          for (let i = first - (first % step) + step; i < this.end; i += step) {
            const px = this.x(i) - (this.width - right), py = y(samples[(i % room) * channels + c] * told.scales[c]);
            i === first ? pen.moveTo(px, py) : pen.lineTo(px, py);
          }
          pen.stroke();
        });
        pen.setLineDash([]);
        const unit = told.units[lane[0]] || "";
        const name = lane.length > 1 ? (told.names[lane[0]] || "").replace(/ ?x$/, "") : told.names[lane[0]];
        this.label(pen, `${name} ${unit && `(${unit})`}`.trim(), 6, top + 15, this.ink.quiet, this.ink.card);
        this.label(pen, kept.most.toPrecision(2), 6, top + 30, this.ink.quiet, this.ink.card);
        this.label(pen, kept.low.toPrecision(2), 6, top + tall - 7, this.ink.quiet, this.ink.card);
        if (lane.length > 1 && this.end) {
          const ends = lane.map((c, k) => [y(samples[((this.end - 1) % room) * channels + c] * told.scales[c]), k]);
          ends.sort((a, b) => a[0] - b[0]);
          let last = -99;
          for (const [at, k] of ends) {
            last = Math.min(Math.max(at + 4, last + 12, top + 12), top + tall - 4);
            this.label(pen, "xyz"[k], this.width - 11, last, this.lines[k]);
          }
        }
      });
    },
    drawSound(pen, high) {
      const width = this.picture.width, wave = Math.min(70, high / 3), tall = high - wave - 4;
      const at = this.columns % width, per = this.width / width;
      pen.imageSmoothingEnabled = false;
      const head = width - at; // the number of oldest columns, which follow the newest in the ring
      pen.drawImage(this.picture, at, 0, head, this.picture.height, 0, wave + 4, head * per, tall);
      if (at) pen.drawImage(this.picture, 0, 0, at, this.picture.height, head * per, wave + 4, at * per, tall);
      pen.strokeStyle = this.ink.line;
      pen.strokeRect(0.5, 0.5, this.width - 1, wave - 1);
      pen.drawImage(this.wave, at, 0, head, 128, 0, 0, head * per, wave);
      if (at) pen.drawImage(this.wave, 0, 0, at, 128, head * per, 0, at * per, wave);
      this.label(pen, `${(this.told.rate / 2000).toPrecision(2)} kHz`, 6, wave + 18, "#e8eeeb", "rgba(11,16,28,.75)");
      this.label(pen, "0", 6, high - 6, "#e8eeeb", "rgba(11,16,28,.75)");
    },
    // Each window's class, where the window ends, and where the adapter was switched.
    drawSaid(pen, top) {
      const { told } = this;
      let before = null;
      this.said.forEach((one, i) => {
        const [end, seen, , adapter] = one;
        const from = i ? Math.max(this.said[i - 1][0], end - told.window) : end - told.window;
        const left = this.x(from), right = this.x(end);
        if (right >= 0) {
          pen.fillStyle = seen % 2 ? this.ink.soft : this.ink.card;
          pen.strokeStyle = this.ink.line;
          pen.fillRect(left, top + 3, right - left, STRIP - 6);
          pen.strokeRect(left + 0.5, top + 3.5, right - left - 1, STRIP - 7);
          const same = i && this.said[i - 1][1] === seen && right - left < 60;
          if (!same) {
            pen.save();
            pen.beginPath();
            pen.rect(left, top, Math.max(right - left, 60), STRIP);
            pen.clip();
            this.label(pen, told.labels[seen] ?? String(seen), Math.max(left, 0) + 4, top + STRIP - 9, this.ink.text);
            pen.restore();
          }
          if (before !== null && before !== adapter) {
            pen.strokeStyle = this.ink.main;
            pen.setLineDash([4, 3]);
            pen.lineWidth = 2;
            pen.beginPath();
            pen.moveTo(left, 0);
            pen.lineTo(left, top + STRIP);
            pen.stroke();
            pen.setLineDash([]);
            pen.lineWidth = 1;
            this.label(pen, adapter || "base alone", left + 4, 12, this.ink.main, this.ink.card);
          }
        }
        before = adapter;
      });
    },
    drawTime(pen) {
      for (let s = 0; s < SPAN; s += 2) {
        const x = this.width * (1 - s / SPAN);
        pen.textAlign = s ? "center" : "right";
        this.label(pen, s ? `-${s} s` : "now", x - (s ? 0 : 2), this.height - 4, this.ink.quiet);
      }
      pen.textAlign = "left";
    },
    label(pen, text, x, y, ink, back) {
      if (back) {
        pen.fillStyle = back;
        pen.fillRect(x - 2, y - 11, pen.measureText(text).width + 4, 14);
      }
      pen.fillStyle = ink;
      pen.fillText(text, x, y);
    },
    makeBars() {
      const box = this.$refs.bars;
      const labels = this.bars ? this.told.labels : [];
      if (this.rows.length === labels.length && this.rows.every((row, i) => row.name.textContent === labels[i])) return;
      box.replaceChildren();
      this.rows = labels.map((label) => {
        const row = document.createElement("div"), name = document.createElement("span"), share = document.createElement("span");
        const track = document.createElement("span"), bar = document.createElement("span");
        row.className = label.startsWith("(") ? "bar-row bar-spare" : "bar-row"; // an output without a class
        name.className = "bar-name";
        name.textContent = label;
        track.className = "bar-track";
        bar.className = "bar-fill";
        share.className = "bar-share";
        track.append(bar);
        row.append(name, track, share);
        box.append(row);
        return { row, name, bar, share };
      });
    },
    tell() {
      const [, seen, , , p] = this.said[this.said.length - 1];
      const known = seen < p.length; // else the outputs are values, or the window resembles no sample
      this.rows.forEach(({ row, bar, share }, i) => {
        const value = known ? p[i] ?? 0 : i === seen ? 1 : 0;
        bar.style.width = `${100 * value}%`;
        share.textContent = known && i < p.length ? `${Math.round(100 * value)} %` : "";
        row.classList.toggle("bar-seen", i === seen);
        row.classList.toggle("bar-some", value >= 0.01);
      });
      const name = this.told.labels[seen] ?? String(seen);
      this.$refs.headline.hidden = false;
      this.$refs.seen.textContent = known ? `${name},` : name;
      this.$refs.sure.textContent = known ? `${Math.round(100 * (p[seen] ?? 0))} %` : "";
      const now = performance.now();
      if (this.bars && name !== this.spoken && now - this.spokenAt > 4000) {
        this.$refs.polite.textContent = name; // seldom enough for a screen reader to read it out
        this.spoken = name;
        this.spokenAt = now;
      }
    },
    number() {
      const now = performance.now();
      if (now - (this.numberedAt || 0) < 300) return;
      this.numberedAt = now;
      const last = this.said[this.said.length - 1];
      const parts = [`${Math.round(this.told.rate)} Hz`];
      if (last) parts.unshift(`${last[2] < 10000 ? (last[2] / 1000).toFixed(1) : Math.round(last[2] / 1000)} ms a window`);
      if (this.lost) parts.push(`${this.lost} samples lost`);
      this.$refs.numbers.textContent = parts.join(" · ");
    },
  },
};
