"""Accounts, invoices, and payments that move sats exactly once."""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, fields
from sqlite3 import Connection

from sandbox.wallets.database import Database

#: LDK accepts payments for two hours after an invoice expired.
LATE_SECONDS = 7_200


class NotPaid(Exception):
    """The payment failed and nothing was moved; `code` is the NIP-47 error code."""

    code = "PAYMENT_FAILED"


class UnknownInvoice(NotPaid):
    """No account of this ledger issued the invoice."""


class InvoiceExpired(NotPaid):
    """The payee no longer accepts a payment."""


class AlreadyPaid(NotPaid):
    """The payment hash was already paid."""

    # As Alby Hub does. INTERNAL says nothing about whether money was moved.
    code = "INTERNAL"


class InsufficientBalance(NotPaid):
    """The payer's balance is lower than the amount."""

    code = "INSUFFICIENT_BALANCE"


class QuotaExceeded(NotPaid):
    """The amount exceeds the client's budget in this period."""

    code = "QUOTA_EXCEEDED"


@dataclass(frozen=True)
class Invoice:
    """An invoice of an account, with the columns of its table; times are Unix times."""

    payment_hash: str
    bolt11: str
    owner: str
    amount_msat: int
    description: str
    created_at: int
    expires_at: int
    preimage: str = field(repr=False)
    settled_at: int | None = None
    payer: str | None = None


@dataclass(frozen=True)
class Spender:
    """A client of the payer, with its budget since the start of the period."""

    client: str
    budget_msat: int | None = None
    since: int = 0


NO_CLIENT = Spender("")
INSERT = f"INSERT INTO invoices VALUES ({', '.join('?' for _ in fields(Invoice))})"
SPENT = (
    "SELECT coalesce(-sum(msat), 0) FROM entries"
    " WHERE account = ? AND msat < 0 AND client = ? AND at >= ?"
)
BALANCE = "SELECT balance_msat FROM accounts WHERE name = ?"
MOVE = "UPDATE accounts SET balance_msat = balance_msat + ? WHERE name = ?"
ENTER = "INSERT INTO entries (account, msat, payment_hash, client, at) VALUES"


class Ledger:
    """Balances in msat; every payment moves an amount between two accounts.

    `listeners` are called with each settled invoice, in the thread that paid it.
    """

    def __init__(self, database: Database | None = None) -> None:
        self._database = database or Database()
        self.listeners: list[Callable[[Invoice], None]] = []
        #: Payment hashes of payments that failed, whoever tried.
        self.failed: set[str] = set()

    def open_account(self, name: str, *, balance_msat: int = 0) -> bool:
        """Open an account with a balance; return False if it exists."""
        with self._database.transaction() as db:
            new = db.execute("INSERT OR IGNORE INTO accounts VALUES (?, 0)", (name,))
            if new.rowcount:
                _deposit(db, name, balance_msat)
        return bool(new.rowcount)

    def deposit(self, account: str, msat: int) -> None:
        """Add new sats to an account. Raises KeyError if it is unknown."""
        with self._database.transaction() as db:
            _deposit(db, account, msat)

    def balance(self, account: str) -> int:
        """Return an account's balance in msat. Raises KeyError."""
        rows = self._database.rows(BALANCE, account)
        if not rows:
            raise KeyError(account)
        return int(rows[0][0])

    def total(self) -> int:
        """Return the sum of all balances, in msat."""
        query = "SELECT coalesce(sum(balance_msat), 0) FROM accounts"
        return int(self._database.rows(query)[0][0])

    def issue(self, invoice: Invoice) -> None:
        """Store an unpaid invoice."""
        with self._database.transaction() as db:
            db.execute(INSERT, astuple(invoice))

    def pay(self, payer: str, bolt11: str, *, spender: Spender = NO_CLIENT) -> Invoice:
        """Move an invoice's amount from the payer to its owner, once.

        Returns the settled invoice. Raises NotPaid, or KeyError for an unknown payer;
        then nothing was moved.
        """
        now = int(time.time())
        with self._database.transaction() as db:
            invoice = _find_payable(db, bolt11, now)
            _check_budget(db, payer, spender, invoice.amount_msat)
            _debit(db, payer, invoice.amount_msat)
            settled = _settle(db, invoice, payer, spender.client, now)
        # After the commit: listeners may use the ledger, whose lock is not reentrant.
        for listener in self.listeners:
            listener(settled)
        return settled

    def invoice(
        self, *, payment_hash: str | None = None, bolt11: str | None = None
    ) -> Invoice | None:
        """Return the invoice with that payment hash or bolt11, or None."""
        if payment_hash is not None:
            invoices = self._invoices("WHERE payment_hash = ?", payment_hash)
        else:
            invoices = self._invoices("WHERE bolt11 = ?", _normalize(bolt11 or ""))
        return next(iter(invoices), None)

    def is_settled(self, payment_hash: str) -> bool:
        """Return whether the invoice was paid. Raises KeyError."""
        invoice = self.invoice(payment_hash=payment_hash)
        if invoice is None:
            raise KeyError(payment_hash)
        return invoice.settled_at is not None

    def issued_by(self, account: str) -> list[Invoice]:
        """Return an account's invoices, oldest first."""
        return self._invoices("WHERE owner = ? ORDER BY rowid", account)

    def invoices_of(self, account: str) -> list[Invoice]:
        """Return the invoices that an account issued or paid, oldest first."""
        return self._invoices("WHERE ? IN (owner, payer) ORDER BY rowid", account)

    def latest(self, limit: int) -> list[Invoice]:
        """Return the newest invoices, newest first."""
        return self._invoices("ORDER BY rowid DESC LIMIT ?", limit)

    def debits(self, account: str) -> list[int]:
        """Return the amounts that left an account, in msat, oldest first."""
        query = "SELECT -msat FROM entries WHERE account = ? AND msat < 0 ORDER BY id"
        return [msat for (msat,) in self._database.rows(query, account)]

    def credits(self, account: str) -> list[int]:
        """Return the amounts that an account received, in msat, oldest first."""
        query = "SELECT msat FROM entries WHERE account = ? AND msat > 0 ORDER BY id"
        return [msat for (msat,) in self._database.rows(query, account)]

    def spent(self, account: str, spender: Spender) -> int:
        """Return a client's spending from an account in its period, in msat."""
        values = (account, spender.client, spender.since)
        return int(self._database.rows(SPENT, *values)[0][0])

    def _invoices(self, clauses: str, value: str | int) -> list[Invoice]:
        rows = self._database.rows(f"SELECT * FROM invoices {clauses}", value)
        return [Invoice(*row) for row in rows]


