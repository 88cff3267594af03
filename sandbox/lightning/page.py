"""The page for developers: the state, and forms that change it."""

import time
from functools import partial
from urllib.parse import parse_qs

from sandbox.common.control import Refused, match_command
from sandbox.common.fields import BadField, Fields
from sandbox.common.html.files import PREFIX, file
from sandbox.common.html.form import read
from sandbox.common.html.responses import html, plain, redirect, respond
from sandbox.common.html.templates import environment
from sandbox.common.http import Request, Response
from sandbox.lightning.behaviours import KINDS, LOOKUPS, describe
from sandbox.lightning.commands import COMMANDS, MESSAGES, PRICE_FAULTS, execute
from sandbox.lightning.default_wallets import PLATFORM
from sandbox.lightning.stack import Lightning
from sandbox.lightning.views import differences, invoice_state
from sandbox.nostr.faults import PLACES, RelayFault
from sandbox.prices.feed import SOURCES
from sandbox.wallets import Renewal, Wallet


def handle(lightning: Lightning, request: Request) -> Response:
    """Handle a request for the page; never raises."""
    return respond(request, partial(_answer, lightning))


def sats(msat: int) -> str:
    """Format an amount: `21,000 sats`."""
    whole, rest = divmod(msat, 1_000)
    return f"{whole:,}{f'.{rest:03}'.rstrip('0') if rest else ''} sats"


def budget(wallet: Wallet) -> str:
    """Describe what is spent of a wallet's budget; empty without one."""
    terms = wallet.connection.terms
    if terms.budget_msat is None:
        return ""
    spent = wallet.ledger.spent(wallet.name, wallet.connection.spender)
    period = "" if terms.renewal is Renewal.NEVER else f", {terms.renewal}"
    return f"{sats(spent)} of {sats(terms.budget_msat)}{period}"


def _answer(lightning: Lightning, request: Request) -> Response:
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
    return html(200, _page(lightning, notice=MESSAGES.get(command, "")))


def _act(lightning: Lightning, request: Request, path: str) -> Response:
    """Run a form's command. Forms know only POST: a field `method` overrides it."""
    form = dict(read(request.body.decode(errors="replace")))
    command = match_command(COMMANDS, form.pop("method", "POST"), path)
    if command is None:
        return plain(404, "There is no such form.")
    try:
        execute(command, lightning, Fields(form, command.fields, form=True))
    except (BadField, Refused) as error:
        code = error.status if isinstance(error, Refused) else 400
        message = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return html(code, _page(lightning, error=message))
    # A redirect, so that reloading the page does not run the command again.
    return redirect(f"/?done={command.name}")


def _page(lightning: Lightning, *, notice: str = "", error: str = "") -> str:
    with lightning.lock:
        return PAGE.render(
            lightning=lightning, now=int(time.time()), notice=notice, error=error
        )


PAGE = environment(
    "sandbox.lightning",
    ANY_SOURCE={"": "all", **{source: source for source in SOURCES}},
    BEHAVIOURS={word: kind.description for word, kind in KINDS.items()},
    LOOKUPS=[*LOOKUPS],
    NEWEST_INVOICES=50,
    NEWEST_REQUESTS=10,
    PLACES=[*PLACES],
    PLATFORM=PLATFORM,
    PRICE_FAULTS=PRICE_FAULTS,
    RELAY_FAULTS=RelayFault.KINDS,
    # The default of a form comes first.
    RENEWALS=sorted(Renewal, key=lambda renewal: renewal is not Renewal.NEVER),
    SOURCES=SOURCES,
    budget=budget,
    describe=describe,
    differences=differences,
    invoice_state=invoice_state,
    sats=sats,
).get_template("status.html")
