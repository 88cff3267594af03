"use strict";

(() => {
  // Signs each request with the browser's Nostr extension (NIP-07), as NIP-98 requires.
  async function sign(request) {
    const url = new URL(request.url, window.location.href);
    const isSchema = url.pathname === new URL(schema, window.location.href).pathname;
    showNotice();
    if (isSchema || !window.nostr) return request;
    // The event is checked against the server's clock, which may differ from this one.
    const { headers } = await fetch("/healthz", { cache: "no-store" });
    const tags = [
      ["u", url.href],
      ["method", (request.method || "GET").toUpperCase()],
      ["nonce", crypto.randomUUID()],
    ];
    if (request.body) tags.push(["payload", await sha256(request.body)]);
    const event = await window.nostr.signEvent({
      kind: 27235,
      created_at: Math.floor(Date.parse(headers.get("date")) / 1000),
      tags,
      content: "",
    });
    request.headers.Authorization = "Nostr " + btoa(JSON.stringify(event));
    return request;
  }

  function showNotice() {
    document.getElementById("no-extension").hidden = Boolean(window.nostr);
  }

  function hidden() {
    return () => null;
  }

  async function sha256(text) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return [...new Uint8Array(digest)].map((n) => n.toString(16).padStart(2, "0")).join("");
  }

  // Swagger UI gives some of its fields no name that a screen reader could say.
  function nameFields() {
    for (const field of page.querySelectorAll("select, textarea, input")) {
      // The label of the servers is empty.
      const isNamed = field.labels?.length && field.id !== "servers";
      if (isNamed || field.hasAttribute("aria-label")) continue;
      const parameter = field.closest("tr[data-param-name]")?.dataset.paramName;
      const isContentType = field.closest(".content-type-wrapper, .body-param-content-type");
      const other = field.id === "servers" ? "Server" : isContentType ? "Media type" : "Body";
      field.setAttribute("aria-label", parameter || other);
    }
  }

  const page = document.getElementById("swagger-ui");
  const schema = page.dataset.schema;
  new MutationObserver(nameFields).observe(page, { childList: true, subtree: true });
  // Some extensions add `window.nostr` only after the page has loaded.
  window.addEventListener("load", () => setTimeout(showNotice, 1000));
  SwaggerUIBundle({
    url: schema,
    dom_id: "#swagger-ui",
    // With it, each operation's button would contain a link: a screen reader reads one.
    deepLinking: false,
    displayRequestDuration: true,
    presets: [SwaggerUIBundle.presets.apis],
    requestInterceptor: sign,
    // No "Authorize" button: there is no session, every request has its own signature.
    plugins: [{ wrapComponents: { authorizeBtn: hidden, authorizeOperationBtn: hidden } }],
  });
})();
