// Values before and after several runs with their 95% intervals, a row for each run.
import { asWideAsThePage } from "/static/wide.js";

const ROW = 54, LEFT = 10, RIGHT = 20, TOP = 6, BOTTOM = 30;

export default {
  template: `
    <figure class="chart" ref="box">
      <svg :viewBox="'0 0 ' + width + ' ' + height" :height="height" width="100%" role="img" :aria-label="description">
        <g class="chart-grid">
          <template v-for="tick in ticks" :key="tick.at">
            <line :x1="x(tick.at)" :x2="x(tick.at)" y1="${TOP}" :y2="height - ${BOTTOM}" />
            <text :x="x(tick.at)" :y="height - ${BOTTOM - 16}" text-anchor="middle">{{ tick.text }}</text>
          </template>
        </g>
        <g v-for="(row, i) in rows" :key="row.name">
          <text class="chart-row" :x="${LEFT}" :y="${TOP} + i * ${ROW} + 14">{{ row.name }}</text>
          <g v-for="(kind, k) in ['before', 'after']" :key="kind" :class="'chart-line chart-line-' + (1 - k)">
            <line :x1="x(row[kind][1])" :x2="x(row[kind][2])" :y1="at(i, k)" :y2="at(i, k)" />
            <circle v-if="k" :cx="x(row[kind][0])" :cy="at(i, k)" r="5" />
            <rect v-else :x="x(row[kind][0]) - 4.5" :y="at(i, k) - 4.5" width="9" height="9" />
          </g>
        </g>
      </svg>
      <figcaption>
        <span class="chart-name">{{ name }}</span>
        <span class="chart-key">■ before</span><span class="chart-key">● after</span><span class="chart-key">lines: 95 % interval</span>
      </figcaption>
    </figure>`,
  props: { name: String, description: String, rows: Array, ticks: Array },
  mixins: [asWideAsThePage],
  computed: {
    height() { return TOP + this.rows.length * ROW + BOTTOM; },
  },
  methods: {
    x(value) {
      const low = this.ticks[0].at, high = this.ticks[this.ticks.length - 1].at;
      return LEFT + (this.width - LEFT - RIGHT) * (value - low) / (high - low);
    },
    at(row, kind) { return TOP + row * ROW + 26 + 14 * kind; },
  },
};
