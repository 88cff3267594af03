// Calls in both directions over standard input and output, one JSON object per line:
// {id, method, params} and its response {id, result} or {id, error}.
import { createInterface } from "node:readline";

// Standard output is for these lines only.
console.log = console.info = console.debug = console.error;
// Libraries leave promises alone, for instance of an event published just before they
// close the connection. That must not end the other objects of this process.
process.on("unhandledRejection", (error) => console.error("unhandled:", error));

const pending = new Map();
let lastId = 0;

function write(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Call a method of the test; resolves to its response, {result} or {error}. */
export function ask(method, params) {
  const id = `${++lastId}`;
  write({ id, method, params });
  return new Promise((resolve) => pending.set(id, resolve));
}

/** Throw a wallet's error so that the test gets its code. */
export function fail({ code, message }) {
  throw Object.assign(new Error(message), { code });
}

async function run({ id, method, params }, methods) {
  try {
    write({ id, result: (await methods[method](params)) ?? null });
  } catch (error) {
    const { message, code } = error;
    write({ id, error: { type: error.constructor.name, message, code: code ?? "" } });
  }
}

/** Serve the test's calls by these methods until it closes the input. */
export async function serve(methods) {
  for await (const line of createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    if (message.method) {
      run(message, methods);
    } else {
      pending.get(message.id)(message);
      pending.delete(message.id);
    }
  }
  process.exit();
}
