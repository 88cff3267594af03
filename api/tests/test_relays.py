"""Relays over the API: creating, changing, switching; and what is refused."""

from uuid import uuid4

import pytest
from django.utils import timezone

from api.tests.support.client import Person
from billing.tests.factories import InvoiceCollectionFactory
from relays.models import Relay
from relays.services.lifecycle import mark_relay_delinquent
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def birds(tenant) -> Relay:
    """Ann's relay, on the basic plan."""
    return RelayFactory(tenant=tenant, subdomain="birds")


def test_the_plans_are_open_to_all(client):
    listed = client.get("/api/plans").json()
    one = client.get("/api/plans/basic").json()

    assert [plan["id"] for plan in listed["data"]] == ["free", "basic", "growth"]
    assert one["data"] == listed["data"][1]
    assert one["data"]["amount_cents"] == 500
    assert "stripe_price_id" not in one["data"]
    missing = client.get("/api/plans/gold")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")


def test_a_relay_is_created(ann, settings):
    answer = ann.post(
        "/api/relays",
        {"subdomain": "Birds", "plan": "basic", "name": "Birds", "public_join": True},
    )

    assert answer.status == 201
    relay = Relay.objects.get()
    assert answer.data["id"] == str(relay.pk)
    assert answer.data["url"] == f"ws://birds.{settings.RELAY_DOMAIN}"
    assert answer.data["status"] == "active"
    assert answer.data["tenant"] == ann.pubkey == relay.tenant_id
    assert answer.data["public_join"] is True
    assert answer.data["synced"] is False
    assert "secret" not in answer.data
    assert ann.get(f"/api/relays/{relay.pk}").data == answer.data


def test_an_operator_creates_a_relay_for_somebody(ann, ben, admin):
    wanted = {"subdomain": "birds", "plan": "free", "tenant": ann.pubkey}

    assert ben.post("/api/relays", wanted).error == (404, "tenant-not-found")
    assert admin.post("/api/relays", wanted).data["tenant"] == ann.pubkey


def test_who_has_no_account_gets_no_relay(admin):
    wanted = {"subdomain": "birds", "plan": "free"}

    assert Person().post("/api/relays", wanted).error == (404, "tenant-not-found")
    assert admin.post("/api/relays", wanted).error == (404, "tenant-not-found")
    assert not Relay.objects.exists()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, (422, "subdomain-required")),
        ({"subdomain": "birds"}, (422, "plan-required")),
        ({"subdomain": "b_rds", "plan": "free"}, (422, "subdomain-invalid")),
        ({"subdomain": "", "plan": "free"}, (422, "subdomain-invalid")),
        ({"subdomain": "x" * 64, "plan": "free"}, (422, "subdomain-invalid")),
        ({"subdomain": "admin", "plan": "free"}, (422, "subdomain-reserved")),
        ({"subdomain": "taken", "plan": "free"}, (409, "subdomain-exists")),
        ({"subdomain": "birds", "plan": "gold"}, (422, "plan-unknown")),
        ({"subdomain": "birds", "plan": "\ud800"}, (422, "plan-invalid")),
        ({"subdomain": "birds", "plan": None}, (422, "plan-invalid")),
        (
            {"subdomain": "birds", "plan": "free", "blossom_enabled": True},
            (422, "plan-lacks-feature"),
        ),
        (
            {"subdomain": "birds", "plan": "free", "icon": "javascript:alert(1)"},
            (422, "icon-invalid"),
        ),
        (
            {"subdomain": "birds", "plan": "free", "name": "\ud800"},
            (422, "name-invalid"),
        ),
        (
            {"subdomain": "birds", "plan": "free", "description": "x" * 1001},
            (422, "description-invalid"),
        ),
        ({"subdomain": "birds", "plan": "free", "status": 1}, (422, "field-unknown")),
        (
            {"subdomain": "birds", "plan": "free", "tenant": "x"},
            (404, "tenant-not-found"),
        ),
    ],
)
def test_a_relay_that_cannot_be(ann, body, error):
    RelayFactory(subdomain="taken")

    assert ann.post("/api/relays", body).error == error
    assert Relay.objects.count() == 1


def test_plan_and_what_it_carries_change_together(ann, birds):
    path = f"/api/relays/{birds.pk}"

    answer = ann.patch(path, {"plan": "growth", "livekit_enabled": True, "name": "New"})

    assert answer.data["plan"] == "growth"
    assert answer.data["livekit_enabled"] is True
    assert answer.data["name"] == "New"
    assert ann.patch(path, {"plan": "free"}).data["livekit_enabled"] is False
    assert ann.patch(path, {}).data["plan"] == "free"


def test_one_wrong_field_keeps_all_as_it_was(ann, birds):
    path = f"/api/relays/{birds.pk}"

    answer = ann.patch(path, {"plan": "free", "livekit_enabled": True})

    assert answer.error == (422, "plan-lacks-feature")
    birds.refresh_from_db()
    assert (birds.plan_id, birds.livekit_enabled) == ("basic", False)
    assert not Activity.objects.filter(subject_type="relay").exists()


