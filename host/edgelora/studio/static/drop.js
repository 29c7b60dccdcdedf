// A place to drop or choose files: an ordinary file input with its label, in front of the framework's uploader, which
// sends them. Files that can't be sent are reported by name here, as the uploader ignores them silently.

export default {
  template: `
    <label class="drop" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
      <input type="file" multiple :accept="accept" @change="chosen"><span>{{ label }}</span>
    </label>`,
  props: { label: String, accept: String, uploader: Number, most: Number },
  emits: ["begun", "refused"],
  data: () => ({ over: false }),
  methods: {
    chosen(event) {
      this.send(Array.from(event.target.files));
      event.target.value = ""; // the same file may be chosen again
    },
    dropped(event) {
      this.over = false;
      this.send(Array.from(event.dataTransfer.files));
    },
    why(file) {
      const ending = file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
      if (!this.accept.split(",").includes(ending)) return `can't be used here: give ${this.accept}`;
      if (file.size > this.most) return `has ${file.size} bytes, the limit is ${this.most}: split it`;
      if (!file.size) return "is empty";
      return "";
    },
    send(files) {
      if (!files.length) return;
      this.$emit("begun");
      const refused = files.map((file) => [file.name, this.why(file)]).filter((one) => one[1]);
      if (refused.length) this.$emit("refused", refused);
      const sent = files.filter((file) => !this.why(file));
      runMethod(this.uploader, "removeUploadedFiles", []); // the same file may be sent again
      if (sent.length) runMethod(this.uploader, "addFiles", [sent]);
    },
  },
};
