// Records with this computer's microphone, and hands the framework's uploader a .wav of 16 kHz and 16 bits.
const RATE = 16000, HEADER = 44;

function wav(blocks) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(HEADER + 2 * count));
  const text = (at, words) => [...words].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, HEADER - 8 + 2 * count, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true);
  view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, 2 * count, true);
  let at = HEADER;
  for (const block of blocks)
    for (const value of block) { view.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(32768 * value))), true); at += 2; }
  return view.buffer;
}

export default {
  template: `
    <button type="button" class="microphone" :aria-pressed="on" @click="on ? stop() : start()">
      <span aria-hidden="true">{{ on ? "■" : "●" }}</span> {{ on ? "Stop, " + left + " s left" : label }}
    </button>`,
  props: { label: String, seconds: Number, uploader: Number, name: String },
  emits: ["begun", "refused"],
  data: () => ({ on: false, left: 0 }),
  methods: {
    async start() {
      this.$emit("begun");
      this.on = true;
      this.left = this.seconds;
      try {
        const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
        this.stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
        this.context = new AudioContext({ sampleRate: RATE });
        await this.context.audioWorklet.addModule("/static/microphone-worklet.js");
      } catch (error) {
        this.close();
        this.$emit("refused", [["microphone", `can't be used (${error.message}): allow it in the browser, or give files`]]);
        return;
      }
      this.blocks = [];
      const source = this.context.createMediaStreamSource(this.stream);
      const node = new AudioWorkletNode(this.context, "blocks");
      node.port.onmessage = (event) => {
        if (!this.on) return;
        this.blocks.push(event.data);
        this.heard += event.data.length;
        this.left = Math.max(0, Math.ceil(this.seconds - this.heard / RATE));
        if (this.heard >= this.seconds * RATE) this.stop();
      };
      this.heard = 0;
      source.connect(node);
    },
    stop() {
      const blocks = this.blocks || [];
      this.close();
      if (!blocks.length) return;
      runMethod(this.uploader, "removeUploadedFiles", []);
      runMethod(this.uploader, "addFiles", [[new File([wav(blocks)], `${this.name}.wav`, { type: "audio/wav" })]]);
    },
    close() {
      this.on = false;
      this.blocks = null;
      if (this.stream) this.stream.getTracks().forEach((track) => track.stop());
      if (this.context) this.context.close();
      this.stream = this.context = null;
    },
  },
  unmounted() { this.close(); },
};
