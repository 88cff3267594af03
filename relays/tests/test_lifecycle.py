from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from relays.models import RESERVED_SUBDOMAINS, Plan, Relay
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from tenants.models import Activity
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

ACTIVE, INACTIVE, DELINQUENT = Relay.Status.values


def create(**fields):
    tenant_id = fields.pop("tenant_id", None) or TenantFactory().pk
    arguments = {"subdomain": "nest", "plan_id": "basic", **fields}
    return lifecycle.create_relay(tenant_id=tenant_id, **arguments)


def code_of(service, **arguments):
    with pytest.raises(CaravelError) as caught:
        service(**arguments)
    return caught.value.code


def test_migration_creates_plans():
    rows = Plan.objects.values_list(
        "id", "amount_cents", "members", "blossom", "livekit"
    )

    assert list(rows) == [
        ("free", 0, 10, False, False),
        ("basic", 500, 100, True, False),
        ("growth", 2500, None, True, True),
    ]


def test_new_relay_is_active_unsynced_and_logged_with_its_plan():
    relay = create(subdomain="Nest", name="The Nest", blossom_enabled=True)

    relay.refresh_from_db()
    assert (relay.subdomain, relay.status, relay.synced) == ("nest", ACTIVE, False)
    activity = Activity.objects.get()
    assert activity.type == "create_relay"
    assert activity.subject_id == str(relay.pk)
    assert activity.snapshot == {
        "plan": "basic",
        "status": "active",
    }


def test_each_relay_has_its_own_secret():
    first, second = create(), create(subdomain="other")

    assert len(first.secret.reveal()) == 64
    assert first.secret.reveal() != second.secret.reveal()
    assert Relay.objects.get(pk=first.pk).secret.reveal() == first.secret.reveal()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"plan_id": "gold"}, "plan-unknown"),
        ({"tenant_id": "0" * 64}, "tenant-not-found"),
        ({"subdomain": "admin"}, "subdomain-reserved"),
        ({"subdomain": "ADMIN"}, "subdomain-reserved"),
        ({"subdomain": ""}, "subdomain-invalid"),
        ({"subdomain": "-a"}, "subdomain-invalid"),
        ({"subdomain": "a-"}, "subdomain-invalid"),
        ({"subdomain": "a.b"}, "subdomain-invalid"),
        ({"subdomain": "a_b"}, "subdomain-invalid"),
        ({"subdomain": "käse"}, "subdomain-invalid"),
        ({"subdomain": "xn--kse-qla"}, "subdomain-invalid"),
        ({"subdomain": "a" * 64}, "subdomain-invalid"),
        ({"subdomain": "nest\n"}, "subdomain-invalid"),
        ({"livekit_enabled": True}, "plan-lacks-feature"),
        ({"plan_id": "free", "blossom_enabled": True}, "plan-lacks-feature"),
        ({"icon": "javascript:alert(1)"}, "icon-invalid"),
        ({"name": "x" * 101}, "name-invalid"),
        ({"status": "inactive"}, "field-unknown"),
        ({"subdomain": None}, "subdomain-invalid"),
        ({"subdomain": 123}, "subdomain-invalid"),
        ({"subdomain": "a\0"}, "subdomain-invalid"),
        ({"plan_id": "bas\0ic"}, "plan-unknown"),
        ({"plan_id": None}, "plan-unknown"),
        ({"name": None}, "name-invalid"),
        ({"name": "a\0"}, "name-invalid"),
        ({"name": "\ud800"}, "name-invalid"),
        ({"name": ["a"]}, "name-invalid"),
        ({"description": "x" * 1001}, "description-invalid"),
        ({"public_join": "yes"}, "public-join-invalid"),
    ],
)
def test_invalid_relay_is_refused_and_nothing_is_saved(fields, code):
    assert code_of(create, **fields) == code
    assert not Relay.objects.exists()
    assert not Activity.objects.exists()


def test_taken_subdomain_is_refused_ignoring_case():
    RelayFactory(subdomain="nest")

    assert code_of(create, subdomain="NEST") == "subdomain-exists"
    assert Relay.objects.count() == 1


def test_subdomain_taken_by_concurrent_request_is_refused(monkeypatch):
    RelayFactory(subdomain="nest")
    monkeypatch.setattr(lifecycle, "validate", lambda relay, fields: None)

    assert code_of(create, subdomain="nest") == "subdomain-exists"
    assert not Activity.objects.exists()


