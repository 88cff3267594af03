"""The page: relays, their members, active faults."""

import logging
from typing import Any

from sandbox.common.access import denial_reason
from sandbox.common.html.elements import Child, Html, document, join, tag
from sandbox.common.html.files import PREFIX, file
from sandbox.common.html.responses import html, plain, refusal
from sandbox.common.http import Request, Response
from sandbox.common.nostr import short_npub
from sandbox.stripe.pages.table import Row, section, table
from sandbox.stripe.pages.text import badge
from sandbox.zooid.api import Zooid
from sandbox.zooid.configs import Config

logger = logging.getLogger(__name__)
TITLE = "Sandbox zooid"
#: The number of members shown per relay.
MAX_MEMBERS = 10


def serves(request: Request) -> bool:
    """Return whether the request is for the page, not for the API."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    return home or request.path.startswith(PREFIX)


def handle(zooid: Zooid, request: Request) -> Response:
    """Handle a request for the page; never raises."""
    try:
        return refusal(request, denial_reason(request)) or _answer(zooid, request)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return plain(500, "Internal error of the sandbox; see its log.")


def _answer(zooid: Zooid, request: Request) -> Response:
    name = request.path.removeprefix(PREFIX)
    if request.path == "/":
        return html(200, _page(zooid))
    if found := file(name):
        return found
    return plain(404, "There is no such page.")


def _page(zooid: Zooid) -> Html:
    heading = tag("h1", tag("a", TITLE, href="/"))
    about = tag("p", "Stores the configuration of relays, but serves none.")
    banner = tag("header", tag("div", heading, class_="top"), about, class_="banner")
    sections = tag("div", _relays(zooid), _faults(zooid), class_="sections")
    body = join((banner, tag("main", sections, id="content")))
    return document(TITLE, "lightning.css", body)


def _relays(zooid: Zooid) -> Html:
    rows = [
        _relay(relay_id, config, members)
        for relay_id, (config, members) in zooid.state().items()
    ]
    columns = ("Relay", "Host", "State", "Enabled", "Members")
    return section("relays", "Relays", table("Relays", columns, rows, "No relays."))


def _relay(relay_id: str, config: Config, members: list[str]) -> Row:
    pubkeys: list[Child] = [
        tag("div", short_npub(pubkey)) for pubkey in members[:MAX_MEMBERS]
    ]
    more = len(members) - MAX_MEMBERS
    return Row(
        relay_id,
        (
            (tag("div", config.get("info", {}).get("name", "")), relay_id),
            config["host"],
            badge("inactive" if config.get("inactive") else "active"),
            ", ".join(name for name, part in config.items() if _is_enabled(part)),
            [*pubkeys, f"and {more} more" if more > 0 else None],
        ),
    )


def _is_enabled(part: Any) -> bool:
    return isinstance(part, dict) and part.get("enabled") is True


def _faults(zooid: Zooid) -> Html:
    rows = [
        Row(
            f"fault-{number}",
            (
                f"{fault.kind}, {fault.when} processing {fault.method or 'any method'}",
                "until cleared" if fault.times is None else f"{fault.times_left} left",
            ),
        )
        for number, fault in enumerate(zooid.faults.active())
    ]
    return section(
        "faults",
        "Active faults",
        table("Faults", ("Fault", "Times"), rows, "No faults."),
        wide=False,
    )
