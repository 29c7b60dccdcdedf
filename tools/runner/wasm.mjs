// Runs the runner that was compiled to WebAssembly (linux.c): node wasm.mjs PROGRAM.
// SPDX-License-Identifier: MIT

import fs from "node:fs";

const bytes = (at, size) => new Uint8Array(instance.exports.memory.buffer, at, size);
const env = {
    read: (file, at, size) => fs.readSync(file, bytes(at, size)),
    write: (file, at, size) => fs.writeSync(file, bytes(at, size)),
};
const { instance } = await WebAssembly.instantiate(fs.readFileSync(process.argv[2]), { env });
process.exitCode = instance.exports.run();
