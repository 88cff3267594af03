"""A smaller plan is refused while the relay has more people than it allows."""

from datetime import timedelta

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from caravel.core.db.transactions import NetworkInTransaction
from caravel.nostr import pubkey_of
from relays.exceptions import (
    MembersExceedPlan,
    MembersNotCounted,
    UnknownPlan,
    UnknownRelay,
    ZooidRefused,
    ZooidUnavailable,
)
from relays.models import Plan, Relay, RelaySync
from relays.services.lifecycle import change_plan, delete_relay
from relays.services.members import count_for_plan
from relays.tests.factories import RelayFactory
from relays.tests.support.members import admit, served_relay
from tenants.models import Activity

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

ANN, BEN = (pubkey_of(digit * 64) for digit in "12")


def on(plan_id: str) -> Plan:
    return Plan.objects.get(pk=plan_id)


def move(relay: Relay, plan_id: str) -> Relay:
    """Change the plan as the API and the admin do."""
    count_for_plan(relay_id=relay.pk, plan_id=plan_id)
    return change_plan(relay_id=relay.pk, plan_id=plan_id)


@pytest.mark.parametrize(
    ("old", "new", "status", "people", "limit"),
    [
        ("basic", "free", "active", 11, 10),
        ("basic", "free", "inactive", 11, 10),
        ("basic", "free", "delinquent", 11, 10),
        ("growth", "basic", "active", 101, 100),
        ("growth", "free", "active", 200, 10),
    ],
)
def test_plan_for_fewer_people_than_there_are_is_refused_with_both_numbers(
    zooid, old, new, status, people, limit
):
    relay = served_relay(zooid, people, plan=on(old), status=status)

    with pytest.raises(MembersExceedPlan) as caught:
        move(relay, new)

    assert caught.value.details == {"people": people, "limit": limit}
    assert (str(people) in caught.value.message, caught.value.status) == (True, 409)
    relay.refresh_from_db()
    assert (relay.plan_id, relay.status) == (old, status)
    assert not Activity.objects.exists()


@pytest.mark.parametrize("status", Relay.Status.values)
def test_relay_with_as_many_people_as_the_plan_allows_moves_to_it(zooid, status):
    relay = served_relay(
        zooid, 10, plan=on("basic"), status=status, admins=[ANN], moderators=[BEN]
    )

    move(relay, "free")

    relay.refresh_from_db()
    # Its own key, its owner and both roles are members, and do not count.
    assert (relay.plan_id, relay.people) == ("free", 10)
    assert relay.people_counted_at is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [("free", "basic"), ("basic", "growth"), ("free", "growth"), ("basic", "basic")],
)
def test_plan_that_is_not_smaller_needs_no_answer_of_zooid(zooid, old, new):
    relay = served_relay(zooid, 500, plan=on(old))
    zooid.fault("error", times=None)

    assert move(relay, new).plan_id == new
    assert zooid.requests == []


def test_cheaper_plan_for_as_many_people_needs_no_answer_of_zooid(zooid):
    relay = served_relay(zooid, 500, plan=on("growth"))
    Plan.objects.filter(pk="basic").update(members=None)

    assert move(relay, "basic").plan_id == "basic"
    assert zooid.requests == []


def test_relay_that_was_never_sent_to_zooid_has_no_people(zooid):
    relay = RelayFactory(plan=on("growth"))
    zooid.fault("error", times=None)

    assert move(relay, "free").plan_id == "free"
    assert zooid.requests == []


@pytest.mark.parametrize(
    "columns",
    [{"sent": "POST"}, {"acknowledged_at": timezone.now()}],
    ids=["unanswered", "acknowledged"],
)
def test_relay_that_zooid_may_have_is_counted_before_it_was_seen_running(
    zooid, columns
):
    relay = served_relay(zooid, 11)
    Relay.objects.filter(pk=relay.pk).update(first_served_at=None)
    RelaySync.objects.update_or_create(relay_id=relay.pk, defaults=columns)

    with pytest.raises(MembersExceedPlan):
        move(relay, "free")


@pytest.mark.parametrize(
    ("kind", "error"), [("error", ZooidUnavailable), ("garbage", ZooidRefused)]
)
def test_nothing_changes_while_the_people_cannot_be_counted(zooid, kind, error):
    relay = served_relay(zooid, 1)
    zooid.fault(kind, times=1)

    with pytest.raises(error):
        move(relay, "free")

    row = Relay.objects.get(pk=relay.pk)
    assert (row.plan_id, row.people_counted_at) == ("basic", None)
    assert move(relay, "free").plan_id == "free"


def test_change_that_was_not_counted_before_has_to_be_tried_again(zooid):
    relay = served_relay(zooid, 1)

    with pytest.raises(MembersNotCounted) as caught:
        change_plan(relay_id=relay.pk, plan_id="free")

    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
    relay.refresh_from_db()
    assert relay.plan_id == "basic"


def test_count_does_not_decide_minutes_later(zooid):
    relay = served_relay(zooid, 1)
    count_for_plan(relay_id=relay.pk, plan_id="free")

    with time_machine.travel(timedelta(minutes=3)), pytest.raises(MembersNotCounted):
        change_plan(relay_id=relay.pk, plan_id="free")


def test_people_who_joined_since_the_last_count_are_counted(zooid):
    relay = served_relay(zooid, 10)
    count_for_plan(relay_id=relay.pk, plan_id="free")
    admit(zooid, relay, 12)

    with pytest.raises(MembersExceedPlan):
        move(relay, "free")


def test_zooid_is_not_called_inside_a_transaction(zooid):
    relay = served_relay(zooid, 1)

    with transaction.atomic(), pytest.raises(NetworkInTransaction):
        count_for_plan(relay_id=relay.pk, plan_id="free")


def test_count_does_not_send_the_relay_to_zooid_again(zooid):
    relay = served_relay(zooid, 1)

    count_for_plan(relay_id=relay.pk, plan_id="free")

    relay.refresh_from_db()
    assert relay.synced
    assert [request.method for request in zooid.requests] == ["GET"]


@pytest.mark.parametrize("plan_id", ["gold", "fr\0ee", ""], ids=repr)
def test_unknown_plan_is_refused_without_a_count(zooid, plan_id):
    relay = served_relay(zooid, 1)

    with pytest.raises(UnknownPlan):
        count_for_plan(relay_id=relay.pk, plan_id=plan_id)
    assert zooid.requests == []


def test_deleted_relay_is_not_counted(zooid):
    relay = served_relay(zooid, 1)
    delete_relay(relay_id=relay.pk)

    with pytest.raises(UnknownRelay):
        count_for_plan(relay_id=relay.pk, plan_id="free")
