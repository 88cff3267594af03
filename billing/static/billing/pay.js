/* Polls the status and replaces <main> with the server's rendering when it changes. */
(() => {
  "use strict";

  const POLL_INTERVAL = 2000;
  const MAX_POLL_INTERVAL = 60000;
  const REQUEST_TIMEOUT = 15000;
  const root = document.documentElement;
  let interval = POLL_INTERVAL;
  let timer = 0;
  let clockOffset = 0; // server time minus local time
  let isPolling = false;

  root.classList.add("scripted");
  document.addEventListener("DOMContentLoaded", start);

  const main = () => document.getElementById("main");
  const announce = (text) => {
    document.getElementById("announcement").textContent = text;
  };

  function start() {
    updateTimes();
    document.addEventListener("click", copyText);
    document.addEventListener("click", printReceipt);
    document.addEventListener("submit", markBusy);
    document.addEventListener("visibilitychange", pollNow);
    window.addEventListener("online", pollNow);
    window.addEventListener("beforeprint", openDetails);
    // The back button restores the page as it was left, with its buttons still busy.
    window.addEventListener("pageshow", (event) => event.persisted && resume());
    window.setInterval(updateCountdowns, 1000);
    schedule(POLL_INTERVAL);
  }

  function updateTimes() {
    clockOffset = Date.parse(main().dataset.now) - Date.now();
    for (const time of main().querySelectorAll("time[data-local]")) {
      time.textContent = new Date(time.dateTime).toLocaleString("en-GB", {
        day: "numeric", month: "long", year: "numeric",
        hour: "2-digit", minute: "2-digit", timeZoneName: "short",
      });
    }
    updateCountdowns();
  }

  function updateCountdowns() {
    const now = Date.now() + clockOffset;
    for (const time of main().querySelectorAll("time[data-countdown]")) {
      const left = Math.max(0, Math.ceil((Date.parse(time.dateTime) - now) / 1000));
      const seconds = String(left % 60).padStart(2, "0");
      time.textContent = `${Math.floor(left / 60)}:${seconds}`;
    }
  }

  // --- polling

  function schedule(delay) {
    window.clearTimeout(timer);
    if (!("final" in main().dataset)) timer = window.setTimeout(poll, delay);
  }

  function pollNow() {
    if (!document.hidden) {
      interval = POLL_INTERVAL;
      schedule(0);
    }
  }

  async function poll() {
    if (document.hidden || isPolling) return;
    isPolling = true;
    try {
      const response = await request(main().dataset.status);
      const { data } = await response.json();
      if (data.version !== main().dataset.version) await replaceMain();
      else if (data.is_final) main().dataset.final = "";
      interval = POLL_INTERVAL;
    } catch (error) {
      interval = Math.min(Math.max(2 * interval, error.retryAfter || 0), MAX_POLL_INTERVAL);
    } finally {
      isPolling = false;
      schedule(interval);
    }
  }

  async function request(url) {
    const controller = new AbortController();
    const timeout = window.setTimeout(() => controller.abort(), REQUEST_TIMEOUT);
    const response = await fetch(url, { cache: "no-store", signal: controller.signal });
    window.clearTimeout(timeout);
    if (!response.ok) {
      const error = new Error(response.statusText);
      error.retryAfter = 1000 * Number(response.headers.get("Retry-After"));
      throw error;
    }
    return response;
  }

  async function replaceMain() {
    const response = await request(main().dataset.page);
    const rendered = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = rendered.getElementById("main");
    const focused = main().contains(document.activeElement) && document.activeElement;
    main().replaceWith(document.adoptNode(next));
    document.title = rendered.title;
    updateTimes();
    if (focused) restoreFocus(focused.id);
    announce(next.dataset.announcement);
  }

  // If the focused element is gone, keyboard users continue at the new headline.
  function restoreFocus(id) {
    const same = id && main().querySelector(`#${CSS.escape(id)}`);
    (same || document.getElementById("headline")).focus({ preventScroll: !!same });
  }

  // --- buttons and printing

  async function copyText(event) {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = button.dataset.done;
      announce(button.dataset.done);
      window.setTimeout(() => { button.textContent = label; }, 2000);
    } catch {
      // Without TLS browsers deny access to the clipboard: select the text instead.
      source.closest("details").open = true;
      window.getSelection().selectAllChildren(source);
    }
  }

  function printReceipt(event) {
    if (event.target.closest("[data-print]")) window.print();
  }

  // Closed <details> would be missing on paper.
  function openDetails() {
    for (const details of main().querySelectorAll("details.proof")) details.open = true;
  }

  function markBusy(event) {
    const button = event.target.querySelector("button");
    if (button.getAttribute("aria-busy")) event.preventDefault();
    button.setAttribute("aria-busy", "true");
  }

  function resume() {
    for (const button of main().querySelectorAll("[aria-busy]")) {
      button.removeAttribute("aria-busy");
    }
    pollNow();
  }
})();
