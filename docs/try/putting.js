// The page's part "Put it on my board": what each class does there, and how it gets there, with
// MicroPython if need be.

import { flash } from "./esp.js";
import { putOn } from "./install.js";

const ACTS = [
  ["", "does nothing"],
  ["LED", "LED on while it is seen"],
  ["print", "prints its name"],
];
const WIRING = {
  motion: "Wire an MPU-6050 to the board: SDA to pin 4, SCL to pin 5.",
  sound: "Wire an I2S microphone such as an INMP441 to the board: SCK to pin 16, WS to pin 17, SD to pin 18.",
};
const MOST_COMPARED = 24; // samples by which the board is compared with the page
const at = (id) => document.getElementById(id);

/** The actions that the page's user chose. */
function chosen() {
  return Array.from(at("acts").querySelectorAll("select"))
    .filter(({ value }) => value)
    .map(({ value, dataset: { label } }) =>
      value === "LED" ? { label, kind: "hold", target: "LED" } : { label, kind: "print", target: label },
    );
}

/** Shows a choice for each class; keeps what was chosen before. */
export function showActs(base, labels) {
  const before = new Map(chosen().map(({ label, target }) => [label, target === "LED" ? "LED" : "print"]));
  at("wiring").textContent = base ? WIRING[base.name] : "";
  at("acts").replaceChildren(
    ...labels.map((label, i) => {
      const item = document.createElement("li");
      const named = document.createElement("label");
      named.className = "class";
      named.textContent = label;
      named.htmlFor = `act-${i}`;
      const select = document.createElement("select");
      select.id = named.htmlFor;
      select.dataset.label = label;
      for (const [value, text] of ACTS) select.add(new Option(text, value, false, value === (before.get(label) ?? "print")));
      item.append(named, select);
      return item;
    }),
  );
}

/** Samples from all of these by which the board is compared with the page. */
export function toCompare(xs) {
  const every = Math.ceil(xs.length / MOST_COMPARED);
  return xs.filter((_, i) => i % every === 0);
}

/** Puts what was learned on the board behind the port that `portOf` gives. learned: as for `putOn`. */
export async function put(learned, portOf) {
  const acts = chosen();
  if (!acts.length) throw new Error("Choose an action for a class first.");
  await shown(async (tell) => {
    const told = await putOn(await portOf(), learned, acts, tell);
    return `Done. ${told.board} has the same bytes as this page, answered ${told.compared} samples as it does, and acts from now on.`;
  });
}

/** Puts an image of MicroPython on the ESP32 behind the port that `portOf` gives. */
export async function flashImage(file, portOf) {
  await shown(async (tell) => {
    const image = new Uint8Array(await file.arrayBuffer());
    const chip = await flash(await portOf(), image, tell);
    return `Done. The ${chip} has ${file.name}. Now put what was learned on it.`;
  });
}

/** Shows how far some work is, and what it says at its end. */
async function shown(work) {
  at("put-share").hidden = false;
  at("put-state").textContent = "";
  try {
    at("put-state").textContent = await work((text, share) => {
      at("put-share").value = share;
      at("put-state").textContent = `${text} …`;
    });
  } catch (error) {
    at("put-state").textContent = "Not done.";
    throw error;
  } finally {
    at("put-share").hidden = true;
  }
}
