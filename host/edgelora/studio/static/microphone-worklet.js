// Hands on blocks of samples, float32, as the microphone makes them.
registerProcessor("blocks", class extends AudioWorkletProcessor {
  process([input]) {
    if (input.length) this.port.postMessage(input[0].slice());
    return true;
  }
});
