// The program of a board that acts on what it sees: the main.py that `edgelora act` writes, too.

const VOTE = "2, 3";
const CALLS = {
  hold: { name: "Hold", text: (target) => (target === "LED" ? "'LED'" : String(target)) },
  print: { name: "Say", text: quoted },
};
const SENSORS = {
  motion: {
    imports: ["from edgelora.sources import MPU6050", "from machine import I2C, Pin"],
    text: "MPU6050(I2C(0, sda=Pin(4), scl=Pin(5), freq=400_000), round(signal.rate), scales=signal.scales)",
  },
  sound: { imports: ["from edgelora.sources import I2S"], text: "I2S(16, 17, 18, round(signal.rate))" },
};

/** Text as Python's ascii() writes it. */
export function quoted(text) {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = Array.from(text, (c) => {
    const code = c.codePointAt(0);
    if (c === mark || c === "\\") return `\\${c}`;
    if (code >= 32 && code < 127) return c;
    if (code < 256) return `\\x${code.toString(16).padStart(2, "0")}`;
    if (code < 65536) return `\\u${code.toString(16).padStart(4, "0")}`;
    return `\\U${code.toString(16).padStart(8, "0")}`;
  });
  return mark + escaped.join("") + mark;
}

/** The text of main.py. board: `base`, its `path`, `labels` of all classes, and the name of the `adapter` in the store;
 * acts: `label`, `kind` and `target` each. */
export function program({ base, path, labels, adapter }, acts) {
  const sensor = SENSORS[base.name];
  const used = [...new Set(acts.map(({ kind }) => CALLS[kind].name))].sort();
  const imports = [
    `from edgelora.actions import ${[...used, "run"].join(", ")}`,
    "from edgelora.pipeline import Pipeline",
    ...sensor.imports,
    "from edgelora.store import Store, default_place",
  ];
  const module = (line) => line.split(" ")[1];
  imports.sort((a, b) => (module(a) < module(b) ? -1 : 1));
  const lines = labels
    .map((label) => [label, acts.filter((act) => act.label === label)])
    .filter(([, mine]) => mine.length)
    .map(([label, mine]) => {
      const calls = mine.map(({ kind, target }) => `${CALLS[kind].name}(${CALLS[kind].text(target)})`);
      return `    ${quoted(label)}: [${calls.join(", ")}],`;
    });
  return [
    '"""What this board does by itself when it sees a class. Made by EdgeLoRA; change it as you like.',
    "",
    "It runs after each reset, without a computer; Ctrl-C at the board's port ends it.",
    '"""',
    "",
    "import edgelora",
    ...imports,
    "",
    `model = edgelora.Model(${quoted(path)}, ranks=8, mode='infer')`,
    "store = Store(default_place())",
    "store.open(model)",
    `store.use(${quoted(adapter)})`,
    "signal = model.signal",
    `sensor = ${sensor.text}`,
    `pipeline = Pipeline(model, sensor, vote=(${VOTE}))`,
    "actions = {",
    ...lines,
    "}",
    "run(pipeline, actions)",
    "",
  ].join("\n");
}
