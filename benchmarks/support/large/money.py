"""Invoices, payments and events of a large installation."""

from benchmarks.support.large.rows import insert, literal
from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Reversal,
    Settlement,
    StripeAccount,
    StripeEvent,
    StripeWrite,
    SubscriptionSync,
)
from caravel.core.db.encrypted_text import Secret
from lightning.models import LightningInvoice, NwcPayment

_WALLET = "lpad('7', 64, '7')"


def insert_money(tenants: int) -> None:
    """Insert ten events, six invoices and three payments for each tenant."""
    StripeAccount.objects.create(account_id="acct_example", livemode=False)
    _insert_stripe(tenants)
    _insert_collections(tenants, tenants * 6)
    _insert_lightning(tenants, tenants * 3)
    _insert_payments(tenants)


def _insert_stripe(tenants: int) -> None:
    insert(
        SubscriptionSync,
        tenants,
        tenant="pg_temp.pubkey(i)",
        version="7",
        synced_version="CASE WHEN pg_temp.pick(i, 1, 500) THEN 6 ELSE 7 END",
        failures="CASE WHEN pg_temp.pick(i, 1, 1000) THEN 3 ELSE 0 END",
        last_error_code="CASE WHEN pg_temp.pick(i, 1, 1000) "
        "THEN 'stripe-unavailable' ELSE '' END",
        next_attempt_at=_ago(tenants, "60 days"),
        synced_at="now()",
        stale_since="CASE WHEN pg_temp.pick(i, 1, 500) THEN now() END",
        paused_subscription_id="CASE WHEN pg_temp.pick(i, 2, 2000) "
        "THEN 'sub_' || i ELSE '' END",
        paused_at="CASE WHEN pg_temp.pick(i, 2, 2000) THEN now() END",
        customer_name="'Name ' || i",
    )
    insert(
        StripeWrite,
        tenants * 3,
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        kind="(ARRAY['customer.create', 'subscription.create', "
        "'subscription.cancel'])[1 + i % 3]",
        subject="'subject ' || i",
        generation="1",
        idempotency_key="'key:' || i",
        params="'{}'::jsonb",
        state="CASE WHEN pg_temp.pick(i, 1, 10000) THEN 'pending' ELSE 'succeeded' END",
        stripe_id="'sub_' || i",
        created_at=_ago(tenants * 3, "730 days"),
        resolved_at="CASE WHEN NOT pg_temp.pick(i, 1, 10000) THEN now() END",
    )
    body = '{"id": "evt_1", "object": "event", "data": {"object": {}}}'
    insert(
        StripeEvent,
        tenants * 10,
        id="'evt_' || i",
        type="(ARRAY['invoice.created', 'invoice.finalized', 'invoice.paid', "
        "'invoice.updated', 'customer.subscription.updated'])[1 + i % 5]",
        livemode="false",
        body=literal(body.replace("{}", f'{{"id": "{"x" * 200}"}}')),
        created_at=_ago(tenants * 10, "730 days"),
        received_at=_ago(tenants * 10, "730 days"),
        next_attempt_at=_ago(tenants * 10, "730 days"),
        status="CASE WHEN pg_temp.pick(i, 1, 5000) THEN 'received' "
        "WHEN pg_temp.pick(i, 2, 20000) THEN 'failed' ELSE 'processed' END",
        processed_at="CASE WHEN NOT pg_temp.pick(i, 1, 5000) "
        "AND NOT pg_temp.pick(i, 2, 20000) THEN now() END",
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        outcome="'unchanged'",
        last_error_code="CASE WHEN pg_temp.pick(i, 2, 20000) "
        "THEN 'stripe-not-found' ELSE '' END",
    )


def _insert_collections(tenants: int, number: int) -> None:
    """Insert six months of invoices: one in a hundred of the last month is unpaid."""
    is_last = f"i > {number - tenants}"
    unpaid = f"{is_last} AND pg_temp.pick(i, 1, 100)"
    draft = f"{is_last} AND pg_temp.pick(i, 2, 200)"
    insert(
        InvoiceCollection,
        number,
        stripe_invoice_id="'in_' || i",
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        stripe_customer_id=f"'cus_' || (1 + i % {tenants})",
        stripe_subscription_id=f"'sub_' || (1 + i % {tenants})",
        number="'CAR-' || i",
        billing_reason="'subscription_cycle'",
        currency="'usd'",
        stripe_status=f"CASE WHEN {unpaid} THEN 'open' WHEN {draft} THEN 'draft' "
        "WHEN pg_temp.pick(i, 3, 300) THEN 'void' ELSE 'paid' END",
        total_cents="1000",
        amount_due_cents="1000",
        amount_remaining_cents=f"CASE WHEN {unpaid} THEN 1000 ELSE 0 END",
        period_start=_ago(number, "180 days"),
        period_end=f"{_ago(number, '180 days')} + interval '30 days'",
        created_at=_ago(number, "180 days"),
        finalized_at=_ago(number, "180 days"),
        suspend_at=f"{_ago(number, '180 days')} + interval '7 days'",
        state=f"CASE WHEN {unpaid} THEN 'manual' WHEN {draft} THEN 'draft' "
        "ELSE 'closed' END",
        hold=f"CASE WHEN {draft} AND i % 9 = 0 THEN 'refused' ELSE '' END",
        attempts_started=f"CASE WHEN {unpaid} THEN 1 ELSE 0 END",
        paid_by="(ARRAY['wallet', 'lightning', 'card', 'elsewhere'])[1 + i % 4]",
        next_attempt_at=_ago(number, "180 days"),
        closed_at=f"CASE WHEN NOT ({unpaid} OR {draft}) "
        f"THEN {_ago(number, '180 days')} END",
        wallet_checked_at=f"CASE WHEN NOT ({is_last} AND i % 2 = 0) "
        f"THEN {_ago(number, '180 days')} END",
        last_error_code=f"CASE WHEN {unpaid} AND i % 7 = 0 "
        "THEN 'wallet-silent' ELSE '' END",
    )


