// A place to drop files at, or to choose them: an ordinary field for files, with its label, in front of the framework's
// uploader, which sends them.

export default {
  template: `
    <label class="drop" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
      <input type="file" :accept="accept" @change="chosen"><span>{{ label }}</span>
    </label>`,
  props: { label: String, accept: String, uploader: Number },
  data: () => ({ over: false }),
  methods: {
    chosen(event) {
      this.send(event.target.files);
      event.target.value = ""; // the same file may be chosen again
    },
    dropped(event) {
      this.over = false;
      this.send(event.dataTransfer.files);
    },
    send(files) {
      if (files.length) runMethod(this.uploader, "addFiles", [Array.from(files)]);
    },
  },
};
