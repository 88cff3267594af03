"""The page: wallets with their forms, then invoices, prices, the relay and faults."""

import time
from typing import TYPE_CHECKING

from sandbox.common.html.elements import Child, Html, document, join, tag
from sandbox.lightning.pages import traffic, wallets
from sandbox.stripe.pages.text import moment, plural

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning

TITLE = "Sandbox Lightning"
SECTIONS = {
    "wallets": "Wallets",
    "invoices": "Invoices and payments",
    "prices": "Prices",
    "relay": "Relay",
    "faults": "Faults",
}


def page(lightning: "Lightning", *, message: str = "", error: str = "") -> Html:
    """Return the page, with the message or the error of the last form."""
    with lightning.lock:
        body = join(
            (
                tag("a", "Skip to the content", href="#content", class_="skip"),
                _banner(lightning, message, error),
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


def _banner(lightning: "Lightning", message: str, error: str) -> Html:
    as_of = tag("p", "As of ", moment(int(time.time())), " UTC", id="as-of")
    heading = tag("h1", tag("a", TITLE, href="/"))
    links = [
        tag("li", tag("a", title, href=f"#{name}")) for name, title in SECTIONS.items()
    ]
    return tag(
        "header",
        tag("div", heading, as_of, class_="top"),
        tag("div", _messages(lightning, message, error), class_="clock"),
        tag("nav", tag("ul", links), aria_label="Sections"),
        class_="banner",
    )


def _messages(lightning: "Lightning", message: str, error: str) -> Html:
    status = tag(
        "div",
        tag("p", message, class_="notice") if message else None,
        tag("p", error, class_="error", role="alert") if error else None,
        id="message",
        role="status",
    )
    return tag(
        "div",
        tag("p", "Play money: sats move only between the wallets below."),
        tag(
            "div",
            tag("p", _warnings(lightning), id="alarms", aria_live="polite"),
            status,
            class_="news",
        ),
    )


def _warnings(lightning: "Lightning") -> Child:
    count = len(lightning.relay.faults()) + len(lightning.prices.faults)
    offline = (
        None if lightning.relay.online else _warning("relay", "the relay is offline")
    )
    faults = _warning("faults", f"{plural(count, 'fault')} active") if count else None
    failures = len(lightning.wallets.failures)
    failed = _warning("wallets", f"{plural(failures, 'failure')}, see the log")
    return [offline, faults, failed if failures else None]


def _warning(section: str, text: str) -> Html:
    return tag("a", text, href=f"#{section}", class_="badge warn")
