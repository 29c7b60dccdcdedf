// Hands a microphone's samples to the page, in the audio thread.

const CHUNK = 1024;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this._chunk = new Float32Array(CHUNK);
    this._have = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    this._chunk.set(samples, this._have);
    this._have += samples.length;
    if (this._have === CHUNK) {
      this.port.postMessage(this._chunk);
      this._have = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
