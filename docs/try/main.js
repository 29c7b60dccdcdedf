// The page: what its buttons do.

import { save } from "./bytes.js";
import { Base } from "./base.js";
import { Chart } from "./chart.js";
import { Core, INFER, Session } from "./core.js";
import { flashImage, put, showActs, toCompare } from "./putting.js";
import { Samples } from "./samples.js";
import { microphone, motion } from "./sensors.js";
import { Pipeline } from "./signal.js";
import { boardMotion } from "./wired.js";

const SENSORS = {
  sound: { base: "sound", open: microphone },
  motion: { base: "motion", open: motion },
  board: { base: "motion", open: boardSensor },
};
const SEED = 0;
const NAMES = { base: "the base alone", rows: "with your classes", layers: "with trained layers, too" };
const at = (id) => document.getElementById(id);

let base = null;
let session = null; // infers, with `adapter`
let samples = null;
let adapter = null; // bytes; null: the base alone
let opening = false; // a sensor
let close = null; // closes the sensor
let closed = null; // a promise: the sensor before is closed
let port = null; // of the board whose sensor was chosen last
let recorder = null; // of the class that is being recorded, with its `name`
let pipeline = null; // from the sensor that is open
let worker = null; // that learns
let putting = false; // on a board, or flashing one

const core = await Core.load();
at("core").textContent = `Core: ${core.vectors ? "WebAssembly with simd128" : "WebAssembly"}`;

/** Does something that may fail, and says so on the page. */
async function trying(work) {
  at("trouble").textContent = "";
  try {
    await work();
  } catch (error) {
    const words = {
      NotAllowedError: "The browser did not permit that. Allow it for this page, then try again.",
      NotFoundError: "No device was chosen.",
    };
    at("trouble").textContent = words[error.name] ?? error.message;
  }
}

/** The motion sensor of a board that the page's user chooses. */
async function boardSensor(signal, onCounts) {
  port = await navigator.serial.requestPort();
  const tell = (text, share) => (at("about").textContent = `${text} … ${Math.round(100 * share)} %`);
  return boardMotion(port, signal, onCounts, tell, (error) =>
    trying(() => {
      stop();
      throw error;
    }),
  );
}

async function choose(name) {
  if (opening || putting) return;
  opening = true;
  try {
    await open(name);
  } finally {
    opening = false;
    if (base) at("about").textContent = `The base knows ${base.about}.`;
  }
}

async function open(name) {
  stop();
  await closed;
  const sensor = SENSORS[name];
  if (base?.name !== sensor.base) {
    base = await Base.named(sensor.base);
    session = new Session(core, base, INFER);
    samples = new Samples(base);
    setAdapter(null);
    at("verdict").textContent = "";
    at("scores").hidden = true;
  }
  const fed = new Pipeline(core, base);
  const chart = new Chart(at("signal"), base);
  const opened = await sensor.open(base.signal, (counts) => {
    chart.feed(counts);
    fed.feed(counts, (x) => {
      answer(x);
      recorder?.input(x);
    });
  });
  close = () => {
    record(null);
    return opened();
  };
  pipeline = fed;
  at(name).setAttribute("aria-pressed", "true");
  at("stop").hidden = false;
  show();
}

function stop() {
  closed = close?.();
  close = null;
  at("answer").textContent = "–";
  at("chance").textContent = "";
  for (const name of Object.keys(SENSORS)) at(name).setAttribute("aria-pressed", "false");
  at("stop").hidden = true;
  show();
}

/** The names of all classes, in the order of probabilities. */
function labels() {
  const added = adapter ? adapter.classes.filter(({ name }) => name).map(({ label }) => label) : [];
  return [...base.labels, ...added];
}

function answer(x) {
  session.infer(x);
  const chances = session.probabilities();
  const best = chances.indexOf(Math.max(...chances));
  at("answer").textContent = labels()[best];
  at("chance").textContent = `${Math.round((100 * chances[best]) / 32768)} %`;
}

/** Infers with this adapter from now on: `bytes` and the `classes` that it was made of. */
function setAdapter(made) {
  adapter = made;
  session.use(made?.bytes ?? null);
  showActs(base, made ? made.classes.map(({ label }) => label) : []);
  show();
}

/** Records samples of a class, or ends that. */
function record(name) {
  recorder = null;
  if (name !== null && close) {
    const made = pipeline.recorder((x) => {
      samples.take(name, x);
      show();
    });
    recorder = { ...made, name };
    const again = base.name === "sound" ? "Make the sound again" : "Do it again";
    at("recording").textContent = `Recording ${name}. ${again} and again, every ${made.every} s.`;
  } else {
    at("recording").textContent = "";
  }
  show();
}

function listed(name) {
  const item = document.createElement("li");
  const button = (text, label, work) => {
    const made = document.createElement("button");
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.onclick = () => trying(work);
    item.append(made);
    return made;
  };
  const is = recorder?.name === name;
  const shown = document.createElement("span");
  shown.className = "class";
  shown.textContent = name;
  const count = document.createElement("span");
  count.textContent = samples.count(name);
  item.append(shown, count);
  const told = is ? `Stop recording ${name}` : `Record ${name}`;
  const press = button(is ? "Stop" : "Record", told, () => record(is ? null : name));
  press.disabled = !close;
  press.setAttribute("aria-pressed", String(is));
  button("Delete", `Delete ${name}`, () => {
    if (is) record(null);
    samples.remove(name);
    show();
  });
  return item;
}

