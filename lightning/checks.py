"""System checks of ROBOT_WALLET: valid addresses, none missing, all proven."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection
from django.db.models import Model

from lightning.exceptions import InvalidWalletUrl
from lightning.models import LightningInvoice, WalletProof
from lightning.services import own_wallets


@register
def check_robot_wallets(**kwargs: Any) -> list[CheckMessage]:
    """Require valid addresses in ROBOT_WALLET. Warn of relays that are not used."""
    try:
        wallets = own_wallets.wallets()
    except InvalidWalletUrl as exc:
        return [Error(f"ROBOT_WALLET: {exc}", id="lightning.E002")]
    return [
        Warning(f"ROBOT_WALLET, {wallet.uri.pubkey}: {text}", id="lightning.W003")
        for wallet in wallets
        for text in wallet.uri.left_out
    ]


@register(Tags.database)
def check_wallets(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Require each wallet that has issued an invoice that may still be paid.

    Warn of wallets that may not issue any, for lack of a proof.
    """
    if not databases:
        return []
    return [
        *(Error(error, id="lightning.E001") for error in missing_wallet_errors()),
        *(Warning(text, id="lightning.W001") for text in unproven_wallet_warnings()),
    ]


@register(Tags.security, deploy=True)
def check_proofs_are_required(**kwargs: Any) -> list[CheckMessage]:
    """Warn of a setting that is for development and staging only."""
    if not settings.ROBOT_WALLET_ALLOW_UNPROVEN:
        return []
    text = (
        "ROBOT_WALLET_ALLOW_UNPROVEN is on: a wallet that takes unpaid invoices for "
        "paid, or receives test coins, may issue invoices."
    )
    return [Warning(text, id="lightning.W002")]


def missing_wallet_errors() -> list[str]:
    """Return an error for each wallet that ROBOT_WALLET must still contain."""
    if not _has_table(LightningInvoice):
        return []
    return [
        f"ROBOT_WALLET lacks the wallet {pubkey}: its invoices may still be paid. "
        "Keep it there, after the new one, until they are settled or dead."
        for pubkey in own_wallets.missing_wallets()
    ]


def unproven_wallet_warnings() -> list[str]:
    """Return a warning for each wallet that may not issue invoices."""
    if not _has_table(WalletProof):
        return []
    return [
        f"The wallet {pubkey} in ROBOT_WALLET issues no invoices before its proof has "
        "passed. Beat proves it, or run `manage.py prove_wallets`."
        for pubkey in own_wallets.wallets_that_may_not_issue()
    ]


def _has_table(model: type[Model]) -> bool:
    return model._meta.db_table in connection.introspection.table_names()
