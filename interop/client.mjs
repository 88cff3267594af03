// The client of Alby's SDK. It hears the wallet's {url}, then calls by the SDK's own
// names ({id, method, params}), and says what they come to ({id, result} or {id, error})
// and what the wallet notifies it of ({notification}).
import { hear, say } from "./lines.mjs";
import { NWCClient } from "@getalby/sdk/nwc";

const { url } = await hear();
const client = new NWCClient({ nostrWalletConnectUrl: url });

async function call({ id, method, params }) {
  try {
    say({ id, result: await client[method](params) });
  } catch (error) {
    const { code, message } = error;
    say({ id, error: { type: error.constructor.name, code, message } });
  }
}

await client.subscribeNotifications((notification) => say({ notification }));
for (let asked; (asked = await hear()); ) {
  call(asked);
}
process.exit();
