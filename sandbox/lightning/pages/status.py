"""The page: the wallets with what they can be told, then all else."""

import time
from typing import TYPE_CHECKING

from sandbox.lightning.pages import traffic, wallets
from sandbox.stripe.pages.html import Child, Html, document, join, tag
from sandbox.stripe.pages.text import moment, plural

if TYPE_CHECKING:
    from sandbox.lightning.sandbox import Lightning

TITLE = "Sandbox Lightning"
CHAPTERS = {
    "wallets": "Wallets",
    "invoices": "Invoices and payments",
    "prices": "Prices",
    "relay": "Relay",
    "faults": "Faults",
}


def page(lightning: "Lightning", *, said: str = "", error: str = "") -> Html:
    """Return the page, with what the last form did or why it did not."""
    with lightning.lock:
        body = join(
            (
                tag("a", "Skip to the content", href="#content", class_="skip"),
                _banner(lightning, said, error),
                tag("main", _sections(lightning), id="content"),
            )
        )
    return document(TITLE, "lightning.css", body, script="status.js")


def _sections(lightning: "Lightning") -> Html:
    return tag(
        "div",
        wallets.wallets(lightning),
        traffic.invoices(lightning),
        traffic.prices(lightning),
        traffic.relay(lightning),
        traffic.faults(lightning),
        class_="sections",
    )


def _banner(lightning: "Lightning", said: str, error: str) -> Html:
    as_of = tag("p", "As of ", moment(int(time.time())), " UTC", id="as-of")
    heading = tag("h1", tag("a", TITLE, href="/"))
    links = [
        tag("li", tag("a", title, href=f"#{name}")) for name, title in CHAPTERS.items()
    ]
    return tag(
        "header",
        tag("div", heading, as_of, class_="top"),
        tag("div", _news(lightning, said, error), class_="clock"),
        tag("nav", tag("ul", links), aria_label="Sections"),
        class_="banner",
    )


def _news(lightning: "Lightning", said: str, error: str) -> Html:
    message = tag(
        "div",
        tag("p", said, class_="notice") if said else None,
        tag("p", error, class_="error", role="alert") if error else None,
        id="message",
        role="status",
    )
    return tag(
        "div",
        tag("p", "Its sats move between the wallets below, and are worth nothing."),
        tag(
            "div",
            tag("p", _alarms(lightning), id="alarms", aria_live="polite"),
            message,
            class_="news",
        ),
    )


def _alarms(lightning: "Lightning") -> Child:
    count = len(lightning.relay.faults()) + len(lightning.prices.faults)
    offline = (
        None if lightning.relay.online else _alarm("relay", "the relay is offline")
    )
    faults = _alarm("faults", f"{plural(count, 'fault')} in force") if count else None
    failures = len(lightning.wallets.failures)
    failed = _alarm("wallets", f"{plural(failures, 'failure')}, see the log")
    return [offline, faults, failed if failures else None]


def _alarm(chapter: str, text: str) -> Html:
    return tag("a", text, href=f"#{chapter}", class_="badge warn")