def _insert_lightning(tenants: int, number: int) -> None:
    """Insert invoices of our wallet; two in three were for a tenant's wallet."""
    watched = "pg_temp.pick(i, 1, 2000)"
    insert(
        LightningInvoice,
        number,
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        stripe_invoice_id="'in_' || i",
        amount_cents="1000",
        currency="'usd'",
        amount_msat="15000000",
        rate="65000",
        bolt11="'lnbc' || repeat('x', 300) || i",
        payment_hash="pg_temp.pubkey(i)",
        wallet_pubkey=_WALLET,
        issued_at=_ago(number, "180 days"),
        expires_at=f"{_ago(number, '180 days')} + interval '1 hour'",
        state=f"CASE WHEN {watched} THEN 'expired' WHEN i % 9 = 0 THEN 'dead' "
        "ELSE 'settled' END",
        settled_at=f"CASE WHEN NOT {watched} AND i % 9 > 0 THEN now() END",
        next_attempt_at=_ago(number, "180 days"),
        last_error_code=f"CASE WHEN {watched} AND pg_temp.pick(i, 1, 4000) "
        "THEN 'wallet-silent' ELSE '' END",
    )
    insert(
        NwcPayment,
        number * 2 // 3,
        invoice="i",
        tenant=f"pg_temp.pubkey(1 + i % {tenants})",
        stripe_invoice_id="'in_' || i",
        nwc_url=literal(Secret.seal("nostr+walletconnect://example").token),
        wallet_pubkey=_WALLET,
        client_pubkey=_WALLET,
        state=f"CASE WHEN {watched} THEN 'pending' "
        "WHEN i % 20 = 0 THEN 'refused' ELSE 'paid' END",
        request_event_id=f"CASE WHEN NOT {watched} OR pg_temp.pick(i, 1, 4000) "
        "THEN pg_temp.pubkey(-i) END",
        sent_at=f"CASE WHEN NOT {watched} OR pg_temp.pick(i, 1, 4000) THEN now() END",
        code="CASE WHEN i % 20 = 0 THEN 'INSUFFICIENT_BALANCE' ELSE '' END",
        created_at=_ago(number, "180 days"),
        next_attempt_at=_ago(number, "180 days"),
        resolved_at=f"CASE WHEN NOT {watched} THEN now() END",
    )


def _insert_payments(tenants: int) -> None:
    insert(
        Settlement,
        tenants * 2,
        invoice="i",
        collection="'in_' || i",
        state="'marked'",
        marked_cents="1000",
        created_at=_ago(tenants * 2, "180 days"),
        resolved_at="now()",
    )
    insert(
        CardAttempt,
        tenants * 2,
        collection="'in_' || i",
        payment_method="'pm_' || i",
        amount_cents="1000",
        idempotency_key="'card:' || i",
        state="CASE WHEN pg_temp.pick(i, 1, 20000) THEN 'pending' "
        "WHEN i % 20 = 0 THEN 'refused' ELSE 'paid' END",
        code="CASE WHEN i % 20 = 0 THEN 'card_declined' ELSE '' END",
        created_at=_ago(tenants * 2, "180 days"),
        resolved_at="CASE WHEN NOT pg_temp.pick(i, 1, 20000) THEN now() END",
    )
    insert(
        Credit,
        tenants // 2,
        tenant="pg_temp.pubkey(i)",
        reason="'unserved'",
        source="'source ' || i",
        currency="'usd'",
        amount_cents="300",
        collection="'in_' || i",
        state="CASE WHEN pg_temp.pick(i, 1, 500) THEN 'owed' ELSE 'posted' END",
        created_at=_ago(tenants // 2, "180 days"),
        next_attempt_at=_ago(tenants // 2, "180 days"),
        posted_at="CASE WHEN NOT pg_temp.pick(i, 1, 500) THEN now() END",
    )
    insert(
        Reversal,
        tenants // 20,
        stripe_id="'re_' || i",
        kind="CASE WHEN i % 5 = 0 THEN 'dispute' ELSE 'refund' END",
        state="CASE WHEN i % 500 = 0 THEN 'needs_response' "
        "WHEN i % 5 = 0 THEN 'won' ELSE 'succeeded' END",
        tenant="pg_temp.pubkey(i)",
        collection="'in_' || i",
        amount_cents="300",
        currency="'usd'",
        charge_id="'ch_' || i",
        evidence_due_at="CASE WHEN i % 500 = 0 THEN now() + interval '5 days' END",
        created_at=_ago(tenants // 20, "365 days"),
    )


def _ago(number: int, span: str) -> str:
    """Return times spread evenly over a span, the last row's being now."""
    return f"pg_temp.ago(1 - i / {number}.0, interval '{span}')"