def test_a_relay_is_given_to_nobody_else(ann, ben, birds):
    answer = ann.patch(f"/api/relays/{birds.pk}", {"tenant": ben.pubkey})

    assert answer.error == (422, "field-unknown")


def test_switching_off_and_on(ann, birds):
    path = f"/api/relays/{birds.pk}"

    assert ann.post(f"{path}/activate").error == (409, "relay-is-active")
    assert ann.post(f"{path}/deactivate").data["status"] == "inactive"
    assert ann.post(f"{path}/deactivate", {}).error == (409, "relay-is-inactive")
    assert ann.post(f"{path}/activate").data["status"] == "active"
    assert ann.post(f"{path}/activate", {"now": 1}).error == (422, "field-unknown")


def test_who_owes_is_told_where_to_pay(ann, birds, tenant):
    collection = InvoiceCollectionFactory(tenant=tenant)
    Tenant.objects.filter(pk=tenant.pk).update(payment_overdue_since=timezone.now())
    wanted = {"subdomain": "more", "plan": "basic"}

    refused = ann.post("/api/relays", wanted)

    assert refused.error == (409, "payment-overdue")
    assert collection.pk in refused.body["payment_url"]
    assert (
        ann.patch(f"/api/relays/{birds.pk}", {"plan": "growth"}).error == refused.error
    )
    mark_relay_delinquent(relay_id=birds.pk)
    refused = ann.post(f"/api/relays/{birds.pk}/activate")
    assert refused.error == (409, "relay-is-delinquent")
    assert collection.pk in refused.body["payment_url"]
    assert ann.patch(f"/api/relays/{birds.pk}", {"plan": "free"}).status == 200


def test_others_relays_do_not_exist(ann, ben, admin, birds):
    path = f"/api/relays/{birds.pk}"

    for method, suffix in [
        ("GET", ""),
        ("PATCH", ""),
        ("POST", "/activate"),
        ("POST", "/deactivate"),
        ("GET", "/members"),
        ("GET", "/activity"),
    ]:
        data: object = None if method == "GET" else {}
        answer = ben.call(method, path + suffix, data)
        assert answer.error == (404, "relay-not-found")
    assert ben.get(f"/api/relays/{uuid4()}").error == (404, "relay-not-found")
    assert ben.get("/api/relays/not-an-id").error == (404, "not-found")
    assert admin.get(path).data["subdomain"] == "birds"


def test_lists_show_ones_own_and_operators_all(ann, ben, admin, birds):
    RelayFactory(tenant_id=ben.pubkey, subdomain="cats", plan_id="free")

    def names(person: Person, path: str) -> list[str]:
        return [row["subdomain"] for row in person.get(path).data]

    assert names(ann, "/api/relays") == ["birds"]
    assert names(ann, f"/api/tenants/{ann.pubkey}/relays") == ["birds"]
    assert names(admin, "/api/relays") == ["birds", "cats"]
    assert names(admin, "/api/relays?order=-subdomain") == ["cats", "birds"]
    assert names(admin, "/api/relays?plan=free") == ["cats"]
    assert names(admin, "/api/relays?status=inactive") == []
    assert names(admin, f"/api/relays?tenant={ann.pubkey}") == ["birds"]
    refused = ann.get(f"/api/relays?tenant={ben.pubkey}")
    assert refused.error == (404, "tenant-not-found")
    refused = ann.get(f"/api/tenants/{ben.pubkey}/relays")
    assert refused.error == (404, "tenant-not-found")


@pytest.mark.parametrize("query", ["plan=%00", "status=on", "tenant=%00"])
def test_a_filter_that_cannot_be(ann, query):
    assert ann.get(f"/api/relays?{query}").error == (400, "parameter-invalid")


def test_the_log_of_a_relay(ann):
    made = ann.post("/api/relays", {"subdomain": "birds", "plan": "basic"}).data
    ann.post(f"/api/relays/{made['id']}/deactivate")

    log = ann.get(f"/api/relays/{made['id']}/activity").data

    assert [row["type"] for row in log] == ["deactivate_relay", "create_relay"]
    assert log[0]["snapshot"] == {"plan": "basic", "status": "inactive"}


def test_relays_of_a_hundred_tenants_cost_as_many_queries_as_one(
    admin, django_assert_max_num_queries
):
    RelayFactory()
    admin.get("/api/relays")
    with django_assert_max_num_queries(5) as few:
        admin.get("/api/relays?limit=100")
    for tenant in TenantFactory.create_batch(99):
        RelayFactory(tenant=tenant)

    with django_assert_max_num_queries(len(few)):
        assert len(admin.get("/api/relays?limit=100").data) == 100
