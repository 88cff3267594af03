"""System checks of ROBOT_WALLET: valid addresses, and no needed wallet missing."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connection

from lightning.exceptions import InvalidWalletUrl
from lightning.models import LightningInvoice
from lightning.services import own_wallets


@register
def check_robot_wallets(**kwargs: Any) -> list[CheckMessage]:
    """Require valid addresses in ROBOT_WALLET."""
    try:
        own_wallets.wallets()
    except InvalidWalletUrl as exc:
        return [Error(f"ROBOT_WALLET: {exc}", id="lightning.E002")]
    return []


@register(Tags.database)
def check_wallets(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Require each wallet that has issued an invoice that may still be paid."""
    if not databases:
        return []
    return [Error(error, id="lightning.E001") for error in missing_wallet_errors()]


def missing_wallet_errors() -> list[str]:
    """Return an error for each wallet that ROBOT_WALLET must still contain."""
    table = LightningInvoice._meta.db_table
    if table not in connection.introspection.table_names():
        return []
    return [
        f"ROBOT_WALLET lacks the wallet {pubkey}: its invoices may still be paid. "
        "Keep it there, after the new one, until they are settled or dead."
        for pubkey in own_wallets.missing_wallets()
    ]
