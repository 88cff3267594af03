"""Wallets for tests and development: `with running_wallets(url) as wallets: …`."""

import json
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.common.secrets import track
from sandbox.wallets.behaviour import Protocol
from sandbox.wallets.connections import Terms
from sandbox.wallets.database import Database
from sandbox.wallets.ledger import Invoice, Ledger
from sandbox.wallets.relays import RELAY_TIMEOUT, Network
from sandbox.wallets.schedule import Schedule
from sandbox.wallets.service import Service
from sandbox.wallets.wallet import Wallet

UNLIMITED = Terms()
NIP47 = Protocol()


class Wallets:
    """All wallets, their ledger, and the thread that serves them.

    With the same seed a wallet of the same name has the same URL. A state file restores
    balances, invoices and connections, and without a seed the URLs; behaviours and
    scheduled actions are lost.
    """

    def __init__(
        self,
        relays: Sequence[str],
        *,
        seed: str | None = None,
        state: Path | None = None,
        protocol: Protocol = NIP47,
        timeout: float = RELAY_TIMEOUT,
    ) -> None:
        """Load the state file, if there is one. Raises UnreadableState.

        `timeout` is in seconds, for a relay's answer; `protocol` is that of new
        wallets.
        """
        self.relays = tuple(relays)
        self.protocol = protocol
        self.schedule = Schedule()
        self._database = Database(state)
        self.ledger = Ledger(self._database)
        self.ledger.listeners.append(self._notify_wallets)
        self._seed = seed if seed is not None else self._own_seed()
        self._creating = threading.Lock()
        self._by_pubkey: dict[str, Wallet] = {}
        self._by_name: dict[str, Wallet] = {}
        self._network = Network(
            wallets=self._by_pubkey,
            schedule=self.schedule,
            receive=lambda *arguments: self._service.receive(*arguments),
            timeout=timeout,
        )
        self._service = Service(
            database=self._database, schedule=self.schedule, send=self._network.send
        )

    def __getitem__(self, name: str) -> Wallet:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Wallet]:
        return iter(list(self._by_name.values()))

    @property
    def failures(self) -> list[BaseException]:
        """Errors inside the wallets: bugs of the sandbox."""
        return self._network.failures

    def start(self) -> None:
        """Serve the wallets of the state. Raises TimeoutError without a relay."""
        rows = self._database.rows("SELECT name, relays FROM wallets ORDER BY rowid")
        for name, relays in rows:
            self._add(name, json.loads(relays) if relays else self.relays, UNLIMITED)
        self._network.start()
        own = [url for wallet in self for url in wallet.relays]
        self._network.dial([*self.relays, *own])
        self._network.wait_connected(self.relays)

    def stop(self) -> None:
        """End the thread; scheduled actions are lost."""
        self._network.stop()
        self._database.close()

    def create(
        self,
        name: str,
        *,
        balance_msat: int = 0,
        terms: Terms = UNLIMITED,
        relays: Sequence[str] | None = None,
    ) -> Wallet:
        """Return a new wallet with a connection, online on its relays.

        An existing one, for instance after a restart, is returned unchanged. Raises
        TimeoutError if one of its own relays cannot be reached.
        """
        self._create(name, balance_msat, terms, relays)
        self._network.dial(relays or ())
        self._network.wait_connected(relays or ())
        self._network.resubscribe()
        return self[name]

    def create_many(
        self, names: Sequence[str], *, balance_msat: int = 0
    ) -> list[Wallet]:
        """Return a new wallet for each name; faster than one by one."""
        for name in names:
            self._create(name, balance_msat, UNLIMITED, None)
        self._network.resubscribe()
        return [self[name] for name in names]

    def _create(
        self, name: str, msat: int, terms: Terms, relays: Sequence[str] | None
    ) -> None:
        # The lock makes concurrent creations of one name return the same wallet.
        with self._creating:
            if name in self._by_name:
                return
            self.ledger.open_account(name, balance_msat=msat)
            own = None if relays is None else json.dumps(list(relays))
            with self._database.transaction() as db:
                db.execute("INSERT INTO wallets VALUES (?, ?)", (name, own))
            self._add(name, self.relays if relays is None else relays, terms)

    def _add(self, name: str, relays: Sequence[str], terms: Terms) -> None:
        wallet = Wallet(
            name,
            seed=self._seed,
            relays=relays,
            terms=terms,
            protocol=self.protocol,
            ledger=self.ledger,
            database=self._database,
            subscriptions=self._network,
        )
        self._by_name[name] = self._by_pubkey[wallet.pubkey] = wallet

    def _own_seed(self) -> str:
        """Return a random seed, stored with the state."""
        with self._database.transaction() as db:
            row = ("seed", secrets.token_hex(32))
            db.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", row)
        query = "SELECT value FROM settings WHERE name = 'seed'"
        return track(str(self._database.rows(query)[0][0]))

    def _notify_wallets(self, invoice: Invoice) -> None:
        for name, type in (
            (invoice.owner, "payment_received"),
            (invoice.payer, "payment_sent"),
        ):
            if name in self._by_name:
                self._service.notify(self._by_name[name], type, invoice)


@contextmanager
def running_wallets(*relays: str, **options: Any) -> Iterator[Wallets]:
    """Serve wallets on these relays for the length of the block.

    The options are those of Wallets. Raises TimeoutError if a relay cannot be reached,
    and at the end the first error inside the wallets, which is a bug of the sandbox.
    """
    wallets = Wallets(relays, **options)
    try:
        wallets.start()
        yield wallets
    finally:
        wallets.stop()
    if wallets.failures:
        raise wallets.failures[0]
