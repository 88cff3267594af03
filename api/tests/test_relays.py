"""Relays over the API: create, update, activate, deactivate, and list."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from api.tests.support.client import ApiClient
from billing.tests.factories import InvoiceCollectionFactory
from relays.models import Plan, Relay
from relays.services.lifecycle import mark_relay_delinquent
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]


@pytest.fixture
def birds(tenant) -> Relay:
    """Ann's relay, on the basic plan."""
    return RelayFactory(tenant=tenant, subdomain="birds")


def test_plans_are_public(client):
    plans = client.get("/api/plans").json()
    one = client.get("/api/plans/basic").json()

    assert [plan["id"] for plan in plans["data"]] == ["free", "basic", "growth"]
    assert one["data"] == plans["data"][1]
    assert one["data"]["amount_cents"] == 500
    assert "stripe_price_id" not in one["data"]
    missing = client.get("/api/plans/gold")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")


def test_relay_is_created(ann, settings):
    response = ann.post(
        "/api/relays",
        {"subdomain": "Birds", "plan": "basic", "name": "Birds", "public_join": True},
    )

    assert response.status == 201
    relay = Relay.objects.get()
    assert response.data["id"] == str(relay.pk)
    assert response.data["url"] == f"ws://birds.{settings.RELAY_DOMAIN}"
    assert response.data["status"] == "active"
    assert response.data["tenant"] == ann.pubkey == relay.tenant_id
    assert response.data["public_join"] is True
    assert response.data["synced"] is False
    assert "secret" not in response.data
    assert ann.get(f"/api/relays/{relay.pk}").data == response.data


def test_operator_creates_a_relay_for_a_tenant(ann, ben, admin):
    body = {"subdomain": "birds", "plan": "free", "tenant": ann.pubkey}

    assert ben.post("/api/relays", body).error == (404, "tenant-not-found")
    assert admin.post("/api/relays", body).data["tenant"] == ann.pubkey


def test_caller_without_an_account_cannot_create_a_relay(admin):
    body = {"subdomain": "birds", "plan": "free"}

    assert ApiClient().post("/api/relays", body).error == (404, "tenant-not-found")
    assert admin.post("/api/relays", body).error == (404, "tenant-not-found")
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
def test_invalid_relay_is_refused(ann, body, error):
    RelayFactory(subdomain="taken")

    assert ann.post("/api/relays", body).error == error
    assert Relay.objects.count() == 1


def test_error_of_an_empty_relay_names_all_missing_fields(ann):
    message = ann.post("/api/relays", {}).body["error"]

    assert message == "subdomain: This field is required. plan: This field is required."


def test_plan_and_its_features_change_in_one_request(ann, birds):
    path = f"/api/relays/{birds.pk}"

    response = ann.patch(
        path, {"plan": "growth", "livekit_enabled": True, "name": "New"}
    )

    assert response.data["plan"] == "growth"
    assert response.data["livekit_enabled"] is True
    assert response.data["name"] == "New"
    assert ann.patch(path, {"plan": "free"}).data["livekit_enabled"] is False
    assert ann.patch(path, {}).data["plan"] == "free"


def test_one_invalid_field_leaves_all_fields_unchanged(ann, birds):
    path = f"/api/relays/{birds.pk}"

    response = ann.patch(path, {"plan": "free", "livekit_enabled": True})

    assert response.error == (422, "plan-lacks-feature")
    birds.refresh_from_db()
    assert (birds.plan_id, birds.livekit_enabled) == ("basic", False)
    assert not Activity.objects.filter(subject_type="relay").exists()


def test_relay_cannot_be_moved_to_another_tenant(ann, ben, birds):
    response = ann.patch(f"/api/relays/{birds.pk}", {"tenant": ben.pubkey})

    assert response.error == (422, "field-unknown")


def test_relay_is_deactivated_and_activated(ann, birds):
    path = f"/api/relays/{birds.pk}"

    assert ann.post(f"{path}/activate").error == (409, "relay-is-active")
    assert ann.post(f"{path}/deactivate").data["status"] == "inactive"
    assert ann.post(f"{path}/deactivate", {}).error == (409, "relay-is-inactive")
    assert ann.post(f"{path}/activate").data["status"] == "active"
    assert ann.post(f"{path}/activate", {"now": 1}).error == (422, "field-unknown")


