"""What must hold before Caravel starts."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connection

from lightning.exceptions import InvalidWalletUrl
from lightning.models import LightningInvoice
from lightning.services import own_wallets


@register
def check_robot_wallets(**kwargs: Any) -> list[CheckMessage]:
    """Refuse to go on with an address of ours that cannot be read."""
    try:
        own_wallets.wallets()
    except InvalidWalletUrl as exc:
        return [Error(f"ROBOT_WALLET: {exc}", id="lightning.E002")]
    return []


@register(Tags.database)
def check_wallets(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Refuse to go on without a wallet whose invoices may still be paid."""
    if not databases:
        return []
    return [Error(fault, id="lightning.E001") for fault in wallet_faults()]


def wallet_faults() -> list[str]:
    """Return a sentence for each wallet that ROBOT_WALLET must not drop yet."""
    table = LightningInvoice._meta.db_table
    if table not in connection.introspection.table_names():
        return []
    return [
        f"ROBOT_WALLET lacks the wallet {pubkey}: invoices of it may still be paid. "
        "Keep it there, behind the new one, until they are settled or dead."
        for pubkey in own_wallets.missing_wallets()
    ]
