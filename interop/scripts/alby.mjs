// Alby's SDK, as client and as wallet service.
import { NWCClient, NWCWalletService, NWCWalletServiceKeyPair } from "@getalby/sdk/nwc";
import { ask, serve } from "./lines.mjs";

const clients = new Map();
const services = new Map();

const camelCase = (method) => method.replace(/_./g, ([, letter]) => letter.toUpperCase());

/** Return handlers that pass each request to the test. */
function handlers(key, methods) {
  const run = (method) => (params) => ask("run", { key, method, params: params ?? {} });
  return Object.fromEntries(methods.map((method) => [camelCase(method), run(method)]));
}

// The SDK's own info event always offers both encryptions.
async function publishInfo(service, { secret, methods, encryption }) {
  const info = {
    kind: 13194,
    created_at: Math.floor(Date.now() / 1000),
    tags: [["encryption", encryption]],
    content: methods.join(" "),
  };
  const { pool, relayUrls } = service;
  await pool.ensureRelay(relayUrls[0]);
  await Promise.any(pool.publish(relayUrls, await service.signEvent(info, secret)));
}

serve({
  open_client({ key, url }) {
    clients.set(key, new NWCClient({ nostrWalletConnectUrl: url }));
  },
  request({ key, method, params }) {
    const client = clients.get(key);
    const name = camelCase(method);
    if (!(name in client)) throw new Error(`the SDK has no ${name}`);
    return client[name](params);
  },
  async listen({ key }) {
    const notify = (notification) => ask("notify", { key, notification });
    await clients.get(key).subscribeNotifications(notify);
  },
  printed_url: ({ key }) => clients.get(key).getNostrWalletConnectUrl(),
  close_client({ key }) {
    clients.get(key).close();
    clients.delete(key);
  },

  async open_service({ key, relay, secret, client, methods, encryption }) {
    const service = new NWCWalletService({ relayUrls: [relay] });
    if (encryption.length > 1) {
      await service.publishWalletServiceInfoEvent(secret, methods, []);
    } else {
      await publishInfo(service, { secret, methods, encryption: encryption[0] });
    }
    const keys = new NWCWalletServiceKeyPair(secret, client);
    const unsubscribe = await service.subscribe(keys, handlers(key, methods));
    services.set(key, { service, unsubscribe });
  },
  close_service({ key }) {
    const { service, unsubscribe } = services.get(key);
    unsubscribe();
    service.close();
    services.delete(key);
  },
});