def test_deleted_relay_is_gone_for_its_tenant_and_its_name_is_free(ann, birds):
    path = f"/api/relays/{birds.pk}"

    assert ann.call("DELETE", path).data["status"] == "inactive"

    assert ann.call("DELETE", path).error == (404, "relay-not-found")
    assert ann.get(path).error == (404, "relay-not-found")
    assert ann.get("/api/relays").data == []
    assert ann.post(f"{path}/activate").error == (404, "relay-not-found")
    again = ann.post("/api/relays", {"subdomain": "birds", "plan": "free"})
    assert again.status == 201
    log = ann.get(f"/api/tenants/{ann.pubkey}/activity").data
    assert [each["type"] for each in log[:2]] == ["create_relay", "delete_relay"]


def test_plan_that_cannot_be_billed_is_refused(ann, birds):
    Plan.objects.filter(pk="growth").update(price_problem="archived")
    body = {"subdomain": "more", "plan": "growth"}

    assert ann.post("/api/relays", body).error == (409, "plan-price-missing")
    upgrade = ann.patch(f"/api/relays/{birds.pk}", {"plan": "growth"})
    assert upgrade.error == (409, "plan-price-missing")


def test_relays_beyond_the_quotas_are_refused_with_what_to_do(ann, tenant, settings):
    settings.QUOTA_FREE_RELAYS = settings.QUOTA_UNPAID_RELAYS = 1
    for plan in ("free", "basic"):
        ann.post("/api/relays", {"subdomain": plan, "plan": plan})
    collection = InvoiceCollectionFactory(tenant=tenant)

    free = ann.post("/api/relays", {"subdomain": "more", "plan": "free"})
    paid = ann.post("/api/relays", {"subdomain": "more", "plan": "basic"})

    assert free.error == (409, "free-relay-quota")
    assert "ask support for more" in free.body["error"]
    assert paid.error == (409, "unpaid-relay-quota")
    assert collection.pk in paid.body["payment_url"]


def test_refusal_for_overdue_payment_has_the_payment_url(ann, birds, tenant):
    collection = InvoiceCollectionFactory(tenant=tenant)
    Tenant.objects.filter(pk=tenant.pk).update(payment_overdue_since=timezone.now())
    body = {"subdomain": "more", "plan": "basic"}

    refusal = ann.post("/api/relays", body)

    assert refusal.error == (409, "payment-overdue")
    assert collection.pk in refusal.body["payment_url"]
    assert (
        ann.patch(f"/api/relays/{birds.pk}", {"plan": "growth"}).error == refusal.error
    )
    mark_relay_delinquent(relay_id=birds.pk)
    refusal = ann.post(f"/api/relays/{birds.pk}/activate")
    assert refusal.error == (409, "relay-is-delinquent")
    assert collection.pk in refusal.body["payment_url"]
    assert ann.patch(f"/api/relays/{birds.pk}", {"plan": "free"}).status == 200


def test_purchase_is_refused_while_billing_is_on_hold(ann, birds, tenant):
    Tenant.objects.filter(pk=tenant.pk).update(billing_on_hold_since=timezone.now())
    path = f"/api/relays/{birds.pk}"

    refusal = ann.post("/api/relays", {"subdomain": "more", "plan": "basic"})

    assert refusal.error == (409, "billing-on-hold")
    assert ann.patch(path, {"plan": "growth"}).error == refusal.error
    mark_relay_delinquent(relay_id=birds.pk)
    assert ann.post(f"{path}/activate").error == refusal.error
    assert ann.patch(path, {"plan": "free"}).status == 200
    assert ann.get(f"/api/tenants/{tenant.pk}").data["billing_on_hold_since"]


def test_other_tenants_relays_are_not_found(ann, ben, admin, birds):
    path = f"/api/relays/{birds.pk}"

    for method, suffix in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/activate"),
        ("POST", "/deactivate"),
        ("GET", "/members"),
        ("GET", "/activity"),
    ]:
        data: object = None if method == "GET" else {}
        response = ben.call(method, path + suffix, data)
        assert response.error == (404, "relay-not-found")
    assert ben.get(f"/api/relays/{uuid4()}").error == (404, "relay-not-found")
    assert ben.get("/api/relays/not-an-id").error == (404, "not-found")
    assert admin.get(path).data["subdomain"] == "birds"


