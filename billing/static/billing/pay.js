/* Keeps the page as the server would render it now; it renders nothing by itself. */
(() => {
  "use strict";

  const OFTEN = 2000;
  const SELDOM = 60000;
  const PATIENCE = 15000;
  const root = document.documentElement;
  let pause = OFTEN;
  let timer = 0;
  let ahead = 0; // how far the server's clock is ahead of ours
  let asking = false;

  root.classList.add("scripted");
  document.addEventListener("DOMContentLoaded", begin);

  const main = () => document.getElementById("main");

  function begin() {
    prepare();
    document.addEventListener("click", copy);
    document.addEventListener("click", print);
    document.addEventListener("submit", busy);
    document.addEventListener("visibilitychange", look);
    window.addEventListener("online", look);
    window.addEventListener("beforeprint", unfold);
    // Who comes back by the browser's button finds the page as it was left.
    window.addEventListener("pageshow", (event) => event.persisted && rest());
    window.setInterval(count, 1000);
    schedule(OFTEN);
  }

  function prepare() {
    ahead = Date.parse(main().dataset.now) - Date.now();
    for (const time of main().querySelectorAll("time[data-local]")) {
      time.textContent = new Date(time.dateTime).toLocaleString("en-GB", {
        day: "numeric", month: "long", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
      });
    }
    count();
  }

  // --- the status

  function schedule(wait) {
    window.clearTimeout(timer);
    if (!("final" in main().dataset)) timer = window.setTimeout(ask, wait);
  }

  function look() {
    if (!document.hidden) {
      pause = OFTEN;
      schedule(0);
    }
  }

  async function ask() {
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await get(main().dataset.status);
      const { data } = await answer.json();
      if (data.version !== main().dataset.version) await refresh();
      else if (data.is_final) main().dataset.final = "";
      pause = OFTEN;
    } catch (error) {
      pause = Math.min(Math.max(2 * pause, error.wait || 0), SELDOM);
    } finally {
      asking = false;
      schedule(pause);
    }
  }

  async function get(address) {
    const given = new AbortController();
    const late = window.setTimeout(() => given.abort(), PATIENCE);
    const answer = await fetch(address, { cache: "no-store", signal: given.signal });
    window.clearTimeout(late);
    if (!answer.ok) {
      const error = new Error(answer.statusText);
      error.wait = 1000 * Number(answer.headers.get("Retry-After"));
      throw error;
    }
    return answer;
  }

  // --- another rendering

  async function refresh() {
    const answer = await get(main().dataset.page);
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = found.getElementById("main");
    const focused = main().contains(document.activeElement) && document.activeElement;
    main().replaceWith(document.adoptNode(next));
    document.title = found.title;
    prepare();
    if (focused) refocus(focused.id);
    document.getElementById("announcement").textContent = next.dataset.announcement;
  }

  function refocus(id) {
    const again = id && main().querySelector(`#${CSS.escape(id)}`);
    (again || document.getElementById("headline")).focus({ preventScroll: !!again });
  }

  // --- what ticks, and what is pressed

  function count() {
    const now = Date.now() + ahead;
    for (const time of main().querySelectorAll("time[data-countdown]")) {
      const left = Math.max(0, Math.ceil((Date.parse(time.dateTime) - now) / 1000));
      const seconds = String(left % 60).padStart(2, "0");
      time.textContent = `${Math.floor(left / 60)}:${seconds}`;
    }
  }

  async function copy(event) {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = button.dataset.done;
      document.getElementById("announcement").textContent = button.dataset.done;
      window.setTimeout(() => { button.textContent = label; }, 2000);
    } catch {
      // Browsers keep the clipboard from pages without TLS: select it for the person.
      source.closest("details").open = true;
      window.getSelection().selectAllChildren(source);
    }
  }

  function print(event) {
    if (event.target.closest("[data-print]")) window.print();
  }

  // What is folded would be missing on paper.
  function unfold() {
    for (const folded of main().querySelectorAll("details.proof")) folded.open = true;
  }

  function busy(event) {
    const button = event.target.querySelector("button");
    if (button.getAttribute("aria-busy")) event.preventDefault();
    button.setAttribute("aria-busy", "true");
  }

  function rest() {
    for (const button of main().querySelectorAll("[aria-busy]")) {
      button.removeAttribute("aria-busy");
    }
    look();
  }
})();
