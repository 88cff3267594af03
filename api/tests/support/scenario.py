"""Several tenants with something of everything, and what of it is whose."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from api.tests.support.client import Person
from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.sync import sync_tenant
from caravel.nostr import generate_secret_key, npub, pubkey_of
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from relays.models import Relay
from relays.services.lifecycle import (
    create_relay,
    deactivate_relay,
    mark_relay_delinquent,
)
from sandbox.stripe.testing import Sandbox
from sandbox.wallets import Wallets
from sandbox.zooid import Zooid
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, set_wallet, update_tenant

#: What is the same for all, or no text that anybody is told.
_COMMON = {"nwc_url", "secret", "preimage", "wallet_pubkey"}


@dataclass
class Resident:
    """A tenant; `texts` are those by which something of theirs would be known."""

    name: str
    person: Person = field(default_factory=Person)
    texts: set[str] = field(default_factory=set)
    preimages: set[str] = field(default_factory=set, repr=False)

    @property
    def pubkey(self) -> str:
        return self.person.pubkey

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.pubkey)


@dataclass
class World:
    """Who there is; `ids` are real ones by the name of the parameter they are for."""

    residents: list[Resident]
    stranger: Person
    admin: Person
    #: A wallet that can pay, for whoever wants to connect one.
    wallet_url: str = field(repr=False)
    ids: dict[str, list[str]] = field(default_factory=dict)
    owners: dict[str, Resident] = field(default_factory=dict, repr=False)
    #: Subdomains that are taken, which anybody may find out.
    taken: list[str] = field(default_factory=list)

    def add(self, kind: str, id: str, owner: Resident) -> None:
        """Make an id known, and whose it is."""
        self.ids.setdefault(kind, []).append(id)
        self.owners[id] = owner
        owner.texts.add(id)

    def first_ids(self, kind: str) -> list[str]:
        """Return an id of each owner's."""
        first: dict[str, str] = {}
        for id in self.ids[kind]:
            owner = self.owners.get(id)
            first.setdefault(owner.name if owner else "", id)
        return [*first.values()]

    def forbidden(self, person: Person | None) -> set[str]:
        """Return what must not be in an answer to somebody, or nobody."""
        if person is self.admin:
            return set()
        others = [each for each in self.residents if each.person is not person]
        return {text for other in others for text in other.texts}


def build(*, admin: Person, sandbox: Sandbox, wallets: Wallets, zooid: Zooid) -> World:
    """Return a world in which each tenant is in another state."""
    payer = wallets.create("payer", balance_msat=10**10)
    names = ("asking", "paid", "owing", "closed")
    residents = [_resident(name, zooid) for name in names]
    world = World(residents, Person(), admin, payer.url)
    asking, paid, owing, closed = residents
    for each in (asking, paid, owing):
        _bill(each)
    get_or_issue_bolt11(invoice_id=_invoice(asking).pk)
    _pay(paid, wallets)
    _suspend(owing)
    Tenant.objects.filter(pk=closed.pubkey).update(closed_at=timezone.now())
    for each in residents:
        _take_up(world, each)
    for each in (asking, paid, owing):
        _add_at_stripe(world, each, sandbox)
    _forget_what_is_common(residents)
    world.ids["plan_id"] = ["free", "basic", "growth"]
    return world


def _resident(name: str, zooid: Zooid) -> Resident:
    resident = Resident(name)
    canary = f"canary-{name}"
    get_or_create_tenant(pubkey=resident.pubkey)
    update_tenant(
        pubkey=resident.pubkey,
        email=f"{canary}@mail.example",
        display_name=f"{canary} display",
    )
    secret = generate_secret_key()
    url = f"nostr+walletconnect://{pubkey_of(secret)}?relay=wss://{canary}.example"
    set_wallet(
        pubkey=resident.pubkey,
        nwc_url=f"{url}&secret={secret}",
        alias=f"{canary} wallet",
        hosts=f"{canary}.example",
    )
    Tenant.objects.filter(pk=resident.pubkey).update(
        nwc_error=f"{canary} error", autopay_paused=True
    )
    for plan in ("free", "basic", "growth"):
        relay = create_relay(
            tenant_id=resident.pubkey,
            subdomain=f"{canary}-{plan}",
            plan_id=plan,
            name=f"{canary} name",
            icon=f"https://{canary}.example/icon.png",
            description=f"{canary} description",
        )
        members = [pubkey_of(generate_secret_key()) for _ in range(2)]
        zooid.set_members(relay.pk, members)
        resident.texts |= {*members}
    deactivate_relay(relay_id=relay.pk)
    Relay.objects.filter(pk=relay.pk).update(sync_error=f"{canary} sync error")
    return resident


