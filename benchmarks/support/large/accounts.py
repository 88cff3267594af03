"""Tenants, relays and messages of a large installation."""

from benchmarks.support.large.rows import insert, literal
from caravel.core.db.encrypted_text import Secret
from caravel.nostr import generate_secret_key
from relays.models import Plan, Relay, RelayExport, RelaySync
from tenants.models import (
    Activity,
    EmailConfirmation,
    Notice,
    Tenant,
    UsedAuthEvent,
)

_TWO_YEARS = "interval '730 days'"


def insert_accounts(tenants: int) -> None:
    """Insert tenants, with 1.2 relays, five notices and six activities each."""
    for number, plan in enumerate(Plan.objects.paid()):
        Plan.objects.filter(pk=plan.pk).update(stripe_price_id=f"price_{number}")
    _insert_tenants(tenants)
    _insert_relays(tenants, tenants * 6 // 5)
    _insert_messages(tenants)


def _insert_tenants(number: int) -> None:
    wallet = literal(Secret.seal("nostr+walletconnect://example").token)
    insert(
        Tenant,
        number,
        pubkey="pg_temp.pubkey(i)",
        display_name="CASE WHEN pg_temp.pick(i, 1, 3) THEN '' ELSE 'Name ' || i END",
        email="CASE WHEN pg_temp.pick(i, 2, 3) "
        "THEN 'user' || i || '@example.com' ELSE '' END",
        nwc_url=f"CASE WHEN pg_temp.pick(i, 3, 2) THEN {wallet} ELSE '' END",
        nwc_error="''",
        stripe_customer_id="CASE WHEN i % 5 > 0 THEN 'cus_' || i END",
        stripe_subscription_id="CASE WHEN i % 5 > 1 THEN 'sub_' || i END",
        past_due_at="CASE WHEN pg_temp.pick(i, 4, 100) THEN now() END",
        payment_overdue_since="CASE WHEN pg_temp.pick(i, 5, 200) THEN now() END",
        billing_on_hold_since="CASE WHEN pg_temp.pick(i, 6, 1000) THEN now() END",
        autopay_paused="pg_temp.pick(i, 7, 100)",
        dunning_exempt="pg_temp.pick(i, 8, 1000)",
        first_paid_at="CASE WHEN i % 5 > 1 THEN now() END",
        created_at=f"pg_temp.ago(1 - i / {number}.0, {_TWO_YEARS})",
        closed_at="CASE WHEN pg_temp.pick(i, 9, 30) THEN now() END",
    )


def _insert_relays(tenants: int, number: int) -> None:
    insert(
        Relay,
        number,
        id="pg_temp.uuid(i)",
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        subdomain="'relay-' || i",
        name="'Relay ' || i",
        plan="(ARRAY['free', 'basic', 'basic', 'growth'])[1 + i % 4]",
        status="CASE WHEN pg_temp.pick(i, 1, 10) THEN 'inactive' "
        "WHEN pg_temp.pick(i, 2, 100) THEN 'delinquent' ELSE 'active' END",
        secret=literal(Secret.seal(generate_secret_key()).token),
        synced="NOT pg_temp.pick(i, 3, 1000)",
        first_served_at="CASE WHEN NOT pg_temp.pick(i, 4, 300) THEN now() END",
        served_at="now()",
        people="i % 90",
        people_counted_at="pg_temp.ago((i % 1000) / 990.0, interval '1 day')",
        delinquent_since="CASE WHEN pg_temp.pick(i, 2, 100) THEN now() END",
        export_offer_at="CASE WHEN pg_temp.pick(i, 2, 100) "
        "THEN now() + interval '5 days' END",
        deletion_at="CASE WHEN pg_temp.pick(i, 2, 100) "
        "THEN now() + interval '30 days' END",
        created_at=f"pg_temp.ago(1 - i / {number}.0, {_TWO_YEARS})",
        deleted_at="CASE WHEN pg_temp.pick(i, 1, 20) THEN now() END",
    )
    # A sync every few minutes fails, and one is new.
    insert(
        RelaySync,
        number,
        relay="pg_temp.uuid(i)",
        version="3",
        synced_version="CASE WHEN pg_temp.pick(i, 3, 1000) THEN 2 ELSE 3 END",
        failures="CASE WHEN pg_temp.pick(i, 3, 2000) THEN 4 ELSE 0 END",
        last_error_code="CASE WHEN pg_temp.pick(i, 3, 2000) "
        "THEN 'zooid-unavailable' ELSE '' END",
        next_attempt_at="CASE WHEN pg_temp.pick(i, 3, 2000) "
        f"THEN now() + interval '5 minutes' ELSE {_ago(number, '30 days')} END",
        acknowledged=literal(Secret.seal('{"schema": "example"}').token),
        acknowledged_at="now()",
        host="'relay-' || i || '.relays.example'",
        probed_at="pg_temp.ago((i % 1000) / 980.0, interval '15 minutes')",
        probe_failures="CASE WHEN pg_temp.pick(i, 5, 500) THEN 2 ELSE 0 END",
    )
    insert(
        RelayExport,
        number // 20,
        relay="pg_temp.uuid(i)",
        state="CASE WHEN i % 500 = 0 THEN 'waiting' "
        "ELSE (ARRAY['done', 'expired', 'expired', 'failed'])[1 + i % 4] END",
        created_at=_ago(number // 20, "365 days"),
        expires_at="CASE WHEN i % 500 > 0 AND i % 4 = 0 "
        "THEN now() + interval '9 days' END",
    )


def _insert_messages(tenants: int) -> None:
    insert(
        Notice,
        tenants * 5,
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        kind="(ARRAY['invoice', 'payment', 'reminder-3', 'suspended'])[1 + i % 4]",
        subject="'in_' || i",
        title="'Your invoice ' || i",
        text="repeat('Please pay. ', 20)",
        state="CASE WHEN pg_temp.pick(i, 1, 5000) THEN 'waiting' "
        "WHEN pg_temp.pick(i, 2, 2000) THEN 'failed' ELSE 'sent' END",
        created_at=_ago(tenants * 5, "730 days"),
        next_attempt_at=_ago(tenants * 5, "730 days"),
        sent_at="CASE WHEN NOT pg_temp.pick(i, 1, 5000) "
        "AND NOT pg_temp.pick(i, 2, 2000) THEN now() END",
        last_error_code="CASE WHEN pg_temp.pick(i, 2, 2000) "
        "THEN 'not-delivered' ELSE '' END",
        message_id="'<' || i || '@caravel.example>'",
    )
    insert(
        Activity,
        tenants * 6,
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        type="(ARRAY['create_relay', 'update_relay', 'complete_relay_sync', "
        "'activate_relay', 'update_tenant'])[1 + i % 5]",
        subject_type="CASE WHEN i % 5 = 4 THEN 'tenant' ELSE 'relay' END",
        subject_id=f"pg_temp.uuid(1 + i % {tenants * 6 // 5})::text",
        created_at=_ago(tenants * 6, "730 days"),
    )
    insert(
        EmailConfirmation,
        tenants // 3,
        tenant="pg_temp.pubkey(i)",
        address="'user' || i || '@example.com'",
        mailbox="'user' || i || '@example.com'",
        state="CASE WHEN pg_temp.pick(i, 1, 1000) THEN 'waiting' ELSE 'sent' END",
        sent_at=_ago(tenants // 3, "730 days"),
        next_attempt_at=_ago(tenants // 3, "730 days"),
    )
    insert(
        UsedAuthEvent,
        tenants // 5,
        event_id="pg_temp.pubkey(i)",
        expires_at=_ago(tenants // 5, "20 minutes"),
    )


def _ago(number: int, span: str) -> str:
    """Return times spread evenly over a span, the last row's being now."""
    return f"pg_temp.ago(1 - i / {number}.0, interval '{span}')"
