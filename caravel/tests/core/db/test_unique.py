"""Unique columns that change do not lock out rows with a foreign key to their row.

PostgreSQL locks a row the more strongly if an index that could be the target of a
foreign key changes: unique, without condition or expression.
https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
"""

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, connections, transaction

from billing.models import SubscriptionSync
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

#: Unique columns of rows that others refer to; they never change after the insert.
NEVER_CHANGED = {
    ("lightning_lightninginvoice", "payment_hash"),
    ("tenants_notice", "tenant_id"),
    ("tenants_notice", "subject"),
    ("tenants_notice", "kind"),
}

POSSIBLE_TARGETS = """
    SELECT DISTINCT i.indrelid::regclass::text, a.attname
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indisunique AND i.indimmediate AND NOT i.indisprimary
      AND i.indpred IS NULL AND i.indexprs IS NULL
      AND i.indrelid IN (
        SELECT confrelid FROM pg_constraint WHERE contype = 'f'
      )
"""


@pytest.mark.django_db
def test_no_column_that_changes_is_a_possible_target_of_a_foreign_key():
    with connection.cursor() as cursor:
        cursor.execute(POSSIBLE_TARGETS)
        targets = set(cursor.fetchall())

    ours = {model._meta.db_table for model in apps.get_models() if is_ours(model)}
    assert {target for target in targets if target[0] in ours} == NEVER_CHANGED


def is_ours(model):
    return not model.__module__.startswith("django.")


@pytest.fixture
def other():
    """A second connection, as of another worker."""
    other = connections.create_connection("default")
    yield other
    other.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("column", ["stripe_customer_id", "stripe_subscription_id"])
def test_a_sync_is_marked_while_an_id_of_stripe_is_stored(other, column):
    tenant = TenantFactory()
    mark_stale(tenant_id=tenant.pk)
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(
            f"UPDATE tenants_tenant SET {column} = 'new' WHERE pubkey = %s",
            [tenant.pk],
        )
        with transaction.atomic():
            with connection.cursor() as own:
                own.execute("SET LOCAL lock_timeout = '1s'")
            SubscriptionSync.objects.filter(pk=tenant.pk).delete()
            mark_stale(tenant_id=tenant.pk)
    other.commit()

    assert Tenant.objects.get(**{column: "new"}) == tenant


@pytest.mark.django_db
@pytest.mark.parametrize("column", ["stripe_customer_id", "stripe_subscription_id"])
def test_two_tenants_never_share_an_id_of_stripe(column):
    TenantFactory.create_batch(2, **{column: None})
    TenantFactory(**{column: "one"})
    with pytest.raises(IntegrityError), transaction.atomic():
        TenantFactory(**{column: "one"})