def test_common_names_are_reserved():
    assert {"admin", "api", "www", "relay"} <= RESERVED_SUBDOMAINS


def test_update_changes_fields_and_refuses_plan():
    relay = RelayFactory(synced=True)

    lifecycle.update_relay(relay_id=relay.pk, name="New", public_join=True)

    relay.refresh_from_db()
    assert (relay.name, relay.public_join, relay.synced) == ("New", True, False)
    assert Activity.objects.get().type == "update_relay"
    assert code_of(lifecycle.update_relay, relay_id=relay.pk, plan="free") == (
        "field-unknown"
    )


# Service, status before, and status after or error code.
TRANSITIONS = [
    (lifecycle.activate_relay, ACTIVE, "relay-is-active"),
    (lifecycle.activate_relay, INACTIVE, ACTIVE),
    (lifecycle.activate_relay, DELINQUENT, "relay-is-delinquent"),
    (lifecycle.deactivate_relay, ACTIVE, INACTIVE),
    (lifecycle.deactivate_relay, INACTIVE, "relay-is-inactive"),
    (lifecycle.deactivate_relay, DELINQUENT, INACTIVE),
    (lifecycle.mark_relay_delinquent, ACTIVE, DELINQUENT),
    (lifecycle.mark_relay_delinquent, INACTIVE, "relay-is-inactive"),
    (lifecycle.mark_relay_delinquent, DELINQUENT, "relay-is-delinquent"),
    (lifecycle.reactivate_relay, ACTIVE, "relay-is-active"),
    (lifecycle.reactivate_relay, INACTIVE, "relay-is-inactive"),
    (lifecycle.reactivate_relay, DELINQUENT, ACTIVE),
]


@pytest.mark.parametrize(("service", "before", "after"), TRANSITIONS)
def test_transition_is_logged_or_refused(service, before, after):
    relay = RelayFactory(status=before)

    if after in Relay.Status.values:
        service(relay_id=relay.pk)
        logged = {"plan": "basic", "status": after}
        assert Activity.objects.get().snapshot == logged
    else:
        assert code_of(service, relay_id=relay.pk) == after
        assert not Activity.objects.exists()
        after = before

    relay.refresh_from_db()
    assert relay.status == after


PLAN_CHANGES = [
    (ACTIVE, "growth", (ACTIVE, "growth")),
    (ACTIVE, "free", (ACTIVE, "free")),
    (INACTIVE, "growth", (INACTIVE, "growth")),
    (DELINQUENT, "free", (ACTIVE, "free")),
    (DELINQUENT, "growth", "relay-is-delinquent"),
    (DELINQUENT, "basic", (DELINQUENT, "basic")),
    (ACTIVE, "gold", "plan-unknown"),
]


@pytest.mark.parametrize(("status", "plan_id", "after"), PLAN_CHANGES)
def test_change_of_plan_is_logged_or_refused(status, plan_id, after):
    relay = RelayFactory(status=status)

    if isinstance(after, str):
        assert code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id=plan_id) == (
            after
        )
        after = (status, "basic")
    else:
        lifecycle.change_plan(relay_id=relay.pk, plan_id=plan_id)

    relay.refresh_from_db()
    assert (relay.status, relay.plan_id) == after
    assert Activity.objects.count() == (after != (status, "basic"))


def test_features_that_new_plan_lacks_are_switched_off():
    relay = create(plan_id="growth", blossom_enabled=True, livekit_enabled=True)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="basic")
    relay.refresh_from_db()
    assert (relay.blossom_enabled, relay.livekit_enabled) == (True, False)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="free")
    relay.refresh_from_db()
    assert (relay.blossom_enabled, relay.livekit_enabled) == (False, False)


def test_free_relay_cannot_be_marked_delinquent():
    relay = RelayFactory(plan=Plan.objects.get(pk="free"))

    assert code_of(lifecycle.mark_relay_delinquent, relay_id=relay.pk) == (
        "relay-is-free"
    )


@pytest.mark.parametrize(
    "service",
    [
        lifecycle.activate_relay,
        lifecycle.deactivate_relay,
        lifecycle.mark_relay_delinquent,
        lifecycle.reactivate_relay,
        lifecycle.update_relay,
    ],
)
def test_unknown_relay_is_not_found(service):
    assert code_of(service, relay_id=uuid4()) == "relay-not-found"


