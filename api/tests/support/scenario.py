"""Several tenants with relays and invoices, and the texts that belong to each."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from api.tests.support.client import ApiClient
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
from relays.tests.factories import DoneExportFactory
from sandbox.stripe.client.testing import Sandbox
from sandbox.wallets import Wallets
from sandbox.zooid import Zooid
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant, set_wallet, update_tenant

#: Columns that no response contains, or whose values tenants share.
_IGNORED_COLUMNS = {"nwc_url", "secret", "preimage", "wallet_pubkey"}


@dataclass
class ScenarioTenant:
    """A tenant; `texts` in another caller's response would reveal its data."""

    name: str
    client: ApiClient = field(default_factory=ApiClient)
    texts: set[str] = field(default_factory=set)
    preimages: set[str] = field(default_factory=set, repr=False)

    @property
    def pubkey(self) -> str:
        return self.client.pubkey

    @property
    def row(self) -> Tenant:
        return Tenant.objects.get(pk=self.pubkey)


@dataclass
class Scenario:
    """All callers, and existing `ids` by the name of their path parameter."""

    tenants: list[ScenarioTenant]
    stranger: ApiClient
    admin: ApiClient
    #: A wallet that can pay, for requests that connect one.
    wallet_url: str = field(repr=False)
    ids: dict[str, list[str]] = field(default_factory=dict)
    owners: dict[str, ScenarioTenant] = field(default_factory=dict, repr=False)
    #: Public knowledge: an error tells whether a subdomain is taken.
    taken_subdomains: list[str] = field(default_factory=list)

    def add(self, kind: str, id: str, owner: ScenarioTenant) -> None:
        """Register an id and its owner."""
        self.ids.setdefault(kind, []).append(id)
        self.owners[id] = owner
        owner.texts.add(id)

    def one_id_per_owner(self, kind: str) -> list[str]:
        """Return one id of each owner."""
        first: dict[str, str] = {}
        for id in self.ids[kind]:
            owner = self.owners.get(id)
            first.setdefault(owner.name if owner else "", id)
        return [*first.values()]

    def forbidden_texts(self, client: ApiClient | None) -> set[str]:
        """Return texts that must not reach a client, or an unsigned caller."""
        if client is self.admin:
            return set()
        others = [each for each in self.tenants if each.client is not client]
        return {text for other in others for text in other.texts}


def build_scenario(
    *, admin: ApiClient, sandbox: Sandbox, wallets: Wallets, zooid: Zooid
) -> Scenario:
    """Create tenants, each in a different state."""
    payer = wallets.create("payer", balance_msat=10**10)
    names = ("unpaid", "paid", "owing", "closed")
    tenants = [_create_tenant(name, zooid) for name in names]
    scenario = Scenario(tenants, ApiClient(), admin, payer.url)
    unpaid, paid, owing, closed = tenants
    for each in (unpaid, paid, owing):
        _create_invoice(each)
    get_or_issue_bolt11(invoice_id=_invoice(unpaid).pk)
    _pay(paid, wallets)
    _suspend(owing)
    Tenant.objects.filter(pk=closed.pubkey).update(closed_at=timezone.now())
    for each in tenants:
        _register(scenario, each)
    for each in (unpaid, paid, owing):
        _add_stripe_only_invoices(scenario, each, sandbox)
    _drop_common_texts(tenants)
    scenario.ids["plan_id"] = ["free", "basic", "growth"]
    return scenario


def _create_tenant(name: str, zooid: Zooid) -> ScenarioTenant:
    tenant = ScenarioTenant(name)
    canary = f"canary-{name}"
    get_or_create_tenant(pubkey=tenant.pubkey)
    update_tenant(
        pubkey=tenant.pubkey,
        email=f"{canary}@mail.example",
        display_name=f"{canary} display",
    )
    secret = generate_secret_key()
    url = f"nostr+walletconnect://{pubkey_of(secret)}?relay=wss://{canary}.example"
    set_wallet(
        pubkey=tenant.pubkey,
        nwc_url=f"{url}&secret={secret}",
        alias=f"{canary} wallet",
        hosts=f"{canary}.example",
    )
    Tenant.objects.filter(pk=tenant.pubkey).update(
        nwc_error=f"{canary} error", autopay_paused=True
    )
    for plan in ("free", "basic", "growth"):
        relay = create_relay(
            tenant_id=tenant.pubkey,
            subdomain=f"{canary}-{plan}",
            plan_id=plan,
            name=f"{canary} name",
            icon=f"https://{canary}.example/icon.png",
            description=f"{canary} description",
        )
        members = [pubkey_of(generate_secret_key()) for _ in range(2)]
        zooid.set_members(relay.pk, members)
        tenant.texts |= {*members}
    deactivate_relay(relay_id=relay.pk)
    Relay.objects.filter(pk=relay.pk).update(sync_error=f"{canary} sync error")
    return tenant


