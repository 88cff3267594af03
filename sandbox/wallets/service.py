"""The wallet service: runs requests and sends the replies."""

from collections.abc import Callable
from functools import partial

from sandbox.common.fields import BadField
from sandbox.common.nostr import Event
from sandbox.wallets.behaviour import PaymentBehaviour, ReplyBehaviour
from sandbox.wallets.connections import PAY, Connection
from sandbox.wallets.database import Database
from sandbox.wallets.ledger import Invoice, NotPaid
from sandbox.wallets.messages import (
    Outcome,
    Refused,
    Request,
    notification,
    read_request,
)
from sandbox.wallets.methods import METHODS, Call, transaction
from sandbox.wallets.replies import fake_result, rate_limited, replies
from sandbox.wallets.schedule import Paces, Schedule
from sandbox.wallets.wallet import Wallet


class Service:
    """Runs each request in the calling thread; `send` publishes replies."""

    def __init__(
        self, *, database: Database, schedule: Schedule, send: Callable[[Event], None]
    ) -> None:
        self._database = database
        self._schedule = schedule
        self._send = send
        self._paces = Paces()

    def receive(self, wallet: Wallet, event: Event, heeds_expiration: bool) -> None:
        """Run a request, unless it is expired or was run before."""
        protocol = wallet.protocol
        is_expired = heeds_expiration and event.is_expired(wallet.now())
        if is_expired or not wallet.is_listening or not self._is_new(event):
            return
        if self._paces.is_exceeded(event.pubkey, protocol.requests_per_minute):
            wallet.rate_limited += 1
            self._publish(wallet, rate_limited(wallet, event))
            return
        request, refused = read_request(event, wallet.keys.wallet, protocol.encryption)
        if refused:
            wallet.unreadable.append(event)
        else:
            wallet.received.append(request)
        connection = wallet.client(event.pubkey)
        if connection is None and not protocol.answers_unknown_clients:
            return
        if refused:
            self._answer(wallet, request, ReplyBehaviour(), Outcome(error=refused))
        else:
            self._run(wallet, connection, request)

    def notify(self, wallet: Wallet, type: str, invoice: Invoice) -> None:
        """Notify a wallet's clients of a payment."""
        if not wallet.protocol.notifies:
            return
        payment = transaction(invoice, incoming=type == "payment_received")
        for client in wallet.connections:
            for scheme in wallet.protocol.encryption:
                key, pubkey = wallet.keys.wallet, client.pubkey
                event = notification(
                    scheme, key, pubkey, type, payment, created_at=wallet.now()
                )
                self._publish(wallet, event)

    def _is_new(self, event: Event) -> bool:
        # A relay may deliver a request again.
        with self._database.transaction() as db:
            added = db.execute("INSERT OR IGNORE INTO requests VALUES (?)", (event.id,))
        return added.rowcount == 1

    def _run(
        self, wallet: Wallet, connection: Connection | None, request: Request
    ) -> None:
        behaviour = ReplyBehaviour()
        try:
            call = Call(wallet, _allowed(connection, request), request)
            if request.method == PAY:
                self._pay(call, wallet.behaviour, call.params.text("invoice"))
                return
            behaviour = _behaviour_for(wallet, request.method)
            # A scripted error: the method is not run, so no invoice is issued.
            run = behaviour.error is None
            outcome = Outcome(METHODS[request.method](call) if run else None)
        except Refused as refused:
            outcome = Outcome(error=refused)
        except BadField as error:
            outcome = Outcome(error=Refused("BAD_REQUEST", f"{error}."))
        self._answer(wallet, request, behaviour, outcome)

    def _pay(self, call: Call, behaviour: PaymentBehaviour, bolt11: str) -> None:
        answer = partial(self._answer, call.wallet, call.request, behaviour)
        if behaviour.pays_after is None:
            if behaviour.error is not None:
                _record_failure(call, bolt11)
            answer(Outcome(fake_result()))
        elif behaviour.error is None:
            self._schedule.after(
                behaviour.pays_after, lambda: answer(_settle(call, bolt11))
            )
        else:
            # If it cannot be paid, the client's error is true.
            self._schedule.after(behaviour.pays_after, lambda: _settle(call, bolt11))
            answer(Outcome())

    def _answer(
        self,
        wallet: Wallet,
        request: Request,
        behaviour: ReplyBehaviour,
        outcome: Outcome,
    ) -> None:
        if behaviour.after is None:
            return
        if behaviour.error is not None:
            message = f"{behaviour.error.replace('_', ' ').capitalize()}."
            error = Refused(behaviour.error, behaviour.message or message)
            outcome = Outcome(error=error)

        def reply() -> None:
            for event in replies(wallet, request, behaviour, outcome):
                self._publish(wallet, event)

        self._schedule.after(behaviour.after, reply)

    def _publish(self, wallet: Wallet, event: Event) -> None:
        # Replies that were scheduled before the wallet went offline are dropped.
        if wallet.is_listening:
            self._send(event)


def _allowed(connection: Connection | None, request: Request) -> Connection:
    """Return the connection. Raises Refused if it does not allow the request."""
    if connection is None:
        raise Refused("UNAUTHORIZED", "This key has no connection.")
    if connection.terms.is_expired:
        raise Refused("EXPIRED", "This connection has expired.")
    if request.method not in (PAY, *METHODS):
        raise Refused("NOT_IMPLEMENTED", "Unknown method.")
    if request.method not in connection.methods:
        raise Refused("RESTRICTED", "This connection does not allow the method.")
    return connection


def _behaviour_for(wallet: Wallet, method: str) -> ReplyBehaviour:
    known = {
        "make_invoice": wallet.invoice_behaviour,
        "lookup_invoice": wallet.lookup_behaviour,
        "list_transactions": wallet.list_behaviour,
    }
    return known.get(method, wallet.reply_behaviour)


def _settle(call: Call, bolt11: str) -> Outcome:
    name, spender = call.wallet.name, call.connection.spender
    try:
        paid = call.wallet.ledger.pay(name, bolt11, spender=spender)
    except NotPaid as refusal:
        _record_failure(call, bolt11)
        return Outcome(error=Refused(refusal.code, str(refusal)))
    return Outcome({"preimage": paid.preimage, "fees_paid": 0})


def _record_failure(call: Call, bolt11: str) -> None:
    ledger = call.wallet.ledger
    if invoice := ledger.invoice(bolt11=bolt11):
        ledger.failed.add(invoice.payment_hash)
