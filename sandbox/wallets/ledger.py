"""Accounts, invoices, and payments that move sats exactly once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from sqlite3 import Connection
from typing import Any

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
    """An invoice of an account; times are Unix times."""

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
COLUMNS = ", ".join(column.name for column in fields(Invoice))
PLACEHOLDERS = ", ".join("?" for column in fields(Invoice))
SELECT = f"SELECT {COLUMNS} FROM invoices"
SPENT = (
    "SELECT coalesce(-sum(msat), 0) FROM entries"
    " WHERE account = ? AND msat < 0 AND client = ? AND at >= ?"
)
MOVE = "UPDATE accounts SET balance_msat = balance_msat + ? WHERE name = ?"
ENTER = "INSERT INTO entries (account, msat, payment_hash, client, at) VALUES"


class Ledger:
    """Balances in msat; every payment moves an amount between two accounts.

    `listeners` are called with each settled invoice, in the thread that paid it.
    """

    def __init__(self, database: Database | None = None) -> None:
        self._database = database or Database()
        self.listeners: list[Callable[[Invoice], None]] = []

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
        query = "SELECT balance_msat FROM accounts WHERE name = ?"
        return int(_require_row(self._database.rows(query, account), account)[0])

    def total(self) -> int:
        """Return the sum of all balances, in msat."""
        query = "SELECT coalesce(sum(balance_msat), 0) FROM accounts"
        return int(self._database.rows(query)[0][0])

    def issue(self, invoice: Invoice) -> None:
        """Store an unpaid invoice."""
        values = [getattr(invoice, column.name) for column in fields(Invoice)]
        with self._database.transaction() as db:
            db.execute(
                f"INSERT INTO invoices ({COLUMNS}) VALUES ({PLACEHOLDERS})", values
            )

    def pay(self, payer: str, bolt11: str, *, spender: Spender = NO_CLIENT) -> Invoice:
        """Move an invoice's amount from the payer to its owner, once.

        Returns the settled invoice. Raises NotPaid, or KeyError for an unknown payer;
        then nothing was moved.
        """
        now = int(time.time())
        with self._database.transaction() as db:
            invoice = self._payable(db, bolt11, now)
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
            invoices = self._invoices("payment_hash = ?", payment_hash)
        else:
            invoices = self._invoices("bolt11 = ?", normalize(bolt11 or ""))
        return invoices[0] if invoices else None

    def is_settled(self, payment_hash: str) -> bool:
        """Return whether the invoice was paid. Raises KeyError."""
        invoice = self.invoice(payment_hash=payment_hash)
        if invoice is None:
            raise KeyError(payment_hash)
        return invoice.settled_at is not None

    def issued_by(self, account: str) -> list[Invoice]:
        """Return an account's invoices, oldest first."""
        return self._invoices("owner = ?", account)

    def paid_by(self, account: str) -> list[Invoice]:
        """Return the invoices that an account paid, oldest first."""
        return self._invoices("payer = ?", account)

    def latest(self, limit: int) -> list[Invoice]:
        """Return the newest invoices, newest first."""
        rows = self._database.rows(f"{SELECT} ORDER BY rowid DESC LIMIT ?", limit)
        return [Invoice(*row) for row in rows]

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

    def _invoices(self, condition: str, value: str) -> list[Invoice]:
        rows = self._database.rows(f"{SELECT} WHERE {condition} ORDER BY rowid", value)
        return [Invoice(*row) for row in rows]

    def _payable(self, db: Connection, bolt11: str, now: int) -> Invoice:
        row = db.execute(f"{SELECT} WHERE bolt11 = ?", (normalize(bolt11),)).fetchone()
        if row is None:
            raise UnknownInvoice("No route to the payee.")
        invoice = Invoice(*row)
        if invoice.settled_at is not None:
            raise AlreadyPaid("This invoice was already paid.")
        if now > invoice.expires_at + LATE_SECONDS:
            raise InvoiceExpired("This invoice has expired.")
        return invoice


def normalize(bolt11: str) -> str:
    """Return an invoice as stored: lower case, without a scheme."""
    return bolt11.strip().lower().removeprefix("lightning:")


def _require_row(rows: list[tuple[Any, ...]], account: str) -> tuple[Any, ...]:
    if not rows:
        raise KeyError(account)
    return rows[0]


def _deposit(db: Connection, account: str, msat: int) -> None:
    if msat < 0:
        raise ValueError("a deposit must not be negative")
    if not db.execute(MOVE, (msat, account)).rowcount:
        raise KeyError(account)
    db.execute(f"{ENTER} (?, ?, NULL, '', ?)", (account, msat, int(time.time())))


def _check_budget(db: Connection, payer: str, spender: Spender, msat: int) -> None:
    if spender.budget_msat is None:
        return
    values = (payer, spender.client, spender.since)
    (spent,) = db.execute(SPENT, values).fetchone()
    if spent + msat > spender.budget_msat:
        raise QuotaExceeded("This would exceed the budget of the connection.")


def _debit(db: Connection, payer: str, msat: int) -> None:
    updated = db.execute(f"{MOVE} AND balance_msat >= ?", (-msat, payer, msat))
    if updated.rowcount:
        return
    rows = db.execute("SELECT 1 FROM accounts WHERE name = ?", (payer,)).fetchall()
    _require_row(rows, payer)
    raise InsufficientBalance("The balance is lower than the amount.")


def _settle(
    db: Connection, invoice: Invoice, payer: str, client: str, now: int
) -> Invoice:
    hash, msat, owner = invoice.payment_hash, invoice.amount_msat, invoice.owner
    db.execute(MOVE, (msat, owner))
    db.execute(f"{ENTER} (?, ?, ?, ?, ?)", (payer, -msat, hash, client, now))
    db.execute(f"{ENTER} (?, ?, ?, '', ?)", (owner, msat, hash, now))
    row = db.execute(
        "UPDATE invoices SET settled_at = ?, payer = ? WHERE payment_hash = ?"
        f" RETURNING {COLUMNS}",
        (now, payer, hash),
    ).fetchone()
    return Invoice(*row)