def _create_invoice(tenant: ScenarioTenant) -> None:
    sync_tenant(tenant_id=tenant.pubkey)
    collect_invoice(invoice_id=_invoice(tenant).pk)


def _invoice(tenant: ScenarioTenant) -> InvoiceCollection:
    return InvoiceCollection.objects.get(tenant=tenant.pubkey)


def _add_stripe_only_invoices(
    scenario: Scenario, tenant: ScenarioTenant, sandbox: Sandbox
) -> None:
    """Add an invoice that Caravel does not collect, and a void one."""
    api, customer = sandbox.client().v1, str(tenant.row.stripe_customer_id)
    for is_void in (False, True):
        created = api.invoices.create({"customer": customer, "auto_advance": False})
        api.invoice_items.create(
            {
                "customer": customer,
                "invoice": created.id,
                "currency": "usd",
                "amount": 300,
                "description": f"canary-{tenant.name} extra",
            }
        )
        if is_void:
            api.invoices.finalize_invoice(created.id)
            api.invoices.void_invoice(created.id)
        scenario.add("invoice_id", str(created.id), tenant)


def _pay(tenant: ScenarioTenant, wallets: Wallets) -> None:
    invoice = _invoice(tenant)
    issued = get_or_issue_bolt11(invoice_id=invoice.pk)
    wallets.ledger.pay("payer", issued.bolt11)
    check_invoice(invoice_id=issued.pk)
    collect_invoice(invoice_id=invoice.pk)
    settled = LightningInvoice.objects.get(pk=issued.pk)
    assert settled.preimage and _invoice(tenant).stripe_status == "paid"
    tenant.preimages.add(settled.preimage.reveal())


def _suspend(tenant: ScenarioTenant) -> None:
    since = timezone.now() - timedelta(days=1)
    InvoiceCollection.objects.filter(tenant=tenant.pubkey).update(suspend_at=since)
    Tenant.objects.filter(pk=tenant.pubkey).update(
        payment_overdue_since=since, past_due_at=since
    )
    mark_relay_delinquent(relay_id=Relay.objects.get(subdomain="canary-owing-basic").pk)


def _register(scenario: Scenario, tenant: ScenarioTenant) -> None:
    """Register the tenant's ids and every text in its rows."""
    scenario.add("pubkey", tenant.pubkey, tenant)
    scenario.add("pubkey", npub(tenant.pubkey), tenant)
    relays = Relay.objects.filter(tenant=tenant.pubkey)
    invoices = InvoiceCollection.objects.filter(tenant=tenant.pubkey)
    for relay in relays:
        scenario.add("relay_id", str(relay.pk), tenant)
        scenario.taken_subdomains.append(relay.subdomain)
        # So long a number that it is in no other text.
        number = 10**17 + relay.pk.int % 10**17
        export = DoneExportFactory(relay=relay, pk=number)
        scenario.add("export_id", str(export.pk), tenant)
    # Four times as likely to be chosen: these have more states than Stripe-only ones.
    for invoice in [*invoices] * 4:
        scenario.add("invoice_id", invoice.pk, tenant)
    bolt11s = LightningInvoice.objects.filter(tenant=tenant.pubkey)
    for row in [tenant.row, *relays, *invoices, *bolt11s]:
        tenant.texts |= _texts(row)


def _texts(row: Any) -> set[str]:
    names = {each.attname for each in row._meta.fields} - _IGNORED_COLUMNS
    values = [getattr(row, name) for name in names]
    identifying = re.compile(r".{13,}|.*canary.*", re.DOTALL)
    return {
        str(value)
        for value in values
        if isinstance(value, UUID)
        or (isinstance(value, str) and identifying.fullmatch(value))
    }


def _drop_common_texts(tenants: list[ScenarioTenant]) -> None:
    for each in tenants:
        others = [other.texts for other in tenants if other is not each]
        each.texts -= set().union(*others)
