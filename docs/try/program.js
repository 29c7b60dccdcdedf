// The program of a board that acts on what it sees: the main.py that `edgelora act` writes, too.

const VOTE = "2, 3";
const CALLS = {
  hold: { name: "Hold", text: (target) => (target === "LED" ? "'LED'" : String(target)) },
  print: { name: "Say", text: quoted },
};
const SENSORS = {
  motion: "open_sensor('mpu6050', (4, 5), round(signal.rate), signal.scales)",
  sound: "open_sensor('i2s', (16, 17, 18), round(signal.rate))",
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
  const used = [...new Set(acts.map(({ kind }) => CALLS[kind].name))].sort();
  const imports = [
    `from edgelora.actions import ${[...used, "run"].join(", ")}`,
    "from edgelora.pipeline import Pipeline",
    "from edgelora.sources import open_sensor",
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
    `sensor = ${SENSORS[base.name]}`,
    `pipeline = Pipeline(model, sensor, vote=(${VOTE}))`,
    "actions = {",
    ...lines,
    "}",
    "run(pipeline, actions)",
    "",
  ].join("\n");
}
