"""Subscriptions that name a tenant, though their customer is no tenant's."""

from django.db import connection

from billing.services.invoices.ownership import remember_foreign
from caravel.core.alerts import alert_support

#: Alerts of one run; the next one goes on.
_MAX_ALERTS = 100
_STRANGERS = """
    SELECT named.pubkey, staged.id, staged.customer,
        coalesce(sync.foreign_ids ? staged.id, false) AS is_known
    FROM billing_stagedsubscription staged
    JOIN tenants_tenant named ON named.pubkey = staged.tenant_pubkey
    LEFT JOIN billing_subscriptionsync sync ON sync.tenant_id = named.pubkey
    WHERE staged.status NOT IN ('canceled', 'incomplete_expired') AND NOT EXISTS (
        SELECT FROM tenants_tenant WHERE stripe_customer_id = staged.customer
    )
    ORDER BY is_known, named.pubkey, staged.id LIMIT %s
"""


def alert_strangers() -> int:
    """Alert support to each once, in the caller's transaction; returns their number.

    Nobody looks for them by a tenant's customer, so a tenant may pay twice for the same
    relays, such as one whose customer was created again by hand.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STRANGERS, [_MAX_ALERTS])
        found = cursor.fetchall()
    for tenant_id, subscription_id, customer, is_known in found:
        if not is_known:
            remember_foreign(tenant_id, {subscription_id})
            alert_support(
                "subscription_of_other_customer",
                f"{subscription_id} names the tenant, but its customer is {customer}.",
                tenant=tenant_id,
                subscription=subscription_id,
            )
    return len(found)
