"""Rows of migrations are back after each test that commits."""

import pytest
from django.contrib.auth.models import Permission

from relays.models import Plan
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Tenant


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("_", ["one test", "the next"])
def test_rows_that_a_test_added_changed_or_deleted_are_restored(_):
    assert set(Plan.objects.values_list("pk", "amount_cents")) == {
        ("free", 0),
        ("basic", 500),
        ("growth", 2500),
    }
    assert Permission.objects.filter(codename="add_plan").exists()
    assert not Tenant.objects.exists() and not Activity.objects.exists()

    Activity.objects.create(tenant=RelayFactory(plan_id="basic").tenant)
    Plan.objects.filter(pk="free").delete()
    Plan.objects.create(pk="new", name="New", amount_cents=1)
    Plan.objects.filter(pk="basic").update(amount_cents=7)
    Permission.objects.get(codename="add_plan").delete()
