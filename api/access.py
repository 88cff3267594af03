"""Whose things a caller sees: its own, or all if it is an operator's key.

What is somebody else's is not found, exactly as what does not exist.
"""

from uuid import UUID

from billing.exceptions import UnknownInvoice
from billing.services.invoice_views.invoices import (
    InvoiceDetails,
    get_invoice,
    has_invoice,
)
from caravel.nostr import InvalidPubkey, parse_pubkey
from relays.exceptions import UnknownRelay
from relays.models import Relay, RelayQuerySet
from tenants.authentication import Caller
from tenants.exceptions import UnknownTenant
from tenants.models import Tenant


def tenant_for(caller: Caller, pubkey: str) -> Tenant:
    """Return a tenant, named by hex or npub. Raises UnknownTenant."""
    try:
        found = Tenant.objects.filter(pk=parse_pubkey(pubkey)).first()
    except InvalidPubkey:
        found = None
    if found is None or not _sees(caller, found.pk):
        raise UnknownTenant("There is no such tenant.")
    return found


def relays_for(caller: Caller) -> RelayQuerySet:
    """Return the relays that a caller sees, with their plans."""
    relays = Relay.objects.select_related("plan")
    return relays if caller.is_admin else relays.filter(tenant=caller.pubkey)


def relay_for(caller: Caller, relay_id: UUID) -> Relay:
    """Return a relay. Raises UnknownRelay."""
    found = relays_for(caller).filter(pk=relay_id).first()
    if found is None:
        raise UnknownRelay("There is no such relay.")
    return found


def invoice_for(caller: Caller, invoice_id: str) -> InvoiceDetails:
    """Return an invoice. Raises UnknownInvoice or a StripeError; may wait for Stripe.

    Stripe is not asked about what is not the caller's: nobody can have it asked in
    vain, or tell what exists by how long it takes.
    """
    if not caller.is_admin and not has_invoice(caller.pubkey, invoice_id):
        raise UnknownInvoice("There is no such invoice.")
    found = get_invoice(invoice_id)
    if not _sees(caller, found.tenant_pubkey):
        raise UnknownInvoice("There is no such invoice.")
    return found


def _sees(caller: Caller, pubkey: str) -> bool:
    return caller.is_admin or caller.pubkey == pubkey
