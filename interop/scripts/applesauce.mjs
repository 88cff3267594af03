// applesauce-wallet-connect, as client and as wallet service, over applesauce-relay.
import { RelayPool } from "applesauce-relay";
import { PrivateKeySigner } from "applesauce-signers";
import { WalletConnect, WalletService } from "applesauce-wallet-connect";
import { createWalletError } from "applesauce-wallet-connect/helpers/error";
import { ask, serve } from "./lines.mjs";

const clients = new Map();
const services = new Map();

/** Return a handler that passes a request to the test. */
function handler(key, method) {
  return async (params) => {
    const { result, error } = await ask("run", { key, method, params: params ?? {} });
    if (error) throw createWalletError(error.code, error.message);
    return result;
  };
}

/** Return a signer with these encryptions only: the info event offers what it has. */
function signerWith(secret, encryption) {
  const signer = PrivateKeySigner.fromKey(secret);
  if (!encryption.includes("nip44_v2")) delete signer.nip44;
  if (!encryption.includes("nip04")) delete signer.nip04;
  return signer;
}

serve({
  open_client({ key, url }) {
    const pool = new RelayPool();
    clients.set(key, { pool, client: WalletConnect.fromConnectURI(url, { pool }) });
  },
  request({ key, method, params }) {
    return clients.get(key).client.genericRequest(method, params);
  },
  async listen({ key }) {
    const { client } = clients.get(key);
    const notify = (notification) => ask("notify", { key, notification });
    client.notifications$.subscribe(notify);
    await client.getSupport(); // so that the subscription is open
  },
  close_client({ key }) {
    clients.get(key).pool.close();
    clients.delete(key);
  },

  async open_service({ key, relay, secret, client, methods, encryption }) {
    const pool = new RelayPool();
    const service = new WalletService({
      pool,
      relays: [relay],
      client,
      signer: signerWith(secret, encryption),
      handlers: Object.fromEntries(methods.map((name) => [name, handler(key, name)])),
      notifications: ["payment_received", "payment_sent"],
    });
    services.set(key, { pool, service });
    await service.start();
  },
  async notify({ key, type, payment, legacy }) {
    await services.get(key).service.notify(type, payment, legacy);
  },
  close_service({ key }) {
    const { pool, service } = services.get(key);
    service.stop();
    pool.close();
    services.delete(key);
  },
});
