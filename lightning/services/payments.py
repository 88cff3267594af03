"""Payments by tenants' wallets: one invoice, one request, one outcome per attempt."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.work_items import isolated
from caravel.core.exceptions import CaravelError
from caravel.nostr.relays.shared_connections import TooManyConnections
from lightning.clients import nwc
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.exceptions import NoWallet, PaymentInProgress, RequestNotSent
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import attempts, invoice_status, invoices
from lightning.services.attempts import NOT_SENT, Prepared
from lightning.services.invoices import PaymentRequest
from lightning.services.live_payments import live_payment
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: An invoice that expires sooner than this is not sent to a wallet.
MIN_REMAINING = timedelta(seconds=60)
#: Attempts in a message: so few that even with five relays each they have room.
BATCH = 25


def issue_for_wallet(*, payment_request: PaymentRequest) -> LightningInvoice:
    """Issue an invoice for the tenant's wallet and return it unsaved.

    Follow it with `lock_for_wallet` and `create_payment` in one transaction. Raises the
    errors of `lock_for_wallet`, RateUnavailable, InvoiceMismatch, or a WalletError of
    our own wallet.
    """
    with transaction.atomic():
        lock_for_wallet(payment_request=payment_request)
    return invoices.issue_invoice(payment_request=payment_request)


def lock_for_wallet(*, payment_request: PaymentRequest) -> None:
    """Lock the Lightning invoices of a Stripe invoice, before the collection's lock.

    Raises NoWallet, AlreadySettled, or PaymentInProgress while one of them is live.
    """
    _connected_wallet(payment_request.tenant_id)
    rows = invoices.lock_invoices(payment_request.stripe_invoice_id)
    invoices.require_unsettled(rows, payment_request)
    if live := live_payment(payment_request.stripe_invoice_id):
        raise PaymentInProgress(live.reason, until=live.until)


def create_payment(invoice: LightningInvoice) -> NwcPayment:
    """Save an issued invoice and the attempt to have the tenant's wallet pay it.

    Call it in the transaction of `lock_for_wallet`. Saving the attempt makes a receiver
    enqueue it. Raises NoWallet, or PaymentInProgress if another invoice is open.
    """
    # Issuing takes seconds: the tenant may have another wallet by now, or none.
    tenant, uri = _connected_wallet(invoice.tenant_id)
    invoices.save_as_open(invoice)
    payment: NwcPayment = NwcPayment.objects.create(
        invoice=invoice,
        tenant=tenant,
        stripe_invoice_id=invoice.stripe_invoice_id,
        nwc_url=tenant.nwc_url,
        wallet_pubkey=uri.pubkey,
        client_pubkey=uri.client_pubkey,
        enqueued_at=timezone.now(),
    )
    return payment


def claim_unfinished() -> Iterator[list[int]]:
    """Claim the attempts that still need their wallets, for `run_payments`."""
    while claimed := NwcPayment.objects.unfinished().claim(now=timezone.now()):
        yield from (claimed[i : i + BATCH] for i in range(0, len(claimed), BATCH))


def run_payments(*, payment_ids: Sequence[int]) -> None:
    """Send the one request of each attempt, unless it was sent, and record the reply.

    After any reply, or none, our own wallet is polled and decides, now or later; only
    some refusals end the attempt at once. Nothing is ever sent a second time. A wallet
    that has proven its payment, while ours does not show it, is asked for its node.
    """
    rows = NwcPayment.objects.pending().select_related("invoice")
    pending = list(rows.filter(pk__in=payment_ids))
    silent: set[str] = set()
    for replied in _pay([each for each in pending if each.request_event_id is None]):
        _poll(replied, silent)
    _poll([each for each in pending if each.sent_at], silent)
    _store_nodes([each.pk for each in pending])


def _pay(unsent: Sequence[NwcPayment]) -> Iterator[list[NwcPayment]]:
    """Send the requests; yield attempts in groups, as their wallets reply or do not.

    An attempt that has ended with nothing spent is left out.
    """
    wallets = _wallets_of(unsent)
    try:
        with nwc.room_for([wallet for _, wallet in wallets]) as room:
            sent = attempts.mark_sent(_prepare(wallets))
            waiting = {i: each.wallet for i, each in enumerate(sent)}
            # A silent wallet keeps only its own room.
            room.keep(nwc.load_of(waiting.values()))
            for outcomes in nwc.pay_each([each.order for each in sent]):
                for i, _ in outcomes:
                    del waiting[i]
                room.keep(nwc.load_of(waiting.values()))
                yield attempts.record([(sent[i], outcome) for i, outcome in outcomes])
    except TooManyConnections:
        unmarked = NwcPayment.objects.unsent().filter(pk__in=[p.pk for p, _ in wallets])
        unmarked.update_free(enqueued_at=None)  # the next sweep enqueues them


def _wallets_of(unsent: Sequence[NwcPayment]) -> list[tuple[NwcPayment, Wallet]]:
    """Return the attempts that can be sent, with their wallets; close the others."""
    wallets = []
    for payment in unsent:
        with isolated(payment=payment.pk), _closed_if_not_sent(payment):
            _require_time(payment.invoice)
            wallets.append((payment, _wallet_of(payment)))
    return wallets


@contextmanager
def _closed_if_not_sent(payment: NwcPayment) -> Iterator[None]:
    """Close an attempt after any CaravelError before its request is sent."""
    try:
        yield
    except CaravelError as exc:
        attempts.close_as_refused(payment, NOT_SENT, exc.message)


def _require_time(invoice: LightningInvoice) -> None:
    if invoice.expires_at - timezone.now() < MIN_REMAINING:
        raise RequestNotSent("The invoice was too old to be sent.")


def _prepare(wallets: Sequence[tuple[NwcPayment, Wallet]]) -> list[Prepared]:
    """Build the requests; close the attempts whose relays cannot be reached."""
    errors = nwc.learn_schemes([wallet for _, wallet in wallets])
    prepared = []
    for (payment, wallet), error in zip(wallets, errors, strict=True):
        with isolated(payment=payment.pk), _closed_if_not_sent(payment):
            if error:
                raise error
            # Once more: to wait for room and for info events has taken time.
            _require_time(payment.invoice)
            request = wallet.prepare_payment(
                bolt11=payment.invoice.bolt11,
                expires_at=_request_expiry(payment.invoice),
            )
            prepared.append(Prepared(payment, wallet, request))
    return prepared


def _request_expiry(invoice: LightningInvoice) -> datetime:
    """Return the request's NIP-40 expiration: a wallet should ignore it later."""
    lifetime = timedelta(seconds=2 * settings.NWC_TIMEOUT)
    return min(timezone.now() + lifetime, invoice.expires_at)