def test_billable_relays_are_active_and_paid():
    billable = RelayFactory()
    RelayFactory(status=INACTIVE)
    RelayFactory(status=DELINQUENT)
    RelayFactory(plan=Plan.objects.get(pk="free"))

    assert list(Relay.objects.billable()) == [billable]


@pytest.mark.parametrize("served_only", [True, False])
def test_relays_without_a_reason_are_the_billable_ones(settings, served_only):
    settings.BILLING_SERVED_RELAYS_ONLY = served_only
    for plan in Plan.objects.all():
        for status in Relay.Status:
            for proof in (None, timezone.now()):
                RelayFactory(plan=plan, status=status, first_served_at=proof)

    relays = Relay.objects.select_related("plan")

    found = {relay.pk for relay in relays if not relay.unbilled_reason}
    assert found == {relay.pk for relay in Relay.objects.billable()}
    assert {relay.unbilled_reason for relay in relays} - {""} == {
        "relay-is-free",
        "relay-is-inactive",
        "relay-is-delinquent",
        *(["relay-never-served"] if served_only else []),
    }


# --- tenants with overdue payments, and closed accounts


@pytest.fixture
def overdue_tenant():
    return TenantFactory(payment_overdue_since=timezone.now())


def test_overdue_tenant_can_create_free_relay_but_no_paid_one(overdue_tenant):
    assert code_of(create, tenant_id=overdue_tenant.pk) == "payment-overdue"
    assert not overdue_tenant.relays.exists()

    assert create(tenant_id=overdue_tenant.pk, plan_id="free").status == ACTIVE


@pytest.mark.parametrize(
    ("plan", "code"), [("basic", "payment-overdue"), ("free", None)]
)
def test_overdue_tenant_can_activate_only_free_relay(overdue_tenant, plan, code):
    relay = RelayFactory(
        tenant=overdue_tenant, plan=Plan.objects.get(pk=plan), status=INACTIVE
    )

    if code:
        assert code_of(lifecycle.activate_relay, relay_id=relay.pk) == code
    else:
        lifecycle.activate_relay(relay_id=relay.pk)

    relay.refresh_from_db()
    assert relay.status == (INACTIVE if code else ACTIVE)


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("free", "basic", False),
        ("basic", "growth", False),
        ("growth", "basic", True),
        ("basic", "free", True),
    ],
)
@pytest.mark.parametrize("status", [ACTIVE, INACTIVE])
def test_overdue_tenant_can_only_move_to_cheaper_plan(
    overdue_tenant, old, new, allowed, status
):
    relay = RelayFactory(
        tenant=overdue_tenant, plan=Plan.objects.get(pk=old), status=status
    )

    if allowed:
        lifecycle.change_plan(relay_id=relay.pk, plan_id=new)
    else:
        code = code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id=new)
        assert code == "payment-overdue"

    relay.refresh_from_db()
    assert (relay.plan_id, relay.status) == (new if allowed else old, status)


def test_overdue_tenant_cannot_activate_delinquent_relay_by_deactivating_it_first(
    overdue_tenant,
):
    relay = RelayFactory(tenant=overdue_tenant, status=DELINQUENT)

    lifecycle.deactivate_relay(relay_id=relay.pk)

    assert code_of(lifecycle.activate_relay, relay_id=relay.pk) == "payment-overdue"


def test_overdue_tenant_cannot_return_to_paid_plan_after_free_plan(overdue_tenant):
    relay = RelayFactory(tenant=overdue_tenant, status=DELINQUENT)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="free")

    code = code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id="basic")
    assert code == "payment-overdue"


def test_overdue_tenant_exempt_from_dunning_is_not_blocked():
    tenant = TenantFactory(payment_overdue_since=timezone.now(), dunning_exempt=True)

    relay = create(tenant_id=tenant.pk)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    lifecycle.deactivate_relay(relay_id=relay.pk)
    assert lifecycle.activate_relay(relay_id=relay.pk).status == ACTIVE