/** Shows what there is. */
function show() {
  const focused = document.activeElement?.getAttribute("aria-label")?.replace(/^Stop recording|^Record/, "");
  at("classes").replaceChildren(...(samples?.names ?? []).map(listed));
  if (focused) {
    for (const one of at("classes").querySelectorAll("button")) {
      if (one.getAttribute("aria-label").replace(/^Stop recording|^Record/, "") === focused) one.focus();
    }
  }
  const ready = samples && samples.numbered().length > 1;
  at("learn").disabled = !ready || worker !== null;
  at("undo").disabled = !samples?.taken.length;
  at("put").disabled = !adapter || putting || !("serial" in navigator);
  at("flash").disabled = !at("image").files.length || putting || !("serial" in navigator);
  at("save-elm").disabled = !base;
  at("save-ela").disabled = !adapter;
  at("save-eld").disabled = !samples?.taken.length;
}

/** Starts the thread that learns. As a blob it keeps to this page's policy. */
function started() {
  const text = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  return new Worker(url, { type: "module" });
}

function learn() {
  record(null);
  const learned = samples.toLearn();
  const { name } = base;
  worker = started();
  at("cancel").hidden = at("share").hidden = false;
  at("share").value = 0;
  at("verdict").textContent = "Learning …";
  worker.onerror = () => ended("The thread that learns could not start.");
  worker.onmessage = ({ data }) => {
    if (data.ready) worker.postMessage({ name, samples: learned, seed: SEED });
    else if (data.share) at("share").value = data.share;
    else if (data.error) ended(data.error);
    else if (base.name !== name) ended("");
    else {
      ended(said(data.result));
      setAdapter(data.result.adapter && { bytes: data.result.adapter, classes: learned.classes });
      scores(data.result);
    }
  };
  show();
}

function ended(text) {
  worker.terminate();
  worker = null;
  at("cancel").hidden = at("share").hidden = true;
  at("verdict").textContent = text;
  show();
}

function said({ used, held, base: before, [used]: after }) {
  if (!held) {
    return "Learned, but unchecked: with 8 samples of each of three classes, or 12 of two, some are held out to check it.";
  }
  if (used === "base") return "What it learned is no better than the base, so it is not used. Record more samples.";
  const trained = used === "rows" ? " Training layers, too, was not clearly better, so that is not used." : "";
  return `Before: ${before} of ${held} held-out samples right. After: ${after} of ${held}.${trained}`;
}

function scores(result) {
  const rows = ["base", "rows", "layers"].filter((kind) => kind in result && result.held);
  at("scores").hidden = !rows.length;
  at("scores").tBodies[0].replaceChildren(
    ...rows.map((kind) => {
      const line = document.createElement("tr");
      line.className = kind === result.used ? "used" : "";
      for (const text of [NAMES[kind], `${result[kind]} of ${result.held}`, kind === result.used ? "in use" : ""]) {
        line.insertCell().textContent = text;
      }
      return line;
    }),
  );
}

for (const name of Object.keys(SENSORS)) at(name).onclick = () => trying(() => choose(name));
at("stop").onclick = stop;
at("new").onsubmit = (event) => {
  event.preventDefault();
  trying(() => {
    if (!samples) throw new Error("Choose a sensor first.");
    samples.add(at("name").value);
    at("name").value = "";
    show();
  });
};
at("undo").onclick = () => {
  const name = samples.undo();
  at("recording").textContent = `Took back a sample of ${name}.`;
  show();
};
at("learn").onclick = () => trying(learn);
at("cancel").onclick = () => ended("Cancelled. Nothing has changed.");
/** Does something with a board, one thing at a time. */
async function busy(work) {
  putting = true;
  show();
  await trying(work);
  putting = false;
  show();
}

/** The port of the board whose sensor is in use, which ends; else one that the page's user chooses. */
async function portToPutOn() {
  if (at("board").getAttribute("aria-pressed") === "false") return navigator.serial.requestPort();
  stop();
  await closed;
  return port;
}

at("put").onclick = async () => {
  const xs = toCompare(samples.taken.map(({ x }) => x));
  const classes = xs.map((x) => session.infer(x));
  const learned = { base, adapter: adapter.bytes, labels: labels(), xs, classes };
  await busy(() => put(learned, portToPutOn));
};
at("image").onchange = show;
at("flash").onclick = () => busy(() => flashImage(at("image").files[0], portToPutOn));
at("board").hidden = at("wired").hidden = !("serial" in navigator);
at("no-serial").hidden = "serial" in navigator;
at("save-elm").onclick = () => save(`${base.name}.elm`, base.elm);
at("save-ela").onclick = () => save(`${base.name}.ela`, adapter.bytes);
at("save-eld").onclick = () => save(`${base.name}.eld`, samples.file());
show();
document.body.dataset.ready = Math.round(performance.now()); // ms
if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});
