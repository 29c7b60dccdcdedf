// Puts MicroPython on an ESP32 through the boot loader in its ROM: checks an image, then writes it.

import { sha256 } from "./board.js";
import { hex } from "./bytes.js";

const BAUD = 460800;
const ROM_BAUD = 115200;
const ROUNDS = 3; // of attempts to reach the boot loader
const CLOSING = 1_000; // ms until a port is closed
const MAGIC = 0xe9; // of a program
const HEADER = 24; // bytes of a program before its segments
const TABLE = 0x8000; // of the partition table in flash
const TABLE_SIZE = 0xc00;
const ENTRY = 32; // bytes of a partition's entry
const ENTRY_MAGIC = 0x50aa;
const TABLE_END = 0xebeb; // before the table's hash
const APP = 0; // kind of a partition that holds a program
const HASH = 32;
const DAMAGED = "This image is cut short or damaged. Download it again.";
const AGAIN = "The boot loader in ROM is intact: connect the board, then try again.";

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** The number of the chip that an image is for. */
export function chipOf(image) {
  if (image[0] !== MAGIC || image.length < HEADER) {
    throw new Error("This file is no ESP32 image. Take the .bin file that MicroPython offers for your board.");
  }
  return viewOf(image).getUint16(12, true);
}

/** Offset, size and kind of each partition; `offset` is where the image begins in flash. */
function partitions(image, offset, md5) {
  const table = image.subarray(TABLE - offset, TABLE - offset + TABLE_SIZE);
  const found = [];
  for (let at = 0; at + ENTRY <= table.length; at += ENTRY) {
    const entry = viewOf(table.subarray(at, at + ENTRY));
    const magic = entry.getUint16(0, true);
    if (magic === TABLE_END && hex(md5(table.subarray(0, at))) === hex(table.subarray(at + 16, at + ENTRY))) return found;
    if (magic !== ENTRY_MAGIC) break;
    found.push({ kind: entry.getUint8(2), offset: entry.getUint32(4, true), size: entry.getUint32(8, true) });
  }
  if (found.length) throw new Error(DAMAGED);
  throw new Error("This file has no partition table: it is cut short, or an update (.app-bin). Take the .bin file.");
}

/** Checks that a program is whole: its chip, its segments' lengths and checksum, and its hash if it has one. */
async function checkProgram(bytes, chip) {
  const damaged = new Error(DAMAGED);
  if (bytes.length < HEADER || bytes[0] !== MAGIC || chipOf(bytes) !== chip) throw damaged;
  const view = viewOf(bytes);
  let at = HEADER;
  let sum = 0xef;
  for (let segment = 0; segment < bytes[1]; segment++) {
    if (at + 8 > bytes.length) throw damaged;
    const size = view.getUint32(at + 4, true);
    at += 8;
    if (at + size > bytes.length) throw damaged;
    for (const end = at + size; at < end; at++) sum ^= bytes[at];
  }
  at |= 15; // of the checksum
  if (bytes[at] !== sum) throw damaged;
  if (bytes[23] !== 1) return;
  if (hex(bytes.subarray(at + 1, at + 1 + HASH)) !== (await sha256(bytes.subarray(0, at + 1)))) throw damaged;
}

/** Checks a whole image for a chip; returns how many bytes of flash it needs. */
export async function checkImage(image, chip, offset, md5) {
  if (chipOf(image) !== chip) {
    throw new Error("This image is for another chip than the board has. Take the .bin file for your board.");
  }
  const parts = partitions(image, offset, md5);
  await checkProgram(image.subarray(0, TABLE - offset), chip);
  const program = parts.find(({ kind }) => kind === APP);
  if (!program) throw new Error("This image has no program. Take the .bin file that MicroPython offers for your board.");
  await checkProgram(image.subarray(program.offset - offset, program.offset - offset + program.size), chip);
  return Math.max(offset + image.length, ...parts.map((part) => part.offset + part.size));
}

const MB = 1 << 20;
const megabytes = (bytes) => `${Math.ceil(bytes / MB)} MB`;

/** Writes an image, compares the chip's hash of it, and restarts the board. Returns the chip's name. tell: as for `putOn`. */
export async function flash(port, image, tell) {
  chipOf(image);
  tell("Connecting", 0);
  const [esptool, { md5 }] = await Promise.all([import("./esptool/bundle.js"), import("./hashes/legacy.js")]);
  const loader = await reached(port, esptool);
  try {
    const { chip } = loader;
    const offset = chip.BOOTLOADER_FLASH_OFFSET;
    const needed = await checkImage(image, chip.IMAGE_CHIP_ID, offset, md5);
    const size = loader.flashSizeBytes((await loader.detectFlashSize()) ?? "0MB");
    if (needed > size) {
      throw new Error(`This image needs ${megabytes(needed)} of flash, the board has ${megabytes(size)}. Take the image for its size.`);
    }
    await written(loader, image, offset, md5, tell);
    tell("Restarting", 1);
    await loader.after();
    return chip.CHIP_NAME;
  } finally {
    await closed(loader.transport);
  }
}

/** Reaches the boot loader of the chip behind a port. */
async function reached(port, { ESPLoader, Transport }) {
  for (let round = 0; round < ROUNDS; round++) {
    const transport = new Transport(port);
    const loader = new ESPLoader({ transport, baudrate: BAUD, romBaudrate: ROM_BAUD });
    try {
      await loader.main();
      return loader;
    } catch {
      await closed(transport);
    }
  }
  throw new Error("No ESP32 answers on this port. Hold the button BOOT, press RESET once, let BOOT go, then try again.");
}

/** Lets the port go. A port that was lost while it was written to stays locked, and needs no closing. */
function closed(transport) {
  const late = new Promise((resolve) => setTimeout(resolve, CLOSING));
  return Promise.race([transport.disconnect().catch(() => {}), late]);
}

async function written(loader, image, address, md5, tell) {
  try {
    await loader.writeFlash({
      ...{ flashSize: "keep", flashMode: "keep", flashFreq: "keep", compress: true, eraseAll: false },
      fileArray: [{ data: image, address }],
      calculateMD5Hash: (bytes) => hex(md5(bytes)),
      reportProgress: (_, done, total) => tell("Writing MicroPython", done / total),
    });
  } catch (error) {
    throw new Error(`Writing failed: ${error.message}. ${AGAIN}`);
  }
}
