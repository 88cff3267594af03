"""The commands of the control API and the page's forms, and how they are run."""

import re
from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from operator import attrgetter
from typing import Any, NamedTuple, get_args

from sandbox.common.control import Command, Commands, Refused
from sandbox.common.fields import BadField, Fields
from sandbox.lightning import views
from sandbox.lightning.behaviours import DENIABLE, KINDS, LOOKUPS, set_protocol
from sandbox.lightning.stack import Lightning
from sandbox.nostr import SandboxRelay
from sandbox.nostr.faults import RelayFault
from sandbox.prices.feed import SOURCES, Kind, PriceFeed
from sandbox.wallets import NotPaid, Renewal, Terms, Wallet
from sandbox.wallets.messages import INFO
from sandbox.wallets.relay_connection import RelayRefused

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
CODE = re.compile(r"[A-Z][A-Z_]{0,63}", re.ASCII)
CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)
#: Without the faults that need values no form can hold.
PRICE_FAULTS: tuple[Kind, ...] = tuple(
    kind for kind in get_args(Kind) if kind not in ("body", "headers")
)
COMMANDS: dict[tuple[str, str], Command] = {}
VIEWS: Commands = {
    ("GET", "state"): Command(lambda stack, _: views.serialize_state(stack)),
    ("GET", "wallets"): Command(lambda stack, _: views.list_wallets(stack)),
    ("GET", r"wallets/([\w-]+)"): Command(
        lambda stack, _, id: views.get_wallet(stack, id)
    ),
    ("GET", "invoices"): Command(lambda stack, _: views.list_invoices(stack)),
    ("GET", "prices"): Command(lambda stack, _: views.serialize_prices(stack.prices)),
    ("GET", "relay"): Command(lambda stack, _: views.serialize_relay(stack.relay)),
}
Act = Callable[[Any, Fields], Any]


class Part(NamedTuple):
    """Part of the sandbox that commands change: how to find and to serialize it."""

    find: Callable[..., Any]
    serialize: Callable[[Any], Any]

    def command(
        self, path: str, message: str, *fields: str, method: str = "POST"
    ) -> Callable[[Act], Act]:
        """Add a function to COMMANDS; it is called with the part and the fields.

        The command's result is the function's, or the serialized part.
        """

        def add(act: Act) -> Act:
            @wraps(act)
            def run(lightning: Lightning, values: Fields, *ids: str) -> Any:
                part = self.find(lightning, *ids)
                result = act(part, values)
                return self.serialize(part) if result is None else result

            COMMANDS[method, path] = Command(run, fields, message)
            return act

        return add


ALL = Part(lambda lightning: lightning, views.serialize_state)
WALLET = Part(views.find_wallet, views.serialize_wallet)
SERVICE = Part(
    lambda lightning, name: (lightning.relay, views.find_wallet(lightning, name)),
    lambda service: views.serialize_wallet(service[1]),
)
PRICES = Part(attrgetter("prices"), views.serialize_prices)
RELAY = Part(attrgetter("relay"), views.serialize_relay)


@ALL.command("wallets", "The wallet is created.", "name", "sats", "budget", "renewal")
def create_wallet(lightning: Lightning, fields: Fields) -> Any:
    """Create a wallet with sats, and optionally a budget in sats."""
    name = fields.text("name")
    if not NAME.fullmatch(name):
        raise BadField("name must be up to 40 characters of a-z, 0-9, - and _")
    if name in {wallet.name for wallet in lightning.wallets}:
        raise Refused(409, f"wallet {name} already exists")
    msat = fields.integer("sats", 0) * 1_000
    terms = _terms(fields)
    wallet = lightning.wallets.create(name, balance_msat=msat, terms=terms)
    return views.serialize_wallet(wallet)


