// The wallet service of Alby's SDK. It receives its configuration ({relay, secret, client,
// methods, encryption}); it sends each request ({id, method, params}) and receives the
// response ({id, result} or {id, error}).
import { receive, send } from "./lines.mjs";
import { NWCWalletService, NWCWalletServiceKeyPair } from "@getalby/sdk/nwc";

const { relay, secret, client, methods, encryption } = await receive();
const service = new NWCWalletService({ relayUrl: relay });
const pending = new Map();
let lastId = 0;

function forward(method, params = {}) {
  const id = ++lastId;
  send({ id, method, params });
  return new Promise((resolve) => pending.set(id, resolve));
}

// The SDK's own info event always offers both encryptions.
async function publishInfo(encryption) {
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
  await publishInfo(encryption);
} else {
  await service.publishWalletServiceInfoEvent(secret, methods, []);
}
await service.subscribe(new NWCWalletServiceKeyPair(secret, client), {
  getInfo: () => forward("get_info"),
  getBalance: () => forward("get_balance"),
  makeInvoice: (params) => forward("make_invoice", params),
  lookupInvoice: (params) => forward("lookup_invoice", params),
  payInvoice: (params) => forward("pay_invoice", params),
});

for (let response; (response = await receive()); ) {
  const { id, result, error } = response;
  pending.get(id)({ result, error });
  pending.delete(id);
}
process.exit();
