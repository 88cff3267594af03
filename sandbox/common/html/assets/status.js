// Refreshes the status page and submits its forms without a page load.
// The page also works without this file.
"use strict";

const REFRESH_INTERVAL = 2000;
const REFRESH_TIMEOUT = 10000;
// Number of the newest request: responses to older ones are ignored.
let latest = 0;
let waiting = false;

/** Turn one node into another; unchanged parts stay and keep the focus. */
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const isSame = old.nodeName === fresh.nodeName && old.id === fresh.id;
  if (!isSame) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  } else {
    morphAttributes(old, fresh);
    morphChildren(old, fresh);
  }
}

function morphAttributes(old, fresh) {
  // The user opens and closes details; the server does not know their state.
  const isUserState = (name) => old.nodeName === "DETAILS" && name === "open";
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isUserState(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function morphChildren(old, fresh) {
  const wanted = new Set([...fresh.children].map((child) => child.id));
  const kept = new Map();
  for (const child of [...old.children]) {
    if (!child.id) continue;
    if (wanted.has(child.id)) kept.set(child.id, child);
    else child.remove();
  }
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const unnamed = at && !at.id && !next.id && at.nodeName === next.nodeName;
    const match = next.id ? kept.get(next.id) : unnamed ? at : null;
    if (match && match === at) at = at.nextSibling;
    else old.insertBefore(match || next, at);
    if (match) morph(match, next);
  }
  while (at) {
    const obsolete = at;
    at = at.nextSibling;
    obsolete.remove();
  }
}

/** Fetch a page and show it; `keepMessage` for automatic refreshes. */
async function show(url, options = {}, keepMessage = false) {
  const number = ++latest;
  waiting = true;
  try {
    const text = await fetchPage(url, options);
    if (number === latest) apply(text, keepMessage);
  } catch (error) {
    if (number === latest) showError(error, keepMessage);
  } finally {
    if (number === latest) waiting = false;
  }
}

async function fetchPage(url, options) {
  const response = await fetch(url, { cache: "no-store", ...options });
  const text = await response.text();
  const type = response.headers.get("Content-Type") || "";
  if (!type.startsWith("text/html")) throw new Error(text);
  return text;
}

/** Mark the page as stale; show the error unless it was an automatic refresh. */
function showError(error, quietly) {
  document.getElementById("as-of").classList.add("stale");
  if (quietly) return;
  const paragraph = document.createElement("p");
  paragraph.className = "error";
  paragraph.textContent = `Request failed: ${error.message}`;
  document.getElementById("message").replaceChildren(paragraph);
}

function apply(text, keepMessage) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const message = document.getElementById("message");
  if (keepMessage) fresh.getElementById("message").replaceWith(message.cloneNode(true));
  document.title = fresh.title;
  morphChildren(document.body, fresh.body);
}

function refresh() {
  if (document.visibilityState === "visible" && !waiting) {
    const signal = AbortSignal.timeout(REFRESH_TIMEOUT);
    show(location.pathname + location.search, { signal }, true);
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const confirmation = form.closest("details.confirm");
  const body = new URLSearchParams(new FormData(form, event.submitter));
  await show(form.action, { method: "POST", body });
  if (confirmation) {
    confirmation.open = false;
    confirmation.querySelector("summary").focus();
  }
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-more]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href.split("#")[0]);
  show(location.pathname + location.search, {}, true);
});

addEventListener("popstate", () => show(location.pathname + location.search));
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, REFRESH_INTERVAL);

// Select the whole text of read-only fields, which are there to be copied.
document.addEventListener("focusin", ({ target }) => {
  if (target.matches("input[readonly]")) target.select();
});
