// nostr-tools: private messages (NIP-17) and signed HTTP requests (NIP-98).
import * as nip17 from "nostr-tools/nip17";
import * as nip98 from "nostr-tools/nip98";
import { SimplePool } from "nostr-tools/pool";
import { finalizeEvent } from "nostr-tools/pure";
import { hexToBytes } from "nostr-tools/utils";
import { serve } from "./lines.mjs";

serve({
  /** Publish an event with a key, and return what each relay answers. */
  async publish({ secret, relay, kind, content, tags }) {
    const sign = (event) => finalizeEvent(event, hexToBytes(secret));
    const created_at = Math.floor(Date.now() / 1000);
    const event = sign({ kind, content, tags, created_at });
    const pool = new SimplePool();
    await Promise.all(pool.publish([relay], event, { onauth: sign }));
    pool.close([relay]);
  },
  /** Return the stored events that match a filter. */
  async fetch({ secret, relay, filter }) {
    const sign = (event) => finalizeEvent(event, hexToBytes(secret));
    const pool = new SimplePool();
    const events = await pool.querySync([relay], filter, { onauth: sign });
    pool.close([relay]);
    return events;
  },
  open_message: ({ secret, wrap }) => nip17.unwrapEvent(wrap, hexToBytes(secret)),
  wrap_message: ({ secret, pubkey, text }) =>
    nip17.wrapEvent(hexToBytes(secret), { publicKey: pubkey }, text),

  accepts: ({ header, url, method }) => nip98.validateToken(header, url, method),
  async authorization({ secret, url, method, body }) {
    const sign = (event) => finalizeEvent(event, hexToBytes(secret));
    return nip98.getToken(url, method, sign, true, body);
  },
});
