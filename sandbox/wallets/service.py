"""The wallet service: from a request event to what is done, and to its replies."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from caravel.nostr.encryption import Scheme
from caravel.nostr.events import Event
from sandbox.wallets.behaviour import Answering, Paying
from sandbox.wallets.connections import PAY, Connection
from sandbox.wallets.database import Database
from sandbox.wallets.ledger import Invoice, NotPaid
from sandbox.wallets.messages import (
    Outcome,
    Refused,
    Request,
    expiration_of,
    notification,
    read_request,
    scheme_of,
)
from sandbox.wallets.methods import METHODS, Call, invoice_to_pay, transaction
from sandbox.wallets.replies import invent_result, replies
from sandbox.wallets.schedule import Schedule
from sandbox.wallets.wallet import Wallet

Send = Callable[[Wallet, Event], None]


class Service:
    """Runs requests, each in the thread that brings it; `send` publishes replies."""

    def __init__(self, *, database: Database, schedule: Schedule, send: Send) -> None:
        self._database = database
        self._schedule = schedule
        self._send = send

    def receive(
        self, wallet: Wallet, event: Event, *, heeds_expiration: bool | None = None
    ) -> None:
        """Run a request, unless it has expired or was run before."""
        protocol = wallet.protocol
        if heeds_expiration is None:
            heeds_expiration = protocol.heeds_expiration
        if not wallet.listening or (heeds_expiration and _is_expired(event)):
            return
        if not self._is_new(event) and protocol.runs_once:
            return
        request, refused = _read(wallet, event)
        if refused:
            wallet.unreadable.append(event)
        else:
            wallet.note(request)
        connection = wallet.client(event.pubkey)
        if connection is None and not protocol.answers_strangers:
            return
        if refused:
            self._answer(wallet, request, Answering(), Outcome(error=refused))
        else:
            self._run(wallet, connection, request)

    def tell(self, wallet: Wallet, type: str, invoice: Invoice) -> None:
        """Notify a wallet's clients of a payment."""
        if not wallet.protocol.notifies:
            return
        found = transaction(invoice, incoming=type == "payment_received")
        for connection in wallet.connections:
            for scheme in wallet.protocol.encryption:
                self._publish(
                    wallet,
                    notification(
                        secret_key=wallet.keys.wallet,
                        client=connection.pubkey,
                        scheme=scheme,
                        type=type,
                        transaction=found,
                    ),
                )

    def _is_new(self, event: Event) -> bool:
        with self._database.transaction() as db:
            added = db.execute("INSERT OR IGNORE INTO requests VALUES (?)", (event.id,))
        return added.rowcount == 1

    def _run(
        self, wallet: Wallet, connection: Connection | None, request: Request
    ) -> None:
        answering = Answering()
        try:
            call = Call(wallet, _allowed(connection, request), request)
            if request.method == PAY:
                self._pay(call, wallet.behaviour, invoice_to_pay(call))
                return
            answering = _answering(wallet, request.method)
            # An error is made up: nothing is done, and no invoice issued.
            run = answering.error is None
            outcome = Outcome(METHODS[request.method](call) if run else None)
        except Refused as refused:
            outcome = Outcome(error=refused)
        self._answer(wallet, request, answering, outcome)

    def _pay(self, call: Call, paying: Paying, bolt11: str) -> None:
        answer = partial(self._answer, call.wallet, call.request, paying)
        if paying.pays_after is None:
            answer(Outcome(invent_result()))
        elif paying.error is None:
            self._schedule.after(
                paying.pays_after, lambda: answer(_settle(call, bolt11))
            )
        else:
            self._schedule.after(paying.pays_after, lambda: _try(call, bolt11))
            answer(Outcome())

    def _answer(
        self, wallet: Wallet, request: Request, answering: Answering, outcome: Outcome
    ) -> None:
        if answering.after is None:
            return
        if answering.error is not None:
            outcome = Outcome(error=_scripted(answering.error))
        self._schedule.after(
            answering.after,
            lambda: self._reply(wallet, request, answering, outcome),
        )

    def _reply(
        self, wallet: Wallet, request: Request, answering: Answering, outcome: Outcome
    ) -> None:
        for event in replies(wallet, request, answering, outcome):
            self._publish(wallet, event)

    def _publish(self, wallet: Wallet, event: Event) -> None:
        # What was under way when the wallet went offline is not told any more.
        if wallet.listening:
            self._send(wallet, event)


def _is_expired(event: Event) -> bool:
    expires_at = expiration_of(event)
    return expires_at is not None and time.time() > expires_at


def _read(wallet: Wallet, event: Event) -> tuple[Request, Refused | None]:
    """Return a request; an unreadable one without a method, and why."""
    allowed = wallet.protocol.encryption
    try:
        scheme = scheme_of(event, allowed)
        return read_request(event, wallet.keys.wallet, scheme), None
    except Refused as refused:
        # Alby Hub too answers what it cannot read in the encryption that it prefers.
        return _nameless(event, allowed[0]), refused


def _nameless(event: Event, scheme: Scheme) -> Request:
    return Request(
        id=event.id,
        client=event.pubkey,
        method="",
        params={},
        scheme=scheme,
        created_at=event.created_at,
        expires_at=expiration_of(event),
    )


def _allowed(connection: Connection | None, request: Request) -> Connection:
    """Return the connection. Raises Refused for what it does not allow."""
    if connection is None:
        raise Refused("UNAUTHORIZED", "This key has no wallet connected.")
    if connection.terms.is_expired:
        raise Refused("EXPIRED", "This connection has expired.")
    if request.method not in (PAY, *METHODS):
        raise Refused("NOT_IMPLEMENTED", "There is no such method.")
    if request.method not in connection.methods:
        raise Refused("RESTRICTED", "This connection does not allow that.")
    return connection


def _answering(wallet: Wallet, method: str) -> Answering:
    known = {"make_invoice": wallet.issuing, "lookup_invoice": wallet.lookups}
    return known.get(method, wallet.others)


def _settle(call: Call, bolt11: str) -> Outcome:
    try:
        paid = call.wallet.ledger.pay(
            call.wallet.name, bolt11, spender=call.connection.spender
        )
    except NotPaid as refusal:
        return Outcome(error=Refused(refusal.code, str(refusal)))
    return Outcome({"preimage": paid.preimage, "fees_paid": 0})


def _try(call: Call, bolt11: str) -> None:
    # The client was told an error already, which is then even true.
    with suppress(NotPaid):
        call.wallet.ledger.pay(
            call.wallet.name, bolt11, spender=call.connection.spender
        )


def _scripted(code: str) -> Refused:
    return Refused(code, code.replace("_", " ").capitalize() + ".")
