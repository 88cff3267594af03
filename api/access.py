"""Object-level access: a tenant sees its own objects, an operator sees all.

Another tenant's object raises the same error as a missing one, so a caller cannot find
out what exists.
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
    """Return the tenant with a hex pubkey or npub. Raises UnknownTenant."""
    try:
        tenant = Tenant.objects.filter(pk=parse_pubkey(pubkey)).first()
    except InvalidPubkey:
        tenant = None
    if tenant is None or not _may_see(caller, tenant.pk):
        raise UnknownTenant("There is no such tenant.")
    return tenant


def relays_for(caller: Caller) -> RelayQuerySet:
    """Return the relays visible to the caller, with their plans; no deleted ones."""
    relays = Relay.objects.existing().select_related("plan")
    return relays if caller.is_admin else relays.filter(tenant=caller.pubkey)


def relay_for(caller: Caller, relay_id: UUID) -> Relay:
    """Return one relay. Raises UnknownRelay."""
    relay = relays_for(caller).filter(pk=relay_id).first()
    if relay is None:
        raise UnknownRelay("There is no such relay.")
    return relay


def invoice_for(caller: Caller, invoice_id: str) -> InvoiceDetails:
    """Return one invoice, which may call Stripe.

    Raises UnknownInvoice or a StripeError.
    """
    # Ownership first: a tenant can neither spend our Stripe quota on unknown ids nor
    # tell from the response time that another tenant's invoice exists.
    if not caller.is_admin and not has_invoice(caller.pubkey, invoice_id):
        raise UnknownInvoice("There is no such invoice.")
    invoice = get_invoice(invoice_id)
    if not _may_see(caller, invoice.tenant_pubkey):
        raise UnknownInvoice("There is no such invoice.")
    return invoice


def _may_see(caller: Caller, pubkey: str) -> bool:
    return caller.is_admin or caller.pubkey == pubkey
