// The client of Alby's SDK. It receives the wallet's {url}, then calls of the SDK's methods
// ({id, method, params}); it sends their results ({id, result} or {id, error}) and the
// wallet's notifications ({notification}).
import { receive, send } from "./lines.mjs";
import { NWCClient } from "@getalby/sdk/nwc";

const { url } = await receive();
const client = new NWCClient({ nostrWalletConnectUrl: url });

async function call({ id, method, params }) {
  try {
    send({ id, result: await client[method](params) });
  } catch (error) {
    const { code, message } = error;
    send({ id, error: { type: error.constructor.name, code, message } });
  }
}

await client.subscribeNotifications((notification) => send({ notification }));
for (let request; (request = await receive()); ) {
  call(request);
}
process.exit();
