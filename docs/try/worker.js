// Learns in a thread of its own, so that the page stays awake.

import { Base } from "./base.js";
import { Core } from "./core.js";
import { learn } from "./learning.js";

const EVERY = 50; // ms between messages

onmessage = async ({ data: { name, samples, seed } }) => {
  try {
    const base = await Base.named(name);
    const run = learn(await Core.load(), base, samples, seed);
    let told = 0;
    for (let now = run.next(); ; now = run.next()) {
      if (now.done) {
        postMessage({ result: now.value });
        return;
      }
      if (performance.now() - told > EVERY) {
        told = performance.now();
        postMessage({ share: now.value });
      }
    }
  } catch (error) {
    postMessage({ error: error.message });
  }
};

postMessage({ ready: true });
