// Puts EdgeLoRA, a base, an adapter and a program on a board.

import { unpacked } from "./bytes.js";
import { Board } from "./board.js";
import { OPS } from "./link.js";
import { program } from "./program.js";

// Indexed by MicroPython's number of an architecture.
const ARCHES = [
  ...[null, "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"],
  ...["xtensa", "xtensawin", "rv32imc", "rv64imc"],
];
const PACKAGES = ["armv6m", "armv7m", "armv7emsp", "rv32imc", "x64", "xtensawin"];
const THUMB = ["armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"]; // each runs those before it
const NAME = "mine"; // of the adapter in the board's store
const SPARE = 16384; // bytes that stay free in the file system
const MAIN = "/main.py";
const OLD_MAIN = "/main.old.py";

/** The package for a board that tells this `sys.implementation._mpy`; null if there is none. */
export function packageFor(mpy) {
  const arch = ARCHES[(mpy >> 10) & 0x2f] ?? null; // bit 14 and those from 16 on are flags of the core
  const runs = THUMB.includes(arch) ? THUMB.slice(0, THUMB.indexOf(arch) + 1).reverse() : [arch];
  return runs.find((one) => PACKAGES.includes(one)) ?? null;
}

/** The version of a package, and its files by path on the board. */
async function packageOf(arch) {
  const { default: packed } = await import(`./board-${arch}.js`);
  const bytes = await unpacked(packed);
  let at = 4 + new DataView(bytes.buffer).getUint32(0, true);
  const { version, files } = JSON.parse(new TextDecoder().decode(bytes.subarray(4, at)));
  return { version, files: files.map(([path, size]) => [path, bytes.subarray(at, (at += size))]) };
}

/** Installs EdgeLoRA, where the board's firmware does not have it. tell: as for `putOn`. */
export async function install(board, tell) {
  const { hello } = board;
  if (hello.builtin) return;
  const arch = packageFor(hello.mpy);
  if (!arch) throw new Error(`${hello.board} loads no native modules of a kind that EdgeLoRA has.`);
  const { version, files } = await packageOf(arch);
  const [, module] = files.find(([path]) => path.endsWith("/__init__.mpy"));
  if ((hello.mpy & 255) !== module[1] || ((hello.mpy >> 8) & 3) !== (module[2] & 3)) {
    throw new Error(`MicroPython ${hello.micropython} loads native modules of another format. Put version 1.25 or later on the board.`);
  }
  const missing = [];
  for (const [path, bytes] of files) if (!(await board.holds(path, bytes))) missing.push([path, bytes]);
  const total = missing.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  const { free } = await board.control(OPS.SPACE, { path: "/" });
  if (total && free < total + SPARE) {
    throw new Error(`The board has ${free} bytes free and needs ${total + SPARE}. Remove files from it first.`);
  }
  let done = 0;
  for (const [path, bytes] of missing) {
    await board.put(path, bytes, (size) => {
      done += size;
      tell(`Installing EdgeLoRA for ${arch}`, done / total);
    });
  }
  if (missing.length || hello.edgelora !== version) await board.reload();
  if (board.hello.edgelora !== version) {
    throw new Error("EdgeLoRA is on the board, but can't be imported there. It may lack memory: look into its boot.py.");
  }
}

/** A copy of a main.py that EdgeLoRA did not write. */
async function keepOld(board, made) {
  const there = await board.stat(MAIN);
  if (!there?.size) return;
  const old = await board.get(MAIN, there.size);
  const own = new TextDecoder().decode(old).startsWith(made.slice(0, made.indexOf(";")));
  if (!own) await board.put(OLD_MAIN, old);
}

/** Puts all on the board behind a port, which then acts by itself. Returns what it is.
 *
 * learned: `base`, `adapter`, `labels` of all classes, `xs`, inputs to compare by, and `classes`,
 * the page's own answers for them. acts: kind and target by label. tell: called with what is done,
 * and which share of it.
 */
export async function putOn(port, { base, adapter, labels, xs, classes }, acts, tell) {
  tell("Connecting", 0);
  const board = await Board.on(port);
  try {
    await install(board, tell);
    const path = `/${base.name}.elm`;
    tell("Writing the base", 0);
    await board.put(path, base.elm);
    if (!(await board.holds(path, base.elm))) throw new Error("The base on the board is damaged. Start again.");
    await board.open(path, base.ranks);
    tell("Writing the adapter", 0.5);
    const kept = await board.keep(NAME, adapter);
    if (kept.length !== adapter.length || kept.some((byte, i) => byte !== adapter[i])) {
      throw new Error("The adapter on the board is not the page's. Start again.");
    }
    tell("Comparing the board's answers with the page's", 0.8);
    const told = await board.infer(xs);
    const differing = told.filter((one, i) => one !== classes[i]).length;
    if (differing) throw new Error(`The board answers ${differing} of ${xs.length} samples otherwise than the page. Nothing was started.`);
    const made = program({ base, path, labels, adapter: NAME }, acts);
    await keepOld(board, made);
    await board.put(MAIN, new TextEncoder().encode(made));
    tell("Restarting", 1);
    await board.restart();
    return { board: board.hello.board, compared: xs.length };
  } finally {
    await board.close();
  }
}