@WALLET.command(
    r"wallets/([\w-]+)/behaviour",
    "The wallet's behaviour is changed.",
    *("kind", "seconds", "code"),
)
def behave(wallet: Wallet, fields: Fields) -> None:
    """Set a wallet's behaviour to one of KINDS, with its seconds and code."""
    kind = KINDS[fields.choice("kind", KINDS)]
    seconds = fields.seconds("seconds", kind.seconds)
    code = fields.text("code", kind.code)
    if code and not CODE.fullmatch(code):
        raise BadField("code must be a NIP-47 error code such as INTERNAL")
    wallet.behaviour = kind.make(seconds, code)


@WALLET.command(
    r"wallets/([\w-]+)/lookups", "The wallet's answers are changed.", "kind"
)
def answer_lookups(wallet: Wallet, fields: Fields) -> None:
    """Answer look-ups of invoices in one of the ways in LOOKUPS."""
    wallet.lookup_behaviour = LOOKUPS[fields.choice("kind", LOOKUPS)]


@SERVICE.command(
    r"wallets/([\w-]+)/protocol",
    "The wallet's protocol is changed.",
    *("clock_skew", "requests_per_minute", "announces", "error_field", *DENIABLE),
)
def change_protocol(service: tuple[SandboxRelay, Wallet], fields: Fields) -> None:
    """Set how a wallet differs from NIP-47; what is not given is as it says."""
    relay, wallet = service
    set_protocol(wallet, fields)
    if not wallet.protocol.announces:
        relay.forget(INFO, wallet.pubkey)


@WALLET.command(r"wallets/([\w-]+)/offline", "The wallet is offline.")
def go_offline(wallet: Wallet, fields: Fields) -> None:
    """Stop a wallet from receiving requests."""
    wallet.go_offline()


@WALLET.command(r"wallets/([\w-]+)/online", "The wallet is online.", "heeds_expiration")
def come_online(wallet: Wallet, fields: Fields) -> None:
    """Let a wallet receive again, and run the requests that its relay stored."""
    heeds_expiration = fields.optional(fields.flag, "heeds_expiration")
    wallet.go_online(heeds_expiration=heeds_expiration)


@WALLET.command(
    r"wallets/([\w-]+)/budget", "The wallet's budget is changed.", "budget", "renewal"
)
def limit(wallet: Wallet, fields: Fields) -> None:
    """Set the budget of a wallet's connection in sats; without one, remove it."""
    terms = _terms(fields)
    wallet.connection.limit(terms.budget_msat, terms.renewal)


@WALLET.command(r"wallets/([\w-]+)/deposit", "The sats are added.", "sats")
def deposit(wallet: Wallet, fields: Fields) -> None:
    """Add sats to a wallet's balance."""
    msat = fields.integer("sats", minimum=1) * 1_000
    wallet.ledger.deposit(wallet.name, msat)


@WALLET.command(r"wallets/([\w-]+)/pay", "The invoice is paid.", "bolt11")
def pay(wallet: Wallet, fields: Fields) -> Any:
    """Pay an invoice by hand; the wallet's behaviour does not matter."""
    return views.serialize_invoice(wallet.pay(fields.text("bolt11")))


@WALLET.command(
    r"wallets/([\w-]+)/invoices",
    "The invoice is created, see below.",
    *("sats", "expiry", "description"),
)
def issue(wallet: Wallet, fields: Fields) -> Any:
    """Create an invoice by hand."""
    invoice = wallet.issue(
        fields.integer("sats", minimum=1) * 1_000,
        expiry=fields.integer("expiry", 3_600, minimum=1),
        description=fields.text("description", ""),
    )
    return views.serialize_invoice(invoice)


@PRICES.command("prices", "The price is set.", "price", "currency", "source")
def set_price(prices: PriceFeed, fields: Fields) -> None:
    """Set the price of one bitcoin, at one source or at all."""
    currency = fields.text("currency", "usd").lower()
    if not CURRENCY.fullmatch(currency):
        raise BadField("currency must be a code of three letters")
    source = fields.optional(fields.choice, "source", SOURCES)
    prices.set_price(fields.positive("price"), currency, source=source)


