from uuid import uuid4

import pytest
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from relays.models import RESERVED_SUBDOMAINS, Plan, Relay
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from tenants.models import Activity
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

ACTIVE, INACTIVE, DELINQUENT = Relay.Status.values


def create(**fields):
    tenant_id = fields.pop("tenant_id", None) or TenantFactory().pk
    given = {"subdomain": "nest", "plan_id": "basic", **fields}
    return lifecycle.create_relay(tenant_id=tenant_id, **given)


def code_of(service, **arguments):
    with pytest.raises(CaravelError) as caught:
        service(**arguments)
    return caught.value.code


def test_the_plans_are_there():
    rows = Plan.objects.values_list(
        "id", "amount_cents", "members", "blossom", "livekit", "stripe_price_id"
    )

    assert list(rows) == [
        ("free", 0, 10, False, False, None),
        ("basic", 500, 100, True, False, None),
        ("growth", 2500, None, True, True, None),
    ]


def test_a_new_relay_is_active_unsynced_and_logged_with_its_plan():
    relay = create(subdomain="Nest", name="The Nest", blossom_enabled=True)

    relay.refresh_from_db()
    assert (relay.subdomain, relay.status, relay.synced) == ("nest", ACTIVE, False)
    activity = Activity.objects.get()
    assert activity.type == "create_relay"
    assert activity.subject_id == str(relay.pk)
    assert activity.snapshot == {"plan": "basic", "status": "active"}


def test_each_relay_has_a_secret_of_its_own():
    one, other = create(), create(subdomain="other")

    assert len(one.secret.reveal()) == 64
    assert one.secret.reveal() != other.secret.reveal()
    assert Relay.objects.get(pk=one.pk).secret.reveal() == one.secret.reveal()


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
def test_bad_input_is_refused_with_a_code_and_leaves_nothing(fields, code):
    assert code_of(create, **fields) == code
    assert not Relay.objects.exists()
    assert not Activity.objects.exists()


def test_a_taken_subdomain_is_refused_in_any_case():
    RelayFactory(subdomain="nest")

    assert code_of(create, subdomain="NEST") == "subdomain-exists"
    assert Relay.objects.count() == 1


def test_a_subdomain_taken_in_the_same_instant_is_refused(monkeypatch):
    RelayFactory(subdomain="nest")
    monkeypatch.setattr(lifecycle, "_validate", lambda relay, fields: None)

    assert code_of(create, subdomain="nest") == "subdomain-exists"
    assert not Activity.objects.exists()


def test_reserved_names_are_labels_themselves():
    assert {"admin", "api", "www", "relay"} <= RESERVED_SUBDOMAINS


def test_an_update_changes_fields_but_neither_plan_nor_status():
    relay = RelayFactory(synced=True)

    lifecycle.update_relay(relay_id=relay.pk, name="New", public_join=True)

    relay.refresh_from_db()
    assert (relay.name, relay.public_join, relay.synced) == ("New", True, False)
    assert Activity.objects.get().type == "update_relay"
    assert code_of(lifecycle.update_relay, relay_id=relay.pk, plan="free") == (
        "field-unknown"
    )


# Service × status before → status after, or the code of the refusal.
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
def test_every_transition_is_done_and_logged_or_refused(service, before, after):
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
def test_every_change_of_plan(status, plan_id, after):
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


def test_a_plan_takes_its_switches_along():
    relay = create(plan_id="growth", blossom_enabled=True, livekit_enabled=True)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="basic")
    relay.refresh_from_db()
    assert (relay.blossom_enabled, relay.livekit_enabled) == (True, False)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="free")
    relay.refresh_from_db()
    assert (relay.blossom_enabled, relay.livekit_enabled) == (False, False)


def test_a_free_relay_is_never_delinquent():
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
def test_an_unknown_relay_is_not_found(service):
    assert code_of(service, relay_id=uuid4()) == "relay-not-found"


def test_billable_is_active_and_paid():
    billable = RelayFactory()
    RelayFactory(status=INACTIVE)
    RelayFactory(status=DELINQUENT)
    RelayFactory(plan=Plan.objects.get(pk="free"))

    assert list(Relay.objects.billable()) == [billable]


# --- who owes, and who is closed


@pytest.fixture
def debtor():
    return TenantFactory(payment_overdue_since=timezone.now())


def test_a_debtor_gets_no_new_paid_relay_but_a_free_one(debtor):
    assert code_of(create, tenant_id=debtor.pk) == "payment-overdue"
    assert not debtor.relays.exists()

    assert create(tenant_id=debtor.pk, plan_id="free").status == ACTIVE


@pytest.mark.parametrize(
    ("plan", "code"), [("basic", "payment-overdue"), ("free", None)]
)
def test_a_debtor_activates_only_what_is_free(debtor, plan, code):
    relay = RelayFactory(tenant=debtor, plan=Plan.objects.get(pk=plan), status=INACTIVE)

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
def test_a_debtor_moves_to_cheaper_plans_only(debtor, old, new, allowed, status):
    relay = RelayFactory(tenant=debtor, plan=Plan.objects.get(pk=old), status=status)

    if allowed:
        lifecycle.change_plan(relay_id=relay.pk, plan_id=new)
    else:
        code = code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id=new)
        assert code == "payment-overdue"

    relay.refresh_from_db()
    assert (relay.plan_id, relay.status) == (new if allowed else old, status)


def test_there_is_no_way_round_through_inactive(debtor):
    relay = RelayFactory(tenant=debtor, status=DELINQUENT)

    lifecycle.deactivate_relay(relay_id=relay.pk)

    assert code_of(lifecycle.activate_relay, relay_id=relay.pk) == "payment-overdue"


def test_nor_through_the_free_plan(debtor):
    relay = RelayFactory(tenant=debtor, status=DELINQUENT)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="free")

    code = code_of(lifecycle.change_plan, relay_id=relay.pk, plan_id="basic")
    assert code == "payment-overdue"


def test_who_is_exempt_is_refused_nothing():
    tenant = TenantFactory(payment_overdue_since=timezone.now(), dunning_exempt=True)

    relay = create(tenant_id=tenant.pk)

    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    lifecycle.deactivate_relay(relay_id=relay.pk)
    assert lifecycle.activate_relay(relay_id=relay.pk).status == ACTIVE


@pytest.mark.parametrize("plan", ["free", "basic"])
def test_who_is_closed_gets_no_relay(plan):
    tenant = TenantFactory(closed_at=timezone.now())
    relay = RelayFactory(tenant=tenant, plan=Plan.objects.get(pk=plan), status=INACTIVE)

    assert code_of(create, tenant_id=tenant.pk, plan_id=plan) == "tenant-closed"
    assert code_of(lifecycle.activate_relay, relay_id=relay.pk) == "tenant-closed"