def _poll(payments: Iterable[NwcPayment], silent: set[str]) -> None:
    """Poll our own wallets for attempts, except within the pause after a refusal.

    One that does not answer is `silent` from then on: its invoices stay due.
    """
    by_wallet: dict[str, list[int]] = {}
    for payment in payments:
        if not payment.refusal_final_at or payment.refusal_final_at <= timezone.now():
            invoice_ids = by_wallet.setdefault(payment.invoice.wallet_pubkey, [])
            invoice_ids.append(payment.invoice_id)
    for pubkey in by_wallet.keys() - silent:
        answers = 0
        # Replies of other wallets are still to come, and must be recorded.
        with isolated(wallet=pubkey):
            answers = invoice_status.poll_invoices(
                wallet_pubkey=pubkey, invoice_ids=by_wallet[pubkey]
            )
        if not answers:
            silent.add(pubkey)


def _store_nodes(payment_ids: Sequence[int]) -> None:
    """Store the nodes of wallets that have proven a payment which ours does not show.

    A tenant's wallet may have our own wallet's node. The sweep repeats a failure.
    """
    proven = NwcPayment.objects.pending().filter(proven_at__isnull=False)
    wallets = []
    for payment in proven.filter(pk__in=payment_ids, node_pubkey=""):
        try:
            wallets.append((payment, _wallet_of(payment)))
        except CaravelError as exc:
            attempts.store_node(payment, exc)
    infos = nwc.get_infos([wallet for _, wallet in wallets])
    for (payment, _), info in zip(wallets, infos, strict=True):
        attempts.store_node(payment, info)


def _wallet_of(payment: NwcPayment) -> Wallet:
    """Return the wallet of an attempt's own connection. Raises CaravelError."""
    return Wallet(_uri(payment.nwc_url.reveal()))


def _connected_wallet(tenant_id: str) -> tuple[Tenant, NwcUri]:
    """Return the tenant and its current wallet. Raises NoWallet."""
    tenant = Tenant.objects.get(pk=tenant_id)
    if not tenant.nwc_url:
        raise NoWallet("The tenant has connected no wallet.")
    return tenant, _uri(tenant.nwc_url.reveal())


def _uri(url: str) -> NwcUri:
    """Parse a stored connection; private relays are refused when they are dialled."""
    try:
        return parse_nwc_url(url, private_allowed=True)
    except CaravelError as exc:
        raise NoWallet("The tenant's wallet connection cannot be read.") from exc
