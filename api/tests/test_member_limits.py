"""Changes to a plan for fewer members than the relay has, over the API."""

import pytest
from drf_spectacular.generators import SchemaGenerator

from billing.services.subscriptions.sync import sync_tenant
from relays.models import Relay
from relays.tests.support.members import admit, served_relay
from tenants.models import Activity

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("rates", "prices")]


@pytest.fixture
def birds(zooid, tenant) -> Relay:
    """Ann's relay, on the basic plan, billed, and with eleven members."""
    relay = served_relay(zooid, 11, tenant=tenant)
    sync_tenant(tenant_id=tenant.pk)
    return relay


@pytest.mark.parametrize("status", Relay.Status.values)
def test_move_to_a_plan_that_is_too_small_is_refused_with_both_numbers(
    ann, birds, status
):
    Relay.objects.filter(pk=birds.pk).update(status=status)
    path = f"/api/relays/{birds.pk}"

    refusal = ann.patch(path, {"plan": "free", "name": "New"})

    assert refusal.error == (409, "members-exceed-plan")
    assert (refusal.body["people"], refusal.body["limit"]) == (11, 10)
    assert "11 members" in refusal.body["error"]
    row = ann.get(path).data
    assert (row["plan"], row["name"], row["status"]) == ("basic", "", status)
    assert not Activity.objects.filter(subject_type="relay").exists()


def test_move_is_made_once_enough_members_have_left(ann, birds, zooid):
    path = f"/api/relays/{birds.pk}"
    ann.patch(path, {"plan": "free"})
    admit(zooid, birds, 10)

    assert ann.patch(path, {"plan": "free"}).data["plan"] == "free"


def test_move_to_a_plan_that_is_too_small_is_not_quoted(ann, birds):
    refusal = ann.get(f"/api/relays/{birds.pk}/quote?plan=free")

    assert refusal.error == (409, "members-exceed-plan")
    assert (refusal.body["people"], refusal.body["limit"]) == (11, 10)


def test_quoted_move_is_refused_if_members_have_joined_since(ann, birds, zooid):
    path = f"/api/relays/{birds.pk}"
    admit(zooid, birds, 10)
    quote = ann.get(f"{path}/quote?plan=free").data["id"]
    admit(zooid, birds, 12)

    refusal = ann.patch(path, {"plan": "free", "quote": quote})

    assert refusal.error == (409, "members-exceed-plan")
    assert refusal.body["people"] == 12
    assert ann.get(path).data["plan"] == "basic"
    admit(zooid, birds, 9)
    assert ann.patch(path, {"plan": "free", "quote": quote}).data["plan"] == "free"


@pytest.mark.parametrize(
    ("kind", "error"),
    [("error", (503, "zooid-unavailable")), ("html", (502, "zooid-refused"))],
)
def test_nothing_changes_while_the_members_cannot_be_counted(
    ann, birds, zooid, kind, error
):
    path = f"/api/relays/{birds.pk}"
    zooid.fault(kind)

    assert ann.get(f"{path}/quote?plan=free").error == error
    assert ann.patch(path, {"plan": "free", "name": "New"}).error == error
    row = ann.get(path).data
    assert (row["plan"], row["name"]) == ("basic", "")


def test_larger_plan_and_other_fields_need_no_answer_of_zooid(ann, birds, zooid):
    path = f"/api/relays/{birds.pk}"
    zooid.fault("error")

    assert ann.patch(path, {"name": "New", "plan": "basic"}).data["name"] == "New"
    assert ann.get(f"{path}/quote?plan=growth").status == 200
    assert ann.patch(path, {"plan": "growth"}).data["plan"] == "growth"
    assert zooid.requests == []


def test_stranger_does_not_make_us_count_the_members(ben, birds, zooid):
    path = f"/api/relays/{birds.pk}"

    assert ben.patch(path, {"plan": "free"}).error == (404, "relay-not-found")
    assert ben.get(f"{path}/quote?plan=free").error == (404, "relay-not-found")
    assert zooid.requests == []


def test_operator_is_refused_as_well(admin, birds):
    refusal = admin.patch(f"/api/relays/{birds.pk}", {"plan": "free"})

    assert refusal.error == (409, "members-exceed-plan")


def test_both_numbers_are_documented():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]

    for path, method in (("", "patch"), ("/quote", "get")):
        operation = paths[f"/api/relays/{{relay_id}}{path}"][method]
        response = operation["responses"]["409"]
        schema = response["content"]["application/json"]["schema"]
        assert {"people", "limit"} <= schema["properties"].keys()
        assert "`members-exceed-plan`" in response["description"]


def test_refused_moves_in_a_loop_do_not_ask_zooid_each_time(
    ann, birds, zooid, settings
):
    settings.API_RATE_COSTLY = "2/minute"
    path = f"/api/relays/{birds.pk}"
    zooid.requests.clear()

    statuses = [ann.patch(path, {"plan": "free"}).status for _ in range(4)]

    assert statuses == [409, 409, 429, 429]
    assert len(zooid.requests) == 2
    assert ann.patch(path, {"plan": "basic", "name": "New"}).data["name"] == "New"


def test_list_of_members_has_the_lower_rate_limit(ann, birds, settings):
    settings.API_RATE_COSTLY = "2/minute"

    answers = [ann.get(f"/api/relays/{birds.pk}/members") for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
