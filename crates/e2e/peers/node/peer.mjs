// What every peer needs: JSON lines on stdout, an end when the test that started it is gone, and a limit on its own life.
import { createHash } from 'node:crypto';

/** Writes one line of JSON. */
export const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** A digest to compare large messages by. */
export const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Bytes that differ from position to position. */
export const pattern = (length) => Buffer.from(Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) % 251));

/** Ends a server when its stdin closes, which happens when the test ends, however it ends. */
export function serveUntilAlone() {
  process.stdin.on('end', () => process.exit(0));
  process.stdin.on('error', () => process.exit(0));
  process.stdin.resume();
}

/** Ends a client that hangs, with a code of its own. */
export function endAfter(milliseconds) {
  setTimeout(() => {
    process.stderr.write(`still at work after ${milliseconds} ms\n`);
    process.exit(3);
  }, milliseconds).unref();
}
