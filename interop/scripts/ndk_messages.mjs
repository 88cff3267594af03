// NDK: private messages (NIP-17) and signed HTTP requests (NIP-98).
import { createHash } from "node:crypto";
import NDK, {
  NDKEvent,
  NDKKind,
  NDKPrivateKeySigner,
  NDKUser,
  giftUnwrap,
  giftWrap,
} from "@nostr-dev-kit/ndk";
import { serve } from "./lines.mjs";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

function ndkOf(secret) {
  return new NDK({ signer: new NDKPrivateKeySigner(secret) });
}

serve({
  async open_message({ secret, wrap }) {
    const ndk = ndkOf(secret);
    const event = new NDKEvent(ndk, wrap);
    const message = await giftUnwrap(event, undefined, ndk.signer).catch((reason) => {
      throw new Error(reason); // NDK throws a string
    });
    return message.rawEvent();
  },
  async wrap_message({ secret, pubkey, text }) {
    const ndk = ndkOf(secret);
    const message = new NDKEvent(ndk, {
      kind: NDKKind.PrivateDirectMessage,
      pubkey: ndk.signer.pubkey,
      created_at: Math.floor(Date.now() / 1000),
      content: text,
      tags: [["p", pubkey]],
    });
    const wrap = await giftWrap(message, new NDKUser({ pubkey }), ndk.signer);
    return wrap.rawEvent();
  },

  // NDK has no call of its own for it, but the kind.
  async authorization({ secret, url, method, body }) {
    const tags = [["u", url], ["method", method]];
    if (body) tags.push(["payload", sha256(JSON.stringify(body))]);
    const event = new NDKEvent(ndkOf(secret), { kind: NDKKind.HttpAuth, content: "", tags });
    await event.sign();
    return `Nostr ${Buffer.from(JSON.stringify(event.rawEvent())).toString("base64")}`;
  },
});