@PRICES.command(
    "prices/faults",
    "The price fault is active.",
    *("kind", "sources", "seconds", "factor"),
)
def add_price_fault(prices: PriceFeed, fields: Fields) -> None:
    """Make some sources faulty, or all, until the faults are cleared."""
    sources = fields.texts("sources")
    if unknown := [source for source in sources if source not in SOURCES]:
        raise BadField(f"unknown source: {', '.join(unknown)}")
    prices.fault(
        fields.choice("kind", PRICE_FAULTS),
        *sources,
        seconds=fields.seconds("seconds", 3_600),
        factor=fields.positive("factor", Decimal(2)),
    )


@PRICES.command("prices/faults", "The price faults are cleared.", method="DELETE")
def clear_price_faults(prices: PriceFeed, fields: Fields) -> None:
    """Clear the faults of all sources."""
    prices.clear_faults()


@PRICES.command("prices/reset", "The prices are reset.")
def reset_prices(prices: PriceFeed, fields: Fields) -> None:
    """Restore the initial prices, without faults."""
    prices.reset()


@RELAY.command("relay/offline", "The relay is offline.")
def relay_offline(relay: SandboxRelay, fields: Fields) -> None:
    """Break all connections and refuse new ones."""
    relay.go_offline()


@RELAY.command("relay/online", "The relay is online.")
def relay_online(relay: SandboxRelay, fields: Fields) -> None:
    """Listen again."""
    relay.go_online()


@RELAY.command("relay/drop", "All connections are broken.")
def drop_connections(relay: SandboxRelay, fields: Fields) -> None:
    """Break all connections; clients may reconnect."""
    relay.drop_connections()


@RELAY.command("relay/release", "The held messages are released.")
def release(relay: SandboxRelay, fields: Fields) -> Any:
    """Send what faults hold back."""
    return {**views.serialize_relay(relay), "released": relay.release()}


@RELAY.command("relay/settings", "The relay is changed.", *views.RELAY_SETTINGS)
def set_relay(relay: SandboxRelay, fields: Fields) -> None:
    """Change the relay's settings."""
    relay.change_settings(**{name: fields.flag(name) for name in fields.values})


@RELAY.command("relay/faults", "The relay fault is active.", *RelayFault.names())
def add_relay_fault(relay: SandboxRelay, fields: Fields) -> Any:
    """Add a fault for matching messages; the result has its `id`."""
    id = relay.add_fault(RelayFault.read(fields)).id
    return {**views.serialize_relay(relay), "id": id}


@RELAY.command("relay/faults", "The relay faults are cleared.", method="DELETE")
def clear_relay_faults(relay: SandboxRelay, fields: Fields) -> None:
    """Clear the relay's faults; what they delay or hold is sent at once."""
    relay.clear_faults()


@ALL.command("faults", "All faults are cleared.", method="DELETE")
def clear_all_faults(lightning: Lightning, fields: Fields) -> Any:
    """Clear the faults of the relay and of the price sources."""
    lightning.relay.clear_faults()
    lightning.prices.clear_faults()
    return views.serialize_prices(lightning.prices)


#: The page's message after a command, by the command's name.
MESSAGES = {command.name: command.message for command in COMMANDS.values()}


def execute(command: Command, lightning: Lightning, fields: Fields) -> Any:
    """Run the command and return its result. Raises Refused or BadField."""
    try:
        with lightning.lock:
            return command.run(lightning, fields)
    except NotPaid as exc:
        raise Refused(402, f"not paid, {exc.code}: {exc}") from exc
    except (OSError, RelayRefused) as exc:
        raise Refused(504, "the relay does not respond") from exc


def _terms(fields: Fields) -> Terms:
    renewal = Renewal(fields.choice("renewal", list(Renewal), Renewal.NEVER))
    if "budget" not in fields:
        return Terms()
    return Terms(budget_msat=fields.integer("budget") * 1_000, renewal=renewal)
