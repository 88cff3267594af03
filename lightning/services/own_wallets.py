"""Our own wallets: the first in ROBOT_WALLET issues invoices, all are polled.

Who asks for a wallet names the share of its requests that the work may use.
"""

from functools import lru_cache

from django.conf import settings

from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.clients.pace import Pace, Share
from lightning.exceptions import UnknownOwnWallet
from lightning.models import LightningInvoice


def issuing_wallet(share: Share = Share.BACKGROUND) -> Wallet:
    """Return the wallet that issues new invoices."""
    return _wallet(_uris()[0], share)


def wallet_of(pubkey: str, share: Share = Share.BACKGROUND) -> Wallet:
    """Return the own wallet with this public key. Raises UnknownOwnWallet."""
    for uri in _uris():
        if uri.pubkey == pubkey:
            return _wallet(uri, share)
    raise UnknownOwnWallet(f"ROBOT_WALLET lacks {pubkey}, which issued this invoice.")


def wallets() -> list[Wallet]:
    """Return all own wallets."""
    return [_wallet(uri, Share.BACKGROUND) for uri in _uris()]


def missing_wallets() -> list[str]:
    """Return the wallets that issued watched invoices but are not in ROBOT_WALLET."""
    configured = {uri.pubkey for uri in _uris()}
    issuers = LightningInvoice.objects.watched().order_by("wallet_pubkey")
    pubkeys = issuers.values_list("wallet_pubkey", flat=True).distinct()
    return [pubkey for pubkey in pubkeys if pubkey not in configured]


def _wallet(uri: NwcUri, share: Share) -> Wallet:
    # The operator's wallet may be in the operator's private network.
    return Wallet(uri, private_allowed=True, pace=Pace(uri.pubkey, share))


def _uris() -> tuple[NwcUri, ...]:
    return _parse_all(tuple(settings.ROBOT_WALLETS))


@lru_cache(maxsize=4)
def _parse_all(urls: tuple[str, ...]) -> tuple[NwcUri, ...]:
    return tuple(parse_nwc_url(url, private_allowed=True) for url in urls)
