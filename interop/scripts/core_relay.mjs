// @nostr-relay/core over a websocket server. An argument, read or both, says what needs
// authentication (NIP-42); the library leaves that to plugins.
import { createRequire } from "node:module";
import { WebSocketServer } from "ws";
import { serve } from "./lines.mjs";

const require = createRequire(import.meta.url);
const { EventRepository, EventType, EventUtils, LogLevel } = require("@nostr-relay/common");
const { NostrRelay } = require("@nostr-relay/core");

const [mode] = process.argv.slice(2);
const events = new Map();

class Memory extends EventRepository {
  events = new Map();

  isSearchSupported() {
    return false;
  }

  upsert(event) {
    const key = Memory.key(event);
    const stored = this.events.get(key);
    if (stored && (stored.id === event.id || stored.created_at > event.created_at)) {
      return { isDuplicate: true };
    }
    this.events.set(key, event);
    return { isDuplicate: false };
  }

  static key(event) {
    const { kind, pubkey, id } = event;
    const type = EventUtils.getType(kind);
    if (type === EventType.REGULAR) return id;
    return `${kind}:${pubkey}:${EventUtils.extractDTagValue(event) ?? ""}`;
  }

  find(filter) {
    const tags = Object.entries(filter).filter(([name]) => name.startsWith("#"));
    const hasTag = (event, [name, values]) =>
      event.tags.some((tag) => `#${tag[0]}` === name && values.includes(tag[1]));
    return [...this.events.values()]
      .filter((event) => EventUtils.isMatchingFilter(event, filter))
      .filter((event) => tags.every((tag) => hasTag(event, tag)))
      .sort((first, second) => second.created_at - first.created_at)
      .slice(0, filter.limit ?? 100);
  }

  async destroy() {}
}

const authentication = {
  async handleMessage(context, message, next) {
    const [type, content] = message;
    const reason = "auth-required: authenticate first";
    if (context.pubkey || type === "AUTH" || type === "CLOSE") return next();
    if (type === "REQ") return context.sendMessage(["CLOSED", content, reason]);
    if (mode === "read") return next();
    return context.sendMessage(["OK", content.id, false, reason]);
  },
};

const recorder = {
  async handleMessage(context, message, next) {
    if (message[0] === "EVENT") events.set(message[1].id, message[1]);
    return next();
  },
};

const options = { logLevel: LogLevel.ERROR };
if (mode) options.hostname = "127.0.0.1";
const relay = new NostrRelay(new Memory(), options).register(recorder);
if (mode) relay.register(authentication);

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
server.on("connection", (client) => {
  relay.handleConnection(client);
  client.on("message", (data) => relay.handleMessage(client, JSON.parse(data)));
  client.on("close", () => relay.handleDisconnect(client));
});
await new Promise((resolve) => server.on("listening", resolve));

serve({
  url: () => `ws://127.0.0.1:${server.address().port}`,
  sent_events: () => [...events.values()],
  forget_events: () => events.clear(),
  drop_connections: () => server.clients.forEach((client) => client.terminate()),
});
