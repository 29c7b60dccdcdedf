// Small pictures of samples, drawn when they are scrolled into view. One can be selected and played: as sound, or by
// a cursor that moves over its traces.

const LIGHT = ["#0b6e5e", "#b3480f", "#3b4fa3"];
const DARK = ["#6fd0bc", "#ffb38a", "#aab8ff"];
const SOUND = [[11, 16, 28], [27, 58, 107], [18, 125, 120], [139, 190, 86], [250, 232, 120]];

function ink(level) {
  const at = (level / 255) * (SOUND.length - 1), k = Math.min(Math.floor(at), SOUND.length - 2);
  return SOUND[k].map((c, i) => c + (at - k) * (SOUND[k + 1][i] - c));
}

function paint(canvas, data, share) {
  const sharp = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.max(1, width * sharp);
  canvas.height = Math.max(1, height * sharp);
  const pen = canvas.getContext("2d"), rows = data.rows, dark = document.body.classList.contains("body--dark");
  if (data.kind === "sound") {
    const image = new ImageData(rows[0].length, rows.length);
    rows.forEach((row, y) => row.forEach((level, x) => {
      image.data.set([...ink(level), 255], 4 * ((rows.length - 1 - y) * row.length + x));
    }));
    const small = document.createElement("canvas");
    small.width = image.width;
    small.height = image.height;
    small.getContext("2d").putImageData(image, 0, 0);
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  } else {
    pen.scale(sharp, sharp);
    rows.forEach((row, c) => {
      pen.strokeStyle = (dark ? DARK : LIGHT)[c % 3];
      pen.globalAlpha = c < 3 ? 1 : 0.55;
      pen.lineWidth = 1.2;
      pen.beginPath();
      row.forEach((value, i) => pen.lineTo((i / (row.length - 1)) * width, (1 - value / 255) * height));
      pen.stroke();
    });
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.globalAlpha = 1;
  }
  if (share === undefined) return;
  pen.fillStyle = data.kind === "sound" ? "#fff" : getComputedStyle(document.body).getPropertyValue("--text");
  pen.fillRect(share * canvas.width - sharp, 0, 2 * sharp, canvas.height);
}

export default {
  template: `
    <div class="samples">
      <div ref="player" class="player" hidden><canvas ref="large" role="img" aria-label="The sample that plays"></canvas></div>
      <div ref="grid" class="thumbs" role="group" :aria-label="'Samples of ' + label"></div>
    </div>`,
  props: { samples: Array, label: String },
  mounted() {
    this.made = new Map();
    this.picked = new Set();
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.fetch(entry.target);
    });
    this.themed = new MutationObserver(() => this.repaint());
    this.themed.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.fill();
  },
  beforeUnmount() {
    this.seen.disconnect();
    this.themed.disconnect();
    this.silence();
  },
  watch: { samples() { this.fill(); } },
  methods: {
    fill() {
      const there = new Set(this.samples.map((sample) => sample.id));
      for (const [id, button] of this.made)
        if (!there.has(id)) {
          if (button === document.activeElement) (button.nextSibling || button.previousSibling)?.focus();
          this.seen.unobserve(button);
          button.remove();
          this.made.delete(id);
          this.picked.delete(id);
        }
      this.samples.forEach((sample, i) => {
        const button = this.made.get(sample.id) || this.make(sample.id);
        button.classList.toggle("held", sample.held);
        button.title = sample.held ? "to test: not used for training" : "";
        button.setAttribute("aria-label", `${this.label}, sample ${i + 1}${sample.held ? ", to test" : ""}`);
        if (this.$refs.grid.children[i] !== button) this.$refs.grid.insertBefore(button, this.$refs.grid.children[i] || null);
      });
    },
    make(id) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "thumb";
      button.sample = id;
      button.setAttribute("aria-pressed", "false");
      button.append(document.createElement("canvas"));
      button.onclick = () => this.pick(id, !this.picked.has(id));
      button.onkeydown = (event) => {
        const to = { ArrowRight: button.nextSibling, ArrowLeft: button.previousSibling }[event.key];
        if (to) to.focus();
        else if (event.key === "Delete" || event.key === "Backspace") this.$emit("removed", this.picked.has(id) ? [...this.picked] : [id]);
        else if (event.key === "p") this.play(id);
        else return;
        event.preventDefault();
      };
      this.made.set(id, button);
      this.seen.observe(button);
      return button;
    },
    pick(id, on) {
      on ? this.picked.add(id) : this.picked.delete(id);
      this.made.get(id)?.setAttribute("aria-pressed", String(on));
      this.$emit("picked", [...this.picked]);
    },
    unpick() {
      for (const id of [...this.picked]) this.made.get(id)?.setAttribute("aria-pressed", "false");
      this.picked.clear();
    },
    async fetch(button) {
      if (button.data) return;
      const answer = await fetch(`/senses/thumb/${button.sample}`);
      if (!answer.ok) return button.classList.add("broken");
      button.data = await answer.json();
      paint(button.firstChild, button.data);
    },
    repaint() {
      for (const button of this.made.values()) if (button.data) paint(button.firstChild, button.data);
    },
    async play(id) {
      this.silence();
      const answer = await fetch(`/senses/thumb/${id}?points=400`);
      if (!answer.ok || !this.made.has(id)) return;
      const data = await answer.json(), { player, large } = this.$refs;
      player.hidden = false;
      large.setAttribute("aria-label", this.made.get(id).getAttribute("aria-label"));
      if (data.kind === "sound") {
        this.sound = new Audio(`/senses/wav/${id}`);
        this.sound.play().catch(() => {});
      }
      const began = performance.now();
      const step = () => {
        const share = (performance.now() - began) / 1000 / data.seconds;
        paint(large, data, Math.min(share, 1));
        if (share < 1) this.moving = requestAnimationFrame(step);
        else this.$emit("played", id);
      };
      step();
    },
    silence() {
      cancelAnimationFrame(this.moving);
      this.sound?.pause();
    },
  },
};