@pytest.mark.parametrize("plan", ["free", "basic"])
def test_closed_tenant_cannot_create_or_activate_relay(plan):
    tenant = TenantFactory(closed_at=timezone.now())
    relay = RelayFactory(tenant=tenant, plan=Plan.objects.get(pk=plan), status=INACTIVE)

    assert code_of(create, tenant_id=tenant.pk, plan_id=plan) == "tenant-closed"
    assert code_of(lifecycle.activate_relay, relay_id=relay.pk) == "tenant-closed"


# --- plans that cannot be billed

NO_PRICE, ARCHIVED = {"stripe_price_id": None}, {"price_problem": "archived"}


def unsell(plan_id, problem):
    Plan.objects.filter(pk=plan_id).update(**problem)


@pytest.mark.parametrize("problem", [NO_PRICE, ARCHIVED], ids=str)
def test_relay_is_not_created_on_plan_that_cannot_be_billed(problem):
    unsell("basic", problem)

    assert code_of(create) == "plan-price-missing"
    assert not Relay.objects.exists()
    assert create(plan_id="growth").status == ACTIVE
    assert create(plan_id="free", subdomain="free").status == ACTIVE


@pytest.mark.parametrize("problem", [NO_PRICE, ARCHIVED], ids=str)
def test_relay_on_plan_that_cannot_be_billed_is_switched_off_but_not_on(problem):
    relay = RelayFactory()
    unsell("basic", problem)

    lifecycle.deactivate_relay(relay_id=relay.pk)

    code = code_of(lifecycle.activate_relay, relay_id=relay.pk)
    assert code == "plan-price-missing"
    relay.refresh_from_db()
    assert relay.status == INACTIVE


@pytest.mark.parametrize("problem", [NO_PRICE, ARCHIVED], ids=str)
@pytest.mark.parametrize("old", ["free", "growth"])
def test_relay_is_not_moved_to_plan_that_cannot_be_billed(old, problem):
    relay = RelayFactory(plan=Plan.objects.get(pk=old))
    unsell("basic", problem)

    code = code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id="basic")

    assert code == "plan-price-missing"
    relay.refresh_from_db()
    assert relay.plan_id == old


def test_relay_leaves_plan_that_cannot_be_billed():
    relay = RelayFactory()
    unsell("basic", ARCHIVED)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")

    relay.refresh_from_db()
    assert relay.plan_id == "growth"


def test_plan_in_another_currency_than_the_other_relays_is_not_sold():
    relay = RelayFactory()
    Plan.objects.create(
        id="euro", name="Euro", amount_cents=500, currency="eur", stripe_price_id="p"
    )
    tenant = relay.tenant_id

    code = code_of(create, tenant_id=tenant, plan_id="euro", subdomain="euro")

    assert code == "plan-price-missing"
    lifecycle.change_plan(relay_id=relay.pk, plan_id="euro")
    assert create(tenant_id=tenant, plan_id="euro", subdomain="euro").status == ACTIVE


@pytest.mark.parametrize("status", Relay.Status.values)
def test_deleted_relay_is_off_for_good_but_its_row_stays(status):
    relay = RelayFactory(status=status)

    deleted = lifecycle.delete_relay(relay_id=relay.pk)

    row = Relay.objects.get(pk=relay.pk)
    assert (row.status, row.synced) == (INACTIVE, False)
    assert row.deleted_at == deleted.deleted_at
    assert Activity.objects.get().type == "delete_relay"
    for service in (
        lifecycle.activate_relay,
        lifecycle.reactivate_relay,
        lifecycle.deactivate_relay,
        lifecycle.delete_relay,
    ):
        assert code_of(service, relay_id=relay.pk) == "relay-not-found"
    assert code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id="growth") == (
        "relay-not-found"
    )
    assert code_of(lifecycle.update_relay, relay_id=relay.pk, name="New") == (
        "relay-not-found"
    )


def test_name_of_a_deleted_relay_can_be_used_again_and_again():
    for _ in range(3):
        lifecycle.delete_relay(relay_id=create(subdomain="nest").pk)

    create(subdomain="Nest")

    assert code_of(create, subdomain="nest") == "subdomain-exists"
    assert Relay.objects.filter(subdomain="nest").count() == 4


def test_database_refuses_to_activate_a_deleted_relay():
    relay = RelayFactory()
    lifecycle.delete_relay(relay_id=relay.pk)

    with pytest.raises(IntegrityError), transaction.atomic():
        Relay.objects.filter(pk=relay.pk).update(status=ACTIVE)
