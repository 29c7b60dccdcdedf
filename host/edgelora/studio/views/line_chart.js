// A line chart, drawn as SVG in the page's own colors. Lines differ in dashes too, not in color alone.
import { asWideAsThePage } from "/static/wide.js";

const LEFT = 46, RIGHT = 12, TOP = 10, BOTTOM = 38;

function steps(low, high, most) {
  const span = Math.max(high - low, 1e-9);
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map((nice) => nice * power).find((one) => span / one <= most);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(+at.toPrecision(12));
  return found;
}

export default {
  template: `
    <figure class="chart" ref="box">
      <figcaption>
        <span class="chart-name">{{ name }}</span>
        <span v-for="(one, i) in series" :key="one.name" v-show="series.length > 1" :class="'chart-key chart-line chart-line-' + i">
          <svg width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" /></svg>{{ one.name }}
        </span>
      </figcaption>
      <svg :viewBox="'0 0 ' + width + ' ' + height" :height="height" width="100%" role="img" :aria-label="description">
        <g class="chart-grid">
          <template v-for="tick in yTicks" :key="'y' + tick">
            <line :x1="${LEFT}" :x2="width - ${RIGHT}" :y1="y(tick)" :y2="y(tick)" />
            <text :x="${LEFT - 6}" :y="y(tick) + 4" text-anchor="end">{{ shownY(tick) }}</text>
          </template>
          <text v-for="tick in xTicks" :key="'x' + tick" :x="x(tick)" :y="height - ${BOTTOM - 16}" text-anchor="middle">{{ shownX(tick) }}</text>
          <text :x="(${LEFT} + width - ${RIGHT}) / 2" :y="height - 4" text-anchor="middle">{{ xName }}</text>
        </g>
        <line v-if="limit !== null && limit >= range.x0 && limit <= range.x1" class="chart-limit" :x1="x(limit)" :x2="x(limit)" :y1="${TOP}" :y2="height - ${BOTTOM}" />
        <g v-for="(one, i) in series" :key="one.name" :class="'chart-line chart-line-' + i">
          <polyline v-if="!one.dots && one.points.length > 1" :points="path(one)" />
          <circle v-for="(point, k) in marks(one)" :key="k" :cx="x(point[0])" :cy="y(point[1])" r="3.5" />
          <circle v-if="one.ring" class="chart-ring" :cx="x(one.ring[0])" :cy="y(one.ring[1])" r="8" />
        </g>
      </svg>
    </figure>`,
  props: {
    name: String, xName: String, description: String, series: Array, percent: Boolean, bytes: Boolean,
    low: { default: null }, high: { default: null }, xLow: { default: null }, xHigh: { default: null }, limit: { default: null },
    height: { default: 220 },
  },
  mixins: [asWideAsThePage],
  computed: {
    range() {
      const points = this.series.flatMap((one) => one.points);
      const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
      const x0 = this.xLow ?? (xs.length ? Math.min(...xs) : 0), x1 = this.xHigh ?? (xs.length ? Math.max(...xs) : 1);
      const y0 = this.low ?? (ys.length ? Math.min(...ys) : 0), y1 = this.high ?? (ys.length ? Math.max(...ys) : 1);
      return { x0, x1: x1 > x0 ? x1 : x0 + 1, y0, y1: y1 > y0 ? y1 : y0 + 1 };
    },
    yTicks() { return steps(this.range.y0, this.range.y1, 4); },
    unit() { return this.bytes ? 1024 : 1; },
    xTicks() {
      const found = steps(this.range.x0 / this.unit, this.range.x1 / this.unit, Math.max(2, Math.floor(this.width / 90)));
      return found.filter((tick) => this.bytes || Number.isInteger(tick)).map((tick) => tick * this.unit);
    },
  },
  methods: {
    x(value) { return LEFT + (this.width - LEFT - RIGHT) * (value - this.range.x0) / (this.range.x1 - this.range.x0); },
    y(value) { return this.height - BOTTOM - (this.height - TOP - BOTTOM) * (value - this.range.y0) / (this.range.y1 - this.range.y0); },
    path(one) { return one.points.map(([a, b]) => this.x(a).toFixed(1) + "," + this.y(b).toFixed(1)).join(" "); },
    marks(one) { return one.points.length <= 60 || one.dots ? one.points : []; },
    shownY(value) { return this.percent ? Math.round(100 * value) + " %" : String(value); },
    shownX(value) { return this.bytes ? +(value / 1024).toFixed(1) + " KB" : String(value); },
  },
};
