"""Routes of the page and its forms."""

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from sandbox.common.access import denial_reason
from sandbox.common.control import Refused, match_command
from sandbox.common.fields import BadField
from sandbox.common.html.files import PREFIX, file
from sandbox.common.html.form import read
from sandbox.common.html.responses import html, plain, redirect, refusal
from sandbox.common.http import Request, Response
from sandbox.lightning.commands import COMMANDS, MESSAGES, execute
from sandbox.lightning.pages import status

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning

logger = logging.getLogger(__name__)


def handle(lightning: "Lightning", request: Request) -> Response:
    """Handle a request for the page; never raises."""
    try:
        return refusal(request, denial_reason(request)) or _answer(lightning, request)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return plain(500, "Internal error of the sandbox; see its log.")


def _answer(lightning: "Lightning", request: Request) -> Response:
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST" and request.path.startswith(PREFIX):
        return _act(lightning, request, name)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "This page accepts only GET.", {"Allow": "GET, HEAD"})
    if found := file(name):
        return found
    if request.path != "/":
        return plain(404, "There is no such page.")
    command = parse_qs(request.query).get("done", [""])[-1]
    return html(200, status.page(lightning, message=MESSAGES.get(command, "")))


def _act(lightning: "Lightning", request: Request, path: str) -> Response:
    """Run a form's command. Forms know only POST: a field `method` overrides it."""
    form = dict(read(request.body.decode(errors="replace")))
    matched = match_command(COMMANDS, form.pop("method", "POST"), path)
    if matched is None:
        return plain(404, "There is no such form.")
    try:
        execute(matched, lightning, matched.read(form, form=True))
    except (BadField, Refused) as error:
        code = error.status if isinstance(error, Refused) else 400
        message = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return html(code, status.page(lightning, error=message))
    # A redirect, so that reloading the page does not run the command again.
    return redirect(f"/?done={matched.command.name}")
