"""Connecting a tenant's wallet, which must answer and be able to pay."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Budget, Info
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.exceptions import (
    NoWalletReply,
    RequestNotSent,
    WalletError,
    WalletRefused,
    WalletUnusable,
)
from tenants.models import Tenant
from tenants.services import tenants

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WalletCheck:
    """What a wallet told of itself; `budget` and `expires_at` if it did."""

    alias: str
    hosts: str
    budget: Budget | None
    expires_at: datetime | None


def connect_wallet(*, pubkey: str, nwc_url: str, **changes: Any) -> WalletCheck:
    """Check a wallet and make it the tenant's; returns what it told.

    Other `changes` of the tenant are made with it. Raises InvalidWalletUrl,
    WalletUnusable with the reason, or what `update_tenant` does; then nothing changes.
    """
    uri = parse_nwc_url(nwc_url, private_allowed=settings.NWC_ALLOW_PRIVATE_RELAYS)
    check = check_wallet(uri=uri)
    with transaction.atomic():
        _change(pubkey, changes)
        tenants.set_wallet(
            pubkey=pubkey, nwc_url=uri.to_url(), alias=check.alias, hosts=check.hosts
        )
    return check


def check_wallet_of(tenant: Tenant) -> WalletCheck:
    """Ask a tenant's wallet whether it can pay for us.

    Raises InvalidWalletUrl or WalletUnusable with the reason.
    """
    private_allowed = settings.NWC_ALLOW_PRIVATE_RELAYS
    url = tenant.nwc_url.reveal()
    return check_wallet(uri=parse_nwc_url(url, private_allowed=private_allowed))


def disconnect_wallet(*, pubkey: str, **changes: Any) -> None:
    """Forget the tenant's wallet, and make other changes of the tenant with it.

    An attempt under way has its own copy. Raises what `update_tenant` does.
    """
    with transaction.atomic():
        _change(pubkey, changes)
        tenants.set_wallet(pubkey=pubkey, nwc_url="")


def check_wallet(*, uri: NwcUri) -> WalletCheck:
    """Ask a wallet whether it can pay for us. Raises WalletUnusable with the reason.

    A wallet that is off, a connection that was deleted and a wrong secret all look the
    same: silence.
    """
    wallet = Wallet(uri)
    info = _info(wallet)
    if "pay_invoice" not in info.methods:
        raise _unusable("cannot-pay", "This connection may not pay invoices.")
    if info.expires_at and info.expires_at <= timezone.now():
        raise _unusable("expired", "This connection has expired.")
    return WalletCheck(
        alias=info.alias,
        hosts=uri.hosts,
        budget=_budget(wallet) if "get_budget" in info.methods else None,
        expires_at=info.expires_at,
    )


def _change(pubkey: str, changes: dict[str, Any]) -> None:
    if changes:
        tenants.update_tenant(pubkey=pubkey, **changes)


def _info(wallet: Wallet) -> Info:
    try:
        return wallet.get_info()
    except RequestNotSent as exc:
        raise _unusable("unreachable", exc.message) from exc
    except NoWalletReply as exc:
        raise _unusable(
            "silent",
            "The wallet does not answer: it is off, or the connection was deleted, "
            "or its secret is wrong.",
        ) from exc
    except WalletRefused as exc:
        if exc.nwc_code == "EXPIRED":
            raise _unusable("expired", "This connection has expired.") from exc
        raise _unusable("refuses", f"The wallet refuses: {exc.message}") from exc
    except WalletError as exc:
        raise _unusable("error", f"The wallet fails: {exc.message}") from exc


def _budget(wallet: Wallet) -> Budget | None:
    """Return the budget, None also when the wallet that offers to tell it does not."""
    try:
        return wallet.get_budget()
    except WalletError as exc:
        logger.info("budget_not_told", wallet=wallet.uri.pubkey, reason=str(exc))
        return None


def _unusable(why: str, sentence: str) -> WalletUnusable:
    return WalletUnusable(sentence, code=f"wallet-{why}")
