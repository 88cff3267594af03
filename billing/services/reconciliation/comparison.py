"""Comparison of the listed subscriptions with the relays, for many tenants at once.

A tenant that was synced after the list was begun is left out: it may be listed as it
was before. So is a stale one, which has a sync of its own before it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet
from django.db.models.expressions import Combinable
from django.utils import timezone

from billing.services.dunning.payment_block import blocked_q, on_hold_q
from billing.services.reconciliation.reasons import REASONS
from billing.services.sync.queue import add_missing
from relays.models import Relay
from tenants.models import Tenant


@dataclass(frozen=True)
class Chunk:
    """The tenants with a key above `after`, up to `until` if it is not ""."""

    after: str
    until: str

    def filters(self, column: str) -> dict[str, str]:
        bounds = {f"{column}__gt": self.after, f"{column}__lte": self.until}
        return {name: key for name, key in bounds.items() if key}


def mark_drifted(chunk: Chunk, *, listed_since: datetime) -> tuple[int, dict[str, int]]:
    """Make a sync due for each tenant that it would change.

    Belongs into the caller's transaction. Returns the number of these tenants, in total
    and by reason.
    """
    add_missing(Tenant.objects.filter(**chunk.filters("pk")))
    now = timezone.now()
    tenants, tenant_params = _tenants(chunk, now).query.sql_with_params()
    wanted, wanted_params = _wanted(chunk).query.sql_with_params()
    email_end = f"@{settings.BILLING_EMAIL_DOMAIN}"
    params = [listed_since, email_end, *tenant_params, *wanted_params, now, now]
    with connection.cursor() as cursor:
        cursor.execute(
            _SQL.format(tenants=tenants, wanted=wanted, drifts=_DRIFTS), params
        )
        counts = dict(cursor.fetchall())
    return counts.pop("", 0), counts


def _tenants(chunk: Chunk, now: datetime) -> QuerySet[Tenant, Any]:
    def is_true(condition: Q) -> Combinable:
        return ExpressionWrapper(condition, output_field=BooleanField())

    return (
        Tenant.objects.filter(**chunk.filters("pk"))
        .order_by()
        .annotate(
            is_blocked=is_true(blocked_q(now)),
            is_on_hold=is_true(on_hold_q()),
        )
        .values_list(
            "pk",
            "stripe_customer_id",
            "stripe_subscription_id",
            "display_name",
            "payment_overdue_since",
            "billing_on_hold_since",
            "email",
            "email_confirmed_at",
            "is_blocked",
            "is_on_hold",
        )
    )


def _wanted(chunk: Chunk) -> QuerySet[Relay, Any]:
    # A plan without a price is not in `goal`, but `not_billed`.
    return (
        Relay.objects.billable()
        .filter(**chunk.filters("tenant_id"))
        .order_by()
        .values_list("tenant_id", "plan__stripe_price_id", "plan__price_problem")
        .annotate(quantity=Count("pk"))
    )


_DRIFT = "SELECT '{reason}' AS reason, pubkey FROM ({query}) tenants"
_DRIFTS = " UNION ALL ".join(
    _DRIFT.format(reason=reason, query=query) for reason, query in REASONS.items()
)
_SQL = """
WITH settings (listed_since, email_end) AS (SELECT %s::timestamptz, %s::text),
tenant (
    pubkey, customer, current_id, display_name, overdue_since, on_hold_since,
    email, email_confirmed_at, is_blocked, is_on_hold
) AS ({tenants}),
all_wanted (pubkey, price, problem, quantity) AS ({wanted}),
checked AS MATERIALIZED (
    SELECT tenant.*,
        CASE WHEN email_confirmed_at IS NULL THEN '' ELSE email END AS address,
        sync.customer_name AS given_name, sync.customer_email AS given_email,
        sync.paused_subscription_id AS paused_id, sync.paused_at,
        sync.collection_pause, sync.collection_resumes_at, sync.terms, sync.foreign_ids
    FROM settings, tenant
    JOIN billing_subscriptionsync sync ON sync.tenant_id = pubkey
    WHERE sync.version = sync.synced_version
        AND (sync.synced_at IS NULL OR sync.synced_at < listed_since)
),
wanted AS MATERIALIZED (
    SELECT all_wanted.* FROM all_wanted JOIN checked USING (pubkey)
),
listed AS MATERIALIZED (
    SELECT checked.pubkey, staged.*,
        staged.id IS NOT DISTINCT FROM current_id AS is_kept,
        staged.status IN ('active', 'trialing', 'past_due') AS is_live,
        staged.tenant_pubkey = checked.pubkey
        OR staged.id IS NOT DISTINCT FROM current_id
        OR EXISTS (
            SELECT FROM billing_stripeintent write
            WHERE write.tenant_id = checked.pubkey
                AND staged.id IN (write.stripe_id, write.subject)
        )
        OR EXISTS (
            SELECT FROM billing_invoicecollection collection
            WHERE collection.tenant_id = checked.pubkey
                AND collection.stripe_subscription_id = staged.id
        ) AS is_own
    FROM checked JOIN billing_stagedsubscription staged USING (customer)
),
own AS (SELECT * FROM listed WHERE is_own),
strange AS (SELECT * FROM listed WHERE NOT is_own),
current AS MATERIALIZED (
    SELECT DISTINCT ON (pubkey) * FROM own WHERE is_live OR status = 'paused'
    ORDER BY pubkey, NOT is_kept, NOT is_live, created, id COLLATE "C"
),
possible AS (
    SELECT pubkey, price, CASE WHEN is_blocked OR is_on_hold
        THEN least(quantity, coalesce((items ->> price)::bigint, 0)) ELSE quantity
    END AS quantity
    FROM wanted JOIN checked USING (pubkey) LEFT JOIN current USING (pubkey)
    WHERE price IS NOT NULL AND current.status IS DISTINCT FROM 'paused'
        AND (problem = '' OR coalesce(items ? price, false))
),
goal AS MATERIALIZED (
    SELECT pubkey, jsonb_object_agg(price, quantity) AS items,
        array_agg(price)::text[] AS prices
    FROM possible WHERE quantity > 0 GROUP BY pubkey
),
drift AS MATERIALIZED (SELECT DISTINCT reason, pubkey FROM ({drifts}) drifts),
locked AS (
    SELECT tenant_id FROM billing_subscriptionsync
    WHERE tenant_id IN (SELECT pubkey FROM drift) AND version = synced_version
    ORDER BY tenant_id FOR UPDATE
),
marked AS (
    UPDATE billing_subscriptionsync sync
    SET version = version + 1, stale_since = %s, next_attempt_at = %s
    FROM locked WHERE sync.tenant_id = locked.tenant_id RETURNING sync.tenant_id
)
SELECT reason, count(*) FROM drift JOIN marked ON tenant_id = pubkey GROUP BY reason
UNION ALL SELECT '', count(*) FROM marked
"""
