// The browser's own slider, for sizes: it works with keys and screen readers. It keeps its position itself.
export default {
  template: `
    <label class="slider-line">
      <span>{{ name }}</span>
      <input class="slider" type="range" :min="low" :max="high" :step="step" :value="at" :aria-valuetext="text" @input="move" />
      <span>{{ text }}</span>
    </label>`,
  props: { name: String, low: Number, high: Number, step: Number, start: Number },
  data() { return { at: this.start }; },
  computed: {
    text() { return this.at < 1024 ? this.at + " B" : (this.at / 1024).toFixed(1) + " KB"; },
  },
  methods: {
    move(event) {
      this.at = Number(event.target.value);
      this.$emit("moved", this.at);
    },
  },
};
