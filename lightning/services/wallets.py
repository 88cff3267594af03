"""Tenants' wallets: connect one after checking that it can pay; record its errors."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.encrypted_text import Undecryptable
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Budget, Info
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.exceptions import (
    InvalidWalletUrl,
    NoWalletReply,
    RelayRefused,
    RequestNotSent,
    WalletError,
    WalletRefused,
    WalletUnusable,
)
from lightning.models import NwcPayment
from lightning.services.wallet_texts import meaning
from tenants.models import Tenant
from tenants.services import tenants

logger = structlog.get_logger(__name__)


#: Refusals of `get_info` by a wallet that may allow other methods.
_NOT_ALLOWED = {"RESTRICTED", "NOT_IMPLEMENTED"}


@dataclass(frozen=True)
class WalletCheck:
    """A wallet's description of itself; `budget` and `expires_at` are optional.

    `left_out`: a sentence for each relay of its address that is not used.
    """

    alias: str
    hosts: str
    budget: Budget | None
    expires_at: datetime | None
    left_out: tuple[str, ...] = ()


def connect_wallet(*, pubkey: str, nwc_url: str, **changes: Any) -> WalletCheck:
    """Check a wallet and store it as the tenant's.

    Other `changes` of the tenant are made in the same transaction. Nothing changes if
    it raises InvalidWalletUrl, WalletUnusable with the reason, or an error of
    `update_tenant`.
    """
    uri = parse_nwc_url(nwc_url, private_allowed=settings.NWC_ALLOW_PRIVATE_RELAYS)
    # Before the transaction: it waits for the network.
    check = check_wallet(uri=uri)
    with transaction.atomic():
        _update_tenant(pubkey, changes)
        tenants.set_wallet(
            pubkey=pubkey, nwc_url=uri.to_url(), alias=check.alias, hosts=check.hosts
        )
    return check


def check_wallet_of(tenant: Tenant) -> WalletCheck:
    """Check that a tenant's wallet answers and may pay invoices.

    Raises InvalidWalletUrl or WalletUnusable with the reason.
    """
    private_allowed = settings.NWC_ALLOW_PRIVATE_RELAYS
    url = tenant.nwc_url.reveal()
    return check_wallet(uri=parse_nwc_url(url, private_allowed=private_allowed))


def disconnect_wallet(*, pubkey: str, **changes: Any) -> None:
    """Remove the tenant's wallet, and make other changes in the same transaction.

    A pending attempt has its own copy. Raises the errors of `update_tenant`.
    """
    with transaction.atomic():
        _update_tenant(pubkey, changes)
        tenants.set_wallet(pubkey=pubkey, nwc_url="")


def check_wallet(*, uri: NwcUri) -> WalletCheck:
    """Check that a wallet answers and may pay invoices. Raises WalletUnusable.

    A wallet that is off, a deleted connection and a wrong secret look alike: no reply.
    """
    wallet = Wallet(uri)
    info = _get_info(wallet)
    if "pay_invoice" not in info.methods:
        raise _unusable("cannot-pay", "This connection may not pay invoices.")
    if info.expires_at and info.expires_at <= timezone.now():
        raise _unusable("expired", "This connection has expired.")
    return WalletCheck(
        alias=info.alias,
        hosts=uri.hosts,
        budget=_get_budget(wallet) if "get_budget" in info.methods else None,
        expires_at=info.expires_at,
        left_out=uri.left_out,
    )


def set_wallet_error(payment: NwcPayment, sentence: str) -> None:
    """Store the reason of a failure, unless the tenant has changed wallets since."""
    _write_error(payment, sentence[:240])


def clear_wallet_error(payment: NwcPayment) -> None:
    """Clear the stored error after the wallet has paid."""
    _write_error(payment, "")


def set_wallet_warning(tenant: Tenant, sentence: str) -> bool:
    """Store the finding of a check; returns False if the wallet has changed since."""
    same = Tenant.objects.filter(pk=tenant.pk, nwc_url=tenant.nwc_url)
    return bool(same.update(nwc_error=sentence[:240]))


def _update_tenant(pubkey: str, changes: dict[str, Any]) -> None:
    if changes:
        tenants.update_tenant(pubkey=pubkey, **changes)


def _get_info(wallet: Wallet) -> Info:
    try:
        return wallet.get_info()
    except (RequestNotSent, RelayRefused) as exc:
        own_words = "None of its relays can be reached, or they refuse our request."
        raise _unusable("unreachable", exc.message, own_words) from exc
    except NoWalletReply as exc:
        raise _unusable(
            "silent",
            "The wallet does not answer: it is off, or the connection was deleted, "
            "or its secret is wrong.",
        ) from exc
    except WalletRefused as exc:
        if exc.nwc_code == "EXPIRED":
            raise _unusable("expired", "This connection has expired.") from exc
        if exc.nwc_code in _NOT_ALLOWED and (methods := wallet.published_methods()):
            return Info(methods=methods)
        raise _failed("refuses", "The wallet refuses", exc) from exc
    except WalletError as exc:
        raise _failed("error", "The wallet fails", exc) from exc


def _get_budget(wallet: Wallet) -> Budget | None:
    """Return the budget, or None; some wallets list `get_budget` and then fail it."""
    try:
        return wallet.get_budget()
    except WalletError as exc:
        logger.info("budget_not_told", wallet=wallet.uri.pubkey, reason=str(exc))
        return None


def _failed(reason: str, start: str, error: WalletError) -> WalletUnusable:
    own_words = f"{start}: {meaning(error.nwc_code or error.code)}"
    return _unusable(reason, f"{start}: {error.message}", own_words)


def _unusable(reason: str, sentence: str, own_words: str = "") -> WalletUnusable:
    return WalletUnusable(sentence, code=f"wallet-{reason}", own_words=own_words)


def _write_error(payment: NwcPayment, sentence: str) -> None:
    tenant = payment.tenant
    if tenant.nwc_error == sentence:
        return
    if _client_pubkey(tenant) == payment.client_pubkey:
        # By the stored connection: the tenant may change wallets in between.
        same = Tenant.objects.filter(pk=tenant.pk, nwc_url=tenant.nwc_url)
        same.update(nwc_error=sentence)


def _client_pubkey(tenant: Tenant) -> str:
    """Return the client key of the tenant's current connection, "" without one."""
    try:
        url = tenant.nwc_url.reveal()
        return parse_nwc_url(url, private_allowed=True).client_pubkey if url else ""
    except (InvalidWalletUrl, Undecryptable):
        return ""