def test_lists_contain_own_relays_and_for_operators_all(ann, ben, admin, birds):
    RelayFactory(tenant_id=ben.pubkey, subdomain="cats", plan_id="free")

    def names(caller: ApiClient, path: str) -> list[str]:
        return [row["subdomain"] for row in caller.get(path).data]

    assert names(ann, "/api/relays") == ["birds"]
    assert names(ann, f"/api/tenants/{ann.pubkey}/relays") == ["birds"]
    assert names(admin, "/api/relays") == ["birds", "cats"]
    assert names(admin, "/api/relays?order=-subdomain") == ["cats", "birds"]
    assert names(admin, "/api/relays?plan=free") == ["cats"]
    assert names(admin, "/api/relays?status=inactive") == []
    assert names(admin, f"/api/relays?tenant={ann.pubkey}") == ["birds"]
    refusal = ann.get(f"/api/relays?tenant={ben.pubkey}")
    assert refusal.error == (404, "tenant-not-found")
    refusal = ann.get(f"/api/tenants/{ben.pubkey}/relays")
    assert refusal.error == (404, "tenant-not-found")


@pytest.mark.parametrize("query", ["plan=%00", "status=on", "tenant=%00"])
def test_invalid_filter_is_refused(ann, query):
    assert ann.get(f"/api/relays?{query}").error == (400, "parameter-invalid")


@pytest.mark.parametrize("order", ["created_at", "-subdomain"])
def test_cursor_with_a_nul_is_refused(ann, order):
    # The encoded position: `p=%00`.
    refusal = ann.get(f"/api/relays?order={order}&cursor=cD0lMDA%3D")

    assert refusal.error == (400, "cursor-invalid")


def test_relay_activity_is_listed_newest_first(ann):
    relay = ann.post("/api/relays", {"subdomain": "birds", "plan": "basic"}).data
    ann.post(f"/api/relays/{relay['id']}/deactivate")

    log = ann.get(f"/api/relays/{relay['id']}/activity").data

    assert [row["type"] for row in log] == ["deactivate_relay", "create_relay"]
    assert log[0]["snapshot"] == {
        "plan": "basic",
        "status": "inactive",
    }


def test_listing_100_relays_needs_no_more_queries_than_one(
    admin, django_assert_max_num_queries
):
    RelayFactory()
    admin.get("/api/relays")
    with django_assert_max_num_queries(5) as first_queries:
        admin.get("/api/relays?limit=100")
    for tenant in TenantFactory.create_batch(99):
        RelayFactory(tenant=tenant)

    with django_assert_max_num_queries(len(first_queries)):
        assert len(admin.get("/api/relays?limit=100").data) == 100


# --- what was seen of a relay


def test_relay_says_that_it_is_not_billed_before_it_was_seen_running(
    ann, birds, settings
):
    settings.BILLING_SERVED_RELAYS_ONLY = True
    path = f"/api/relays/{birds.pk}"
    new = ann.get(path).data

    Relay.objects.update(first_served_at=timezone.now(), served_at=timezone.now())
    served = ann.get(path).data

    assert (new["billed"], new["unbilled_reason"]) == (False, "relay-never-served")
    assert (new["first_served_at"], new["served_at"]) == (None, None)
    assert (served["billed"], served["unbilled_reason"]) == (True, "")
    assert served["first_served_at"] and served["served_at"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"plan": "free"}, "relay-is-free"),
        ({"status": "inactive"}, "relay-is-inactive"),
        ({"status": "delinquent"}, "relay-is-delinquent"),
    ],
)
def test_relay_says_why_it_is_not_billed(ann, birds, fields, reason):
    Relay.objects.update(first_served_at=timezone.now(), **fields)

    relay = ann.get(f"/api/relays/{birds.pk}").data

    assert (relay["billed"], relay["unbilled_reason"]) == (False, reason)


def test_relay_shows_its_dates_and_what_was_seen_of_it(ann, birds):
    now = timezone.now().replace(microsecond=0)
    dates = {
        name: now + timedelta(days=days)
        for days, name in enumerate(
            (
                "served_at",
                "dark_at",
                "over_limit_since",
                "delinquent_since",
                "export_offer_at",
                "deletion_at",
            )
        )
    }
    Relay.objects.update(people=12, sync_error="It does not answer.", **dates)

    relay = ann.get("/api/relays").data[0]

    shown = {name: relay[name] for name in dates}
    assert shown == {name: f"{at:%Y-%m-%dT%H:%M:%S}Z" for name, at in dates.items()}
    assert (relay["people"], relay["synced"]) == (12, False)
    assert relay["sync_error"] == "It does not answer."


@pytest.mark.parametrize("field", ["served_at", "people", "deletion_at", "synced"])
def test_what_was_seen_of_a_relay_cannot_be_set(ann, birds, field):
    assert ann.patch(f"/api/relays/{birds.pk}", {field: None}).error == (
        422,
        "field-unknown",
    )
