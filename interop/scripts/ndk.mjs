// NDK's wallet, a client only.
import NDK from "@nostr-dev-kit/ndk";
import { NDKNWCWallet } from "@nostr-dev-kit/wallet";
import { fail, serve } from "./lines.mjs";

const TIMEOUT = 10_000; // without one it waits for ever
const clients = new Map();

serve({
  open_client({ key, url }) {
    const ndk = new NDK();
    clients.set(key, new NDKNWCWallet(ndk, { pairingCode: url, timeout: TIMEOUT }));
  },
  async request({ key, method, params }) {
    try {
      return (await clients.get(key).req(method, params)).result;
    } catch (response) {
      if (response instanceof Error) throw response;
      fail(response.error);
    }
  },
  close_client({ key }) {
    for (const relay of clients.get(key).pool.relays.values()) relay.disconnect();
    clients.delete(key);
  },
});
