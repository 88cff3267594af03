"""Wallets for tests and development: `with running_wallets(url) as wallets: …`."""

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.common.secrets import track
from sandbox.wallets.behaviour import Protocol
from sandbox.wallets.connections import Terms
from sandbox.wallets.database import Database
from sandbox.wallets.ledger import Invoice, Ledger
from sandbox.wallets.network import RELAY_TIMEOUT, Network
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
        relay: str,
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
        self.relay = relay
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
            relay,
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
        for (name,) in self._database.rows("SELECT name FROM wallets ORDER BY rowid"):
            self._add(name, UNLIMITED)
        self._network.start()

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
        protocol: Protocol | None = None,
        online: bool = True,
    ) -> Wallet:
        """Return a new wallet with a connection.

        An existing one, for instance after a restart, is returned unchanged. One that
        is not `online` has to go online before it does anything.
        """
        self._create(name, balance_msat, terms, online, protocol)
        self._network.resubscribe()
        return self[name]

    def create_many(
        self, names: Sequence[str], *, balance_msat: int = 0
    ) -> list[Wallet]:
        """Return a new wallet for each name; faster than one by one."""
        for name in names:
            self._create(name, balance_msat)
        self._network.resubscribe()
        return [self[name] for name in names]

    def _create(
        self,
        name: str,
        msat: int,
        terms: Terms = UNLIMITED,
        online: bool = True,
        protocol: Protocol | None = None,
    ) -> None:
        # The lock makes concurrent creations of one name return the same wallet.
        with self._creating:
            if name in self._by_name:
                return
            self.ledger.open_account(name, balance_msat=msat)
            with self._database.transaction() as db:
                db.execute("INSERT INTO wallets (name) VALUES (?)", (name,))
            self._add(name, terms, online, protocol)

    def _add(
        self,
        name: str,
        terms: Terms,
        online: bool = True,
        protocol: Protocol | None = None,
    ) -> None:
        wallet = Wallet(
            name,
            seed=self._seed,
            relay=self.relay,
            terms=terms,
            protocol=protocol or self.protocol,
            ledger=self.ledger,
            database=self._database,
            subscriptions=self._network,
        )
        wallet.is_listening = online
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
def running_wallets(
    relay: str,
    *,
    seed: str | None = None,
    state: Path | None = None,
    protocol: Protocol = NIP47,
    timeout: float = RELAY_TIMEOUT,
) -> Iterator[Wallets]:
    """Serve wallets on a relay for the length of the block.

    The options are those of Wallets. Raises TimeoutError if it cannot be reached,
    and at the end the first error inside the wallets, which is a bug of the sandbox.
    """
    wallets = Wallets(relay, seed=seed, state=state, protocol=protocol, timeout=timeout)
    try:
        wallets.start()
        yield wallets
    finally:
        wallets.stop()
    if wallets.failures:
        raise wallets.failures[0]
