// nostr-tools: private messages (NIP-17) and signed HTTP requests (NIP-98).
import * as nip17 from "nostr-tools/nip17";
import * as nip98 from "nostr-tools/nip98";
import { finalizeEvent } from "nostr-tools/pure";
import { hexToBytes } from "nostr-tools/utils";
import { serve } from "./lines.mjs";

serve({
  open_message: ({ secret, wrap }) => nip17.unwrapEvent(wrap, hexToBytes(secret)),
  wrap_message: ({ secret, pubkey, text }) =>
    nip17.wrapEvent(hexToBytes(secret), { publicKey: pubkey }, text),

  accepts: ({ header, url, method }) => nip98.validateToken(header, url, method),
  async authorization({ secret, url, method, body }) {
    const sign = (event) => finalizeEvent(event, hexToBytes(secret));
    return nip98.getToken(url, method, sign, true, body);
  },
});
