// Mixin for charts that are as wide as their box: `width` in pixels, that of the element `ref="box"`.
const USUAL = 480, LEAST = 240;

export const asWideAsThePage = {
  data: () => ({ width: USUAL }),
  mounted() {
    this.watcher = new ResizeObserver(([entry]) => { this.width = Math.max(LEAST, Math.round(entry.contentRect.width)); });
    this.watcher.observe(this.$refs.box);
  },
  unmounted() { this.watcher.disconnect(); },
};
