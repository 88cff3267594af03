"""Comparison of the listed subscriptions with the relays, for many tenants at once.

A tenant that was synced after the list was begun is left out: it may be listed as it
was before. So is a stale one, which has a sync of its own before it.
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, Count, ExpressionWrapper, F, Q
from django.db.models.expressions import Combinable
from django.db.models.sql import Query
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
    checked, checked_params = _checked(chunk, now, listed_since).sql_with_params()
    wanted, wanted_params = _wanted(chunk).sql_with_params()
    email_end = f"@{settings.BILLING_EMAIL_DOMAIN}"
    sql = _SQL.format(checked=checked, wanted=wanted, drifts=_DRIFTS)
    with connection.cursor() as cursor:
        cursor.execute(sql, [email_end, *checked_params, *wanted_params, now, now])
        counts = dict(cursor.fetchall())
    return counts.pop("", 0), counts


def _checked(chunk: Chunk, now: datetime, listed_since: datetime) -> Query:
    """Return the query of the tenants to compare, with the columns of `checked`."""
    in_time = Q(subscription_sync__synced_at=None) | Q(
        subscription_sync__synced_at__lt=listed_since
    )
    # The bounds of both tables, since PostgreSQL does not infer one from the other.
    tenants = Tenant.objects.filter(
        in_time,
        subscription_sync__version=F("subscription_sync__synced_version"),
        **chunk.filters("pk"),
        **chunk.filters("subscription_sync__pk"),
    )
    columns = (
        "pk",
        "stripe_customer_id",
        "stripe_subscription_id",
        "display_name",
        "email",
        "email_confirmed_at",
        "payment_overdue_since",
        "billing_on_hold_since",
        "subscription_sync__customer_name",
        "subscription_sync__customer_email",
        "subscription_sync__paused_subscription_id",
        "subscription_sync__paused_at",
        "subscription_sync__collection_pause",
        "subscription_sync__collection_resumes_at",
        "subscription_sync__terms",
        "subscription_sync__foreign_ids",
    )
    blocks = {
        "is_blocked": _is_true(blocked_q(now)),
        "is_on_hold": _is_true(on_hold_q()),
    }
    return tenants.order_by().annotate(**blocks).values_list(*columns, *blocks).query


def _is_true(condition: Q) -> Combinable:
    return ExpressionWrapper(condition, output_field=BooleanField())


def _wanted(chunk: Chunk) -> Query:
    """Return the query of the relays by tenant and price, which may be missing."""
    relays = (
        Relay.objects.billable()
        .filter(**chunk.filters("tenant_id"))
        .order_by()
        .values_list("tenant_id", "plan__stripe_price_id", "plan__price_problem")
        .annotate(quantity=Count("pk"))
    )
    return relays.query


_DRIFT = "SELECT '{reason}' AS reason, pubkey FROM ({query}) tenants"
_DRIFTS = " UNION ALL ".join(
    _DRIFT.format(reason=reason, query=query) for reason, query in REASONS.items()
)
_SQL = """
WITH settings (email_end) AS (SELECT %s::text),
checked (
    pubkey, customer, current_id, display_name, email, email_confirmed_at,
    overdue_since, on_hold_since, given_name, given_email, paused_id, paused_at,
    collection_pause, collection_resumes_at, terms, foreign_ids, is_blocked, is_on_hold
) AS MATERIALIZED ({checked}),
all_wanted (pubkey, price, problem, quantity) AS ({wanted}),
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
