// The motion sensor of a board as this page's source, over WebSerial.

import { Board, Refused } from "./board.js";
import { install } from "./install.js";
import { OPS } from "./link.js";

const EVERY = 40; // ms between requests for samples
const WIRED = { source: "mpu6050", bus: 0, pins: [4, 5] }; // as the board's program expects it, too

/** Opens the sensor of the board behind a port. Returns a function that closes it.
 *
 * tell: called with what is done, and which share of it; onEnd: with an error that ended it.
 */
export async function boardMotion(port, signal, onCounts, tell, onEnd) {
  tell("Connecting", 0);
  const board = await Board.on(port);
  try {
    await install(board, tell);
    await board.control(OPS.SENSE_OPEN, { ...WIRED, rate: Math.round(signal.rate), scales: signal.scales });
  } catch (error) {
    await board.close();
    if (!(error instanceof Refused)) throw error;
    throw new Error(`${error.message}. Check how the sensor is wired, then choose it again.`);
  }
  let open = true;
  const run = async () => {
    while (open) {
      const answer = await board.request(OPS.SENSE_DATA, new Uint8Array());
      onCounts(new Int16Array(answer.slice(4).buffer)); // after u32 samples lost
      await new Promise((done) => setTimeout(done, EVERY));
    }
    await board.release();
  };
  const running = run().catch((error) => {
    if (open) onEnd(error);
  });
  return async () => {
    open = false;
    await running;
    await board.close();
  };
}
