// The wallet service of Alby's SDK. It hears whom it serves ({relay, secret, client,
// methods, encryption}), then asks for what each request comes to ({id, method, params})
// and hears that ({id, result} or {id, error}).
import { hear, say } from "./lines.mjs";
import { NWCWalletService, NWCWalletServiceKeyPair } from "@getalby/sdk/nwc";

const { relay, secret, client, methods, encryption } = await hear();
const service = new NWCWalletService({ relayUrl: relay });
const waiting = new Map();
let asked = 0;

function ask(method, params = {}) {
  const id = ++asked;
  say({ id, method, params });
  return new Promise((resolve) => waiting.set(id, resolve));
}

// The SDK's own info event offers both encryptions whatever one would like.
async function announceOnly(encryption) {
  const info = {
    kind: 13194,
    created_at: Math.floor(Date.now() / 1000),
    tags: [["encryption", encryption]],
    content: methods.join(" "),
  };
  await service.relay.connect();
  await service.relay.publish(await service.signEvent(info, secret));
}

if (encryption) {
  await announceOnly(encryption);
} else {
  await service.publishWalletServiceInfoEvent(secret, methods, []);
}
await service.subscribe(new NWCWalletServiceKeyPair(secret, client), {
  getInfo: () => ask("get_info"),
  getBalance: () => ask("get_balance"),
  makeInvoice: (params) => ask("make_invoice", params),
  lookupInvoice: (params) => ask("lookup_invoice", params),
  payInvoice: (params) => ask("pay_invoice", params),
});

for (let answer; (answer = await hear()); ) {
  const { id, result, error } = answer;
  waiting.get(id)({ result, error });
  waiting.delete(id);
}
process.exit();