def _bill(resident: Resident) -> None:
    sync_tenant(tenant_id=resident.pubkey)
    collect_invoice(invoice_id=_invoice(resident).pk)


def _invoice(resident: Resident) -> InvoiceCollection:
    return InvoiceCollection.objects.get(tenant=resident.pubkey)


def _add_at_stripe(world: World, resident: Resident, sandbox: Sandbox) -> None:
    """Add an invoice that is not collected by us, and one that is void."""
    api, customer = sandbox.client().v1, str(resident.tenant.stripe_customer_id)
    for is_void in (False, True):
        made = api.invoices.create({"customer": customer, "auto_advance": False})
        api.invoice_items.create(
            {
                "customer": customer,
                "invoice": made.id,
                "currency": "usd",
                "amount": 300,
                "description": f"canary-{resident.name} extra",
            }
        )
        if is_void:
            api.invoices.finalize_invoice(made.id)
            api.invoices.void_invoice(made.id)
        world.add("invoice_id", str(made.id), resident)


def _pay(resident: Resident, wallets: Wallets) -> None:
    invoice = _invoice(resident)
    offered = get_or_issue_bolt11(invoice_id=invoice.pk)
    wallets.ledger.pay("payer", offered.bolt11)
    check_invoice(invoice_id=offered.pk)
    collect_invoice(invoice_id=invoice.pk)
    settled = LightningInvoice.objects.get(pk=offered.pk)
    assert settled.preimage and _invoice(resident).stripe_status == "paid"
    resident.preimages.add(settled.preimage.reveal())


def _suspend(resident: Resident) -> None:
    since = timezone.now() - timedelta(days=1)
    InvoiceCollection.objects.filter(tenant=resident.pubkey).update(suspend_at=since)
    Tenant.objects.filter(pk=resident.pubkey).update(
        payment_overdue_since=since, past_due_at=since
    )
    mark_relay_delinquent(relay_id=Relay.objects.get(subdomain="canary-owing-basic").pk)


def _take_up(world: World, resident: Resident) -> None:
    """Make the resident's ids known, and each text that is in a row of theirs."""
    world.add("pubkey", resident.pubkey, resident)
    world.add("pubkey", npub(resident.pubkey), resident)
    relays = Relay.objects.filter(tenant=resident.pubkey)
    invoices = InvoiceCollection.objects.filter(tenant=resident.pubkey)
    for relay in relays:
        world.add("relay_id", str(relay.pk), resident)
        world.taken.append(relay.subdomain)
    for invoice in [*invoices] * 4:  # there is more to it than to those at Stripe only
        world.add("invoice_id", invoice.pk, resident)
    offered = LightningInvoice.objects.filter(tenant=resident.pubkey)
    for row in [resident.tenant, *relays, *invoices, *offered]:
        resident.texts |= _texts(row)


def _texts(row: Any) -> set[str]:
    names = {each.attname for each in row._meta.fields} - _COMMON
    values = [getattr(row, name) for name in names]
    telling = re.compile(r".{13,}|.*canary.*", re.DOTALL)
    return {
        str(value)
        for value in values
        if isinstance(value, UUID)
        or (isinstance(value, str) and telling.fullmatch(value))
    }


def _forget_what_is_common(residents: list[Resident]) -> None:
    for each in residents:
        others = [other.texts for other in residents if other is not each]
        each.texts -= set().union(*others)
