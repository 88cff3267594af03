"""What a tenant is told of its wallet: one short sentence, gone when it works again."""

from caravel.core.db.encrypted_text import Undecryptable
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import InvalidWalletUrl
from lightning.models import NwcPayment
from tenants.models import Tenant


def set_wallet_error(payment: NwcPayment, sentence: str) -> None:
    """Say what went wrong, unless the tenant has another wallet by now."""
    _write(payment, sentence[:240])


def clear_wallet_error(payment: NwcPayment) -> None:
    """The wallet has paid: nothing is wrong with it."""
    _write(payment, "")


def set_wallet_warning(tenant: Tenant, sentence: str) -> bool:
    """Say what a check found; False if the tenant has another wallet by now."""
    same = Tenant.objects.filter(pk=tenant.pk, nwc_url=tenant.nwc_url)
    return bool(same.update(nwc_error=sentence[:240]))


def _write(payment: NwcPayment, sentence: str) -> None:
    tenant = Tenant.objects.get(pk=payment.tenant_id)
    if tenant.nwc_error == sentence:
        return
    if _connection_of(tenant) == payment.client_pubkey:
        Tenant.objects.filter(pk=tenant.pk, nwc_url=tenant.nwc_url).update(
            nwc_error=sentence
        )


def _connection_of(tenant: Tenant) -> str:
    """Return the key that identifies the tenant's present connection, "" for none."""
    try:
        url = tenant.nwc_url.reveal()
        return parse_nwc_url(url, private_allowed=True).client_pubkey if url else ""
    except (InvalidWalletUrl, Undecryptable):
        return ""
