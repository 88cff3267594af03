"""The page: relays, their members, active faults."""

from functools import partial

from sandbox.common.html.files import PREFIX, file
from sandbox.common.html.responses import html, plain, respond
from sandbox.common.html.templates import environment
from sandbox.common.http import Request, Response
from sandbox.common.nostr import short_npub
from sandbox.zooid.configs import Config
from sandbox.zooid.zooid import Zooid


def serves(request: Request) -> bool:
    """Return whether the request is for the page, not for the API."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    return home or request.path.startswith(PREFIX)


def handle(zooid: Zooid, request: Request) -> Response:
    """Handle a request for the page; never raises."""
    return respond(request, partial(_answer, zooid))


def enabled(config: Config) -> list[str]:
    """Return the names of the parts that a relay has enabled."""
    parts = {name: part for name, part in config.items() if isinstance(part, dict)}
    return [name for name, part in parts.items() if part.get("enabled") is True]


def _answer(zooid: Zooid, request: Request) -> Response:
    if request.path == "/":
        page = PAGE.render(relays=zooid.state(), faults=zooid.faults.active())
        return html(200, page)
    if found := file(request.path.removeprefix(PREFIX)):
        return found
    return plain(404, "There is no such page.")


PAGE = environment(
    "sandbox.zooid", enabled=enabled, short_npub=short_npub
).get_template("relays.html")
