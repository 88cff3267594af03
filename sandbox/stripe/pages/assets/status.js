// Keeps the status page fresh, and sends its forms without leaving it.
// Without this file the page works too: forms reload it.
"use strict";

const PERIOD = 2000;
const PATIENCE = 10000;
// Counts up with each request, so that an answer overtaken by a newer one is dropped.
let latest = 0;
let waiting = false;

/** Make an element like another one: what is the same stays, with its focus. */
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const alike = old.nodeName === fresh.nodeName && old.id === fresh.id;
  if (!alike) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  } else {
    morphAttributes(old, fresh);
    morphChildren(old, fresh);
  }
}

function morphAttributes(old, fresh) {
  // What is unfolded is the reader's, not the server's.
  const ours = (name) => old.nodeName === "DETAILS" && name === "open";
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !ours(name)) old.removeAttribute(name);
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
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** Fetch a page and show it; `keepMessage` when nobody asked for it. */
async function show(url, options = {}, keepMessage = false) {
  const mine = ++latest;
  waiting = true;
  try {
    const text = await fetchPage(url, options);
    if (mine === latest) apply(text, keepMessage);
  } catch (error) {
    if (mine === latest) complain(error, keepMessage);
  } finally {
    if (mine === latest) waiting = false;
  }
}

async function fetchPage(url, options) {
  const answer = await fetch(url, { cache: "no-store", ...options });
  const text = await answer.text();
  const type = answer.headers.get("Content-Type") || "";
  if (!type.startsWith("text/html")) throw new Error(text);
  return text;
}

/** Say that what is shown is old, and aloud if somebody waits for it. */
function complain(error, quietly) {
  document.getElementById("as-of").classList.add("stale");
  if (quietly) return;
  const said = document.createElement("p");
  said.className = "error";
  said.textContent = `That did not work: ${error.message}`;
  document.getElementById("message").replaceChildren(said);
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
    const signal = AbortSignal.timeout(PATIENCE);
    show(location.pathname + location.search, { signal }, true);
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const question = form.closest("details.ask");
  const body = new URLSearchParams(new FormData(form, event.submitter));
  await show(form.action, { method: "POST", body });
  if (question) {
    question.open = false;
    question.querySelector("summary").focus();
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
setInterval(refresh, PERIOD);

// What is there to be copied is selected whole.
document.addEventListener("focusin", ({ target }) => {
  if (target.matches("input[readonly]")) target.select();
});
