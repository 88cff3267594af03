"""Our own wallets: the first in ROBOT_WALLET issues invoices, all are polled.

Who asks for a wallet names the share of its requests that the work may use.
"""

from datetime import datetime, timedelta
from functools import lru_cache

from django.conf import settings
from django.utils import timezone

from lightning.clients.bolt11 import Bolt11, decode
from lightning.clients.clock import CLOCK_TOLERANCE
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.clients.pace import Pace, Share
from lightning.exceptions import InvoiceMismatch, OwnWalletUnproven, UnknownOwnWallet
from lightning.models import LightningInvoice, WalletProof

#: The only network whose invoices are paid with real money, as BOLT 11 calls it.
MAINNET = "bc"


def issuing_wallet(share: Share = Share.BACKGROUND) -> Wallet:
    """Return the wallet that issues new invoices. Raises OwnWalletUnproven."""
    uri = _uris()[0]
    if uri.pubkey in wallets_that_may_not_issue():
        raise OwnWalletUnproven(
            f"Our wallet {uri.pubkey} issues no invoices before its proof has passed."
        )
    return _wallet(uri, share)


def make_invoice(
    wallet: Wallet, *, amount_msat: int, description: str, expiry: int
) -> Bolt11:
    """Have an own wallet make an invoice that expires in `expiry` seconds.

    Raises InvoiceMismatch if it is not as requested, InvalidBolt11, or a WalletError.
    """
    asked_at = timezone.now()
    issued = wallet.make_invoice(
        amount_msat=amount_msat, description=description, expiry=expiry
    )
    decoded = decode(issued.bolt11)
    _require_match(decoded, issued.payment_hash, amount_msat, expiry, asked_at)
    return decoded


def wallets_that_may_not_issue() -> list[str]:
    """Return the own wallets that may not issue invoices, for lack of a proof."""
    return [] if settings.ROBOT_WALLET_ALLOW_UNPROVEN else unproven_wallets()


def unproven_wallets() -> list[str]:
    """Return the own wallets whose proof has not passed on a network that counts."""
    passed = WalletProof.objects.filter(state=WalletProof.State.PASSED)
    if not settings.ROBOT_WALLET_ALLOW_UNPROVEN:
        passed = passed.filter(network=MAINNET)
    proven = set(passed.values_list("wallet_pubkey", flat=True))
    return [uri.pubkey for uri in _uris() if uri.pubkey not in proven]


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
    pace = Pace(uri.pubkey, share)
    return Wallet(uri, private_allowed=True, is_ours=True, pace=pace)


def _uris() -> tuple[NwcUri, ...]:
    return _parse_all(tuple(settings.ROBOT_WALLETS))


def _require_match(
    decoded: Bolt11,
    payment_hash: str,
    amount_msat: int,
    expiry: int,
    asked_at: datetime,
) -> None:
    lifetime = decoded.expires_at - decoded.created_at
    if decoded.network != MAINNET and not settings.ROBOT_WALLET_ALLOW_UNPROVEN:
        raise InvoiceMismatch(
            f"Our wallet's invoice is on a test network ({decoded.network})."
        )
    if payment_hash not in (decoded.payment_hash, ""):
        raise InvoiceMismatch("Our wallet's invoice has another payment hash.")
    if decoded.amount_msat != amount_msat:
        raise InvoiceMismatch("Our wallet's invoice has another amount.")
    if lifetime != timedelta(seconds=expiry):
        raise InvoiceMismatch("Our wallet's invoice has another expiry.")
    # BOLT 11's times are whole seconds.
    earliest = asked_at.replace(microsecond=0) - CLOCK_TOLERANCE
    if not earliest <= decoded.created_at <= timezone.now() + CLOCK_TOLERANCE:
        raise InvoiceMismatch("Our wallet's clock is wrong.")


@lru_cache(maxsize=4)
def _parse_all(urls: tuple[str, ...]) -> tuple[NwcUri, ...]:
    return tuple(parse_nwc_url(url, private_allowed=True) for url in urls)