def _normalize(bolt11: str) -> str:
    """Return an invoice as stored: lower case, without a scheme."""
    return bolt11.strip().lower().removeprefix("lightning:")


def _deposit(db: Connection, account: str, msat: int) -> None:
    if msat < 0:
        raise ValueError("a deposit must not be negative")
    if not db.execute(MOVE, (msat, account)).rowcount:
        raise KeyError(account)
    db.execute(f"{ENTER} (?, ?, NULL, '', ?)", (account, msat, int(time.time())))


def _find_payable(db: Connection, bolt11: str, now: int) -> Invoice:
    query = "SELECT * FROM invoices WHERE bolt11 = ?"
    row = db.execute(query, (_normalize(bolt11),)).fetchone()
    if row is None:
        raise UnknownInvoice("No route to the payee.")
    invoice = Invoice(*row)
    if invoice.settled_at is not None:
        raise AlreadyPaid("This invoice was already paid.")
    if now > invoice.expires_at + LATE_SECONDS:
        raise InvoiceExpired("This invoice has expired.")
    return invoice


def _check_budget(db: Connection, payer: str, spender: Spender, msat: int) -> None:
    if spender.budget_msat is None:
        return
    values = payer, spender.client, spender.since
    (spent,) = db.execute(SPENT, values).fetchone()
    if spent + msat > spender.budget_msat:
        raise QuotaExceeded("This would exceed the budget of the connection.")


def _debit(db: Connection, payer: str, msat: int) -> None:
    row = db.execute(BALANCE, (payer,)).fetchone()
    if row is None:
        raise KeyError(payer)
    if row[0] < msat:
        raise InsufficientBalance("The balance is lower than the amount.")
    db.execute(MOVE, (-msat, payer))


def _settle(
    db: Connection, invoice: Invoice, payer: str, client: str, now: int
) -> Invoice:
    hash, msat, owner = invoice.payment_hash, invoice.amount_msat, invoice.owner
    db.execute(MOVE, (msat, owner))
    db.execute(f"{ENTER} (?, ?, ?, ?, ?)", (payer, -msat, hash, client, now))
    db.execute(f"{ENTER} (?, ?, ?, '', ?)", (owner, msat, hash, now))
    row = db.execute(
        "UPDATE invoices SET settled_at = ?, payer = ? WHERE payment_hash = ?"
        " RETURNING *",
        (now, payer, hash),
    ).fetchone()
    return Invoice(*row)
