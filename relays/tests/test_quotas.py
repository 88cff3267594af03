"""Quotas of free relays, and of paid relays before the first payment."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.exceptions import FreeRelayQuota, NewRelayQuota, UnpaidRelayQuota
from relays.models import Relay
from relays.services import lifecycle
from relays.services.quotas import MAX_DELETED_PER_DAY
from relays.tests.factories import RelayFactory
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]


@pytest.fixture
def tenant():
    return TenantFactory()


@pytest.fixture(autouse=True)
def _quotas(settings):
    settings.QUOTA_FREE_RELAYS = 2
    settings.QUOTA_UNPAID_RELAYS = 3
    settings.QUOTA_UNPAID_CENTS = 5_000


def create(tenant, plan, **options) -> Relay:
    name = f"relay{Relay.objects.count()}"
    return lifecycle.create_relay(
        tenant_id=tenant.pk, subdomain=name, plan_id=plan, **options
    )


def pay(tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(first_paid_at=timezone.now())


def test_key_gets_only_a_few_free_relays(tenant):
    for _ in range(2):
        create(tenant, "free")

    with pytest.raises(FreeRelayQuota, match="at most 2 free relays"):
        create(tenant, "free")

    assert Relay.objects.count() == 2
    assert create(TenantFactory(), "free").pk


def test_relay_that_is_off_still_counts(tenant):
    for _ in range(2):
        lifecycle.deactivate_relay(relay_id=create(tenant, "free").pk)

    with pytest.raises(FreeRelayQuota):
        create(tenant, "free")


def test_deleted_relay_makes_room_for_another(tenant):
    free = [create(tenant, "free") for _ in range(2)]
    paid = [create(tenant, "basic") for _ in range(3)]

    for relay in (free[0], paid[0]):
        lifecycle.delete_relay(relay_id=relay.pk)

    assert create(tenant, "free").pk and create(tenant, "basic").pk
    for plan in ("free", "basic"):
        with pytest.raises((FreeRelayQuota, UnpaidRelayQuota)):
            create(tenant, plan)


def test_payment_does_not_raise_the_quota_of_free_relays(tenant):
    pay(tenant)
    for _ in range(2):
        create(tenant, "free")

    with pytest.raises(FreeRelayQuota):
        create(tenant, "free")


def test_fresh_key_gets_only_a_few_relays_on_credit(tenant):
    for _ in range(3):
        lifecycle.deactivate_relay(relay_id=create(tenant, "basic").pk)

    with pytest.raises(UnpaidRelayQuota, match="Pay the first invoice") as refusal:
        create(tenant, "basic")

    assert "at most 3 paid relays, on or off, for at most 50.00 USD" in str(refusal)
    pay(tenant)
    assert create(tenant, "basic").pk


def test_fresh_key_gets_only_a_limited_sum_on_credit(tenant):
    for _ in range(2):
        create(tenant, "growth")

    with pytest.raises(UnpaidRelayQuota):
        create(tenant, "basic")

    pay(tenant)
    assert create(tenant, "growth").pk


def test_plan_changes_cannot_exceed_what_new_relays_cannot(tenant):
    create(tenant, "growth")
    first, second = create(tenant, "basic"), create(tenant, "basic")
    free = RelayFactory(tenant=tenant, plan_id="free")

    for relay in (first, free):
        with pytest.raises(UnpaidRelayQuota):
            lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    lifecycle.change_plan(relay_id=first.pk, plan_id="free")
    with pytest.raises(FreeRelayQuota):
        lifecycle.change_plan(relay_id=second.pk, plan_id="free")

    second.refresh_from_db()
    assert second.plan_id == "basic"
    lifecycle.deactivate_relay(relay_id=second.pk)


def test_cheaper_paid_plan_is_allowed_beyond_the_quota(tenant, settings):
    relay = create(tenant, "growth")
    settings.QUOTA_UNPAID_RELAYS = settings.QUOTA_UNPAID_CENTS = 0

    lifecycle.change_plan(relay_id=relay.pk, plan_id="basic")

    assert Relay.objects.get().plan_id == "basic"


def test_relays_from_before_the_quota_are_switched_on_and_edited(tenant, settings):
    relay = create(tenant, "free")
    lifecycle.deactivate_relay(relay_id=relay.pk)
    settings.QUOTA_FREE_RELAYS = 0

    lifecycle.activate_relay(relay_id=relay.pk)
    lifecycle.update_relay_and_plan(relay_id=relay.pk, plan_id="free", name="New")

    assert Relay.objects.get().name == "New"


def test_staff_may_ignore_quotas(tenant, settings):
    settings.QUOTA_FREE_RELAYS = settings.QUOTA_UNPAID_RELAYS = 0

    relay = create(tenant, "free", ignore_quotas=True)
    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth", ignore_quotas=True)

    assert Relay.objects.get().plan_id == "growth"


def test_creating_and_deleting_in_a_loop_ends_for_a_day(tenant):
    """zooid keeps the tables of each relay that it has ever had."""
    for _ in range(MAX_DELETED_PER_DAY):
        lifecycle.delete_relay(relay_id=create(tenant, "free").pk)

    for plan in ("free", "basic"):
        with pytest.raises(NewRelayQuota) as caught:
            create(tenant, plan)
    assert 86_000 < caught.value.retry_after <= 86_400
    assert create(tenant, "free", ignore_quotas=True).pk
    assert create(TenantFactory(), "free").pk
    pay(tenant)
    assert create(tenant, "basic").pk
    with time_machine.travel(timezone.now() + timedelta(days=1, seconds=1)):
        assert create(tenant, "free").pk
