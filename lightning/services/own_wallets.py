"""Our own wallets: the first of ROBOT_WALLET issues invoices, all of them are asked."""

from functools import lru_cache

from django.conf import settings

from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.exceptions import UnknownOwnWallet
from lightning.models import LightningInvoice


def issuing_wallet() -> Wallet:
    """Return the wallet that issues new invoices."""
    return _wallet(_uris()[0])


def wallet_of(pubkey: str) -> Wallet:
    """Return the wallet of ours that issued an invoice. Raises UnknownOwnWallet."""
    for uri in _uris():
        if uri.pubkey == pubkey:
            return _wallet(uri)
    raise UnknownOwnWallet(f"ROBOT_WALLET lacks {pubkey}, which issued this invoice.")


def wallets() -> list[Wallet]:
    """Return all of our wallets."""
    return [_wallet(uri) for uri in _uris()]


def missing_wallets() -> list[str]:
    """Return the public keys of wallets that were ours and may still be paid."""
    ours = {uri.pubkey for uri in _uris()}
    issuers = LightningInvoice.objects.watched().order_by("wallet_pubkey")
    found = issuers.values_list("wallet_pubkey", flat=True).distinct()
    return [pubkey for pubkey in found if pubkey not in ours]


def _wallet(uri: NwcUri) -> Wallet:
    # An operator's own wallet may well be in the operator's own network.
    return Wallet(uri, private_allowed=True)


def _uris() -> tuple[NwcUri, ...]:
    return _parsed(tuple(settings.ROBOT_WALLETS))


@lru_cache(maxsize=4)
def _parsed(urls: tuple[str, ...]) -> tuple[NwcUri, ...]:
    return tuple(parse_nwc_url(url, private_allowed=True) for url in urls)
