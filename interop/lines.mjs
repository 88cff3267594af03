// JSON lines: one object per line, on standard input and standard output.
// Import it before the SDK, which looks for its globals when it is loaded.
import { webcrypto } from "node:crypto";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket; // new in Node 22
globalThis.crypto ??= webcrypto; // new in Node 19

// Standard output is for these lines only.
console.log = console.info = console.error;

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Return the next line's object, undefined at the end. */
export async function receive() {
  const { value, done } = await input.next();
  return done ? undefined : JSON.parse(value);
}

/** Write an object as a line. */
export function send(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
