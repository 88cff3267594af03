"""Tenants whose subscriptions are about to renew. Needs django.setup()."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.utils import timezone

from benchmarks.support.month.copies import Rename, Template, changes_of, copy_rows
from billing.clients.stripe.transport import v1
from billing.models import InvoiceCollection, StripeWrite, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.subscriptions.sync import sync_tenant
from caravel.nostr import generate_secret_key, pubkey_of
from relays.models import Plan, Relay, RelaySync
from relays.services.provisioning import configuration
from relays.services.provisioning.configuration import WORDS
from sandbox.demo.system import System
from sandbox.nostr import running_relay
from sandbox.stripe.client.testing import Sandbox, running_sandbox
from sandbox.stripe.clock.periods import DAY, add
from sandbox.wallets import running_wallets
from tenants.models import Tenant

#: Seconds by which the renewals lie in the past: Stripe's clock is behind ours until it
#: jumps to the finalizations, an hour later. Production's processes follow no clock.
_RENEWED_BEFORE = 3_700
#: Seconds that Stripe's clock has until the renewals.
_SECONDS_UNTIL_RENEWAL = 600
BALANCE_MSAT = 10**9
_PLAN = "basic"


@dataclass(frozen=True)
class Payer:
    """A tenant: its key, and the name of its wallet."""

    secret_key: str
    pubkey: str
    wallet: str


def create(system: System, number: int) -> tuple[list[Payer], int]:
    """Create tenants with a relay, a wallet and a paid month; return when it ends.

    No process runs yet: all is written to the state files of the stand-ins.
    """
    payers = [_payer(count) for count in range(number)]
    urls = _open_wallets(system, [payer.wallet for payer in payers])
    with running_sandbox(
        port=system.ports["STRIPE_PORT"],
        state=system.stripe_state,
        api_key=system.env["STRIPE_SECRET_KEY"],
        account=system.stripe_account,
    ) as sandbox:
        renewal_at = _create(sandbox, payers, urls)
    _provision(system)
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.flushdb()
    return payers, renewal_at


def _payer(number: int) -> Payer:
    key = generate_secret_key()
    return Payer(key, pubkey_of(key), f"payer-{number}")


def _open_wallets(system: System, names: Sequence[str]) -> list[str]:
    state = system.var / "sandbox-lightning.sqlite"
    seed = system.env["SANDBOX_SEED"]
    with (
        running_relay(port=system.ports["NOSTR_PORT"]) as relay,
        running_wallets(relay.url, seed=seed, state=state) as wallets,
    ):
        created = wallets.create_many(names, balance_msat=BALANCE_MSAT)
        return [wallet.url for wallet in created]


def _create(sandbox: Sandbox, payers: Sequence[Payer], urls: Sequence[str]) -> int:
    app, first = sandbox.app, changes_of(sandbox.app)
    app.clock.restore(_a_month_ago())
    example = _create_example(payers[0])
    renewal_at = add(app.clock.now(), "month", 1)
    template = Template(app, first, example.pk)
    renames = [
        template.rename(number, payer.pubkey)
        for number, payer in enumerate(payers[1:], 1)
    ]
    template.put_copies(app, renames)
    app.advance(renewal_at - _SECONDS_UNTIL_RENEWAL - app.clock.now())
    _copy_database(example, renames, urls[1:])
    Tenant.objects.filter(pk=example.pk).update(nwc_url=urls[0])
    return renewal_at


def _a_month_ago() -> int:
    """Return when the month began whose end is renewed."""
    end = int(time.time()) - _RENEWED_BEFORE
    starts = (end - days * DAY for days in (31, 30, 29, 28))
    return next(start for start in starts if add(start, "month", 1) >= end)


def _create_example(payer: Payer) -> Tenant:
    """Create a tenant, and have its relay billed and its first invoice paid."""
    now = timezone.now()
    tenant = Tenant.objects.create(pk=payer.pubkey)
    Relay.objects.create(
        tenant=tenant,
        plan=Plan.objects.get(pk=_PLAN),
        subdomain="example",
        name="Example",
        synced=True,
        first_served_at=now,
        served_at=now,
    )
    sync_tenant(tenant_id=tenant.pk)
    invoice = InvoiceCollection.objects.get(tenant=tenant)
    v1().invoices.finalize_invoice(invoice.pk)
    v1().invoices.pay(invoice.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=invoice.pk)
    tenant.refresh_from_db()
    return tenant


def _copy_database(
    example: Tenant, renames: Sequence[Rename], urls: Sequence[str]
) -> None:
    def connect(row: Any, number: int) -> None:
        row.nwc_url = urls[number]

    def rename_relay(row: Any, number: int) -> None:
        row.pk, row.secret = uuid.uuid4(), generate_secret_key()
        row.subdomain = row.name = f"relay-{number}"

    def renew_key(row: Any, number: int) -> None:
        row.idempotency_key = uuid.uuid4().hex

    copy_rows([example], renames, connect)
    copy_rows(list(example.relays.all()), renames, rename_relay)
    copy_rows(list(SubscriptionSync.objects.filter(pk=example.pk)), renames)
    copy_rows(list(StripeWrite.objects.filter(tenant=example)), renames, renew_key)
    copy_rows(list(InvoiceCollection.objects.filter(tenant=example)), renames)


def _provision(system: System) -> None:
    """Have zooid serve all relays as configured."""
    now = timezone.now()
    relays = Relay.objects.select_related("plan", "tenant").prefetch_related("exports")
    configs, syncs = {}, []
    for relay in relays:
        config = configuration.desired(relay)
        assert config is not None
        configs[str(relay.pk)] = {**config, "secret": relay.secret.reveal()}
        syncs.append(
            RelaySync(
                relay=relay,
                version=1,
                synced_version=1,
                acknowledged=json.dumps(config),
                acknowledged_at=now,
                digest=configuration.digest(config),
                host=config["host"],
                words_seen={word: config["info"][word] for word in WORDS},
                probed_at=now,
            )
        )
    RelaySync.objects.all().delete()
    RelaySync.objects.bulk_create(syncs, batch_size=1_000)
    state = {"configs": configs, "members": {}}
    (system.var / "sandbox-zooid.json").write_text(json.dumps(state))
