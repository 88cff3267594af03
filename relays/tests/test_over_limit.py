"""Relays over their limit: counted daily, reported once, and not cut off (ADR 42)."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from caravel.nostr import pubkey_of
from relays import tasks
from relays.clients.zooid import Zooid
from relays.exceptions import UnknownRelay, ZooidUnavailable
from relays.models import Plan, Relay
from relays.services import over_limit
from relays.services.lifecycle import change_plan, delete_relay, update_relay
from relays.services.members import count_people, due_counts
from relays.tests.support.members import admit, served_relay
from tenants.models import Notice
from tenants.services.notices import deliver_notice

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

EVE = pubkey_of("1" * 64)


@pytest.fixture(autouse=True)
def alerts():
    """The alerts to support."""
    with patch.object(over_limit, "alert_support") as alert:
        yield alert


def counted(relay: Relay, *, days: int = 0) -> Relay:
    """Count as a worker does on that day."""
    with time_machine.travel(timezone.now() + timedelta(days=days), tick=True):
        count_people(relay_id=relay.pk)
    relay.refresh_from_db()
    return relay


def test_relay_over_its_limit_is_reported_to_its_owner_and_to_support(
    zooid, settings, alerts
):
    relay = served_relay(zooid, 101, subdomain="birds")

    counted(relay)

    assert relay.people == 101
    assert relay.over_limit_since == relay.people_counted_at
    notice = Notice.objects.get()
    assert (notice.tenant_id, notice.kind) == (relay.tenant_id, "members_over_limit")
    assert notice.title == "Your relay has 101 members, and its plan is for 100"
    assert f"birds.{settings.RELAY_DOMAIN} has 101 members" in notice.text
    (event, message), fields = alerts.call_args
    assert (event, message) == (
        "members_over_limit",
        "birds has 101 people, its plan allows 100.",
    )
    assert fields == {"tenant": relay.tenant_id, "relay": str(relay.pk)}


def test_notice_is_plain_text(zooid):
    Plan.objects.filter(pk="basic").update(name="You & <me>")

    counted(served_relay(zooid, 101))

    assert "its plan You & <me> is for at most 100" in Notice.objects.get().text


def test_relay_over_its_limit_runs_on_as_it_is(zooid):
    relay = served_relay(zooid, 101)

    counted(relay)

    assert (relay.status, relay.synced) == ("active", True)
    assert {request.method for request in zooid.requests} == {"GET"}


@pytest.mark.parametrize(
    ("plan_id", "people"), [("free", 10), ("basic", 100), ("growth", 3_000)]
)
def test_relay_within_its_limit_is_not_reported(zooid, alerts, plan_id, people):
    relay = served_relay(zooid, people, plan=Plan.objects.get(pk=plan_id))

    counted(relay)

    assert (relay.people, relay.over_limit_since) == (people, None)
    assert not Notice.objects.exists()
    assert not alerts.called


def test_episode_is_reported_once_and_the_next_one_again(zooid, alerts):
    relay = served_relay(zooid, 101)

    since = counted(relay).over_limit_since
    admit(zooid, relay, 150)
    assert counted(relay, days=1).over_limit_since == since
    assert (Notice.objects.count(), alerts.call_count) == (1, 1)

    admit(zooid, relay, 100)
    assert counted(relay, days=2).over_limit_since is None
    admit(zooid, relay, 102)
    counted(relay, days=3)
    assert (Notice.objects.count(), alerts.call_count) == (2, 2)


def test_notice_that_was_not_sent_yet_is_dropped_once_the_relay_fits(zooid):
    relay = served_relay(zooid, 101)
    counted(relay)
    admit(zooid, relay, 100)

    counted(relay, days=1)

    assert Notice.objects.get().state == Notice.State.DROPPED


@pytest.mark.parametrize("plan_id", ["basic", "growth"])
def test_move_to_a_plan_that_is_large_enough_ends_the_episode_at_once(zooid, plan_id):
    relay = served_relay(zooid, 11, plan=Plan.objects.get(pk="free"))
    counted(relay)

    change_plan(relay_id=relay.pk, plan_id=plan_id)

    relay.refresh_from_db()
    assert relay.over_limit_since is None
    assert Notice.objects.get().state == Notice.State.DROPPED


def test_move_to_a_larger_plan_that_is_still_too_small_goes_on_with_the_episode(zooid):
    relay = served_relay(zooid, 101, plan=Plan.objects.get(pk="free"))
    since = counted(relay).over_limit_since

    change_plan(relay_id=relay.pk, plan_id="basic")

    assert counted(relay, days=1).over_limit_since == since
    assert Notice.objects.count() == 1


def test_deletion_ends_the_episode(zooid):
    relay = served_relay(zooid, 101)
    counted(relay)

    delete_relay(relay_id=relay.pk)

    relay.refresh_from_db()
    assert relay.over_limit_since is None
    assert Notice.objects.get().state == Notice.State.DROPPED


def test_member_who_gets_a_role_no_longer_counts(zooid):
    relay = served_relay(zooid, 100)
    members = zooid.members(relay.pk)
    zooid.set_members(relay.pk, [*members, EVE])
    counted(relay)
    assert relay.people == 101

    update_relay(relay_id=relay.pk, moderators=[EVE])

    assert counted(relay, days=1).people == 100
    assert relay.over_limit_since is None


# --- the daily count


def test_relay_is_due_a_day_after_its_last_count(zooid):
    relay = served_relay(zooid, 1)
    now = timezone.now()
    assert due_counts(now=now) == [relay.pk]

    counted(relay)

    assert due_counts(now=now + timedelta(hours=23)) == []
    assert due_counts(now=now + timedelta(hours=25)) == [relay.pk]


def test_relays_that_do_not_run_are_not_due(zooid):
    served_relay(zooid, 1, status="inactive")
    served_relay(zooid, 1, status="delinquent")
    never_served = served_relay(zooid, 1)
    Relay.objects.filter(pk=never_served.pk).update(first_served_at=None)

    assert due_counts(now=timezone.now()) == []


def test_relay_that_was_counted_longest_ago_comes_first(zooid):
    first, second, new = (served_relay(zooid, 1) for _ in range(3))
    counted(second, days=-2)
    counted(first, days=-3)

    assert due_counts(now=timezone.now()) == [new.pk, first.pk, second.pk]


def test_change_of_a_plans_limit_makes_the_relays_due_that_it_concerns(zooid):
    large, small = served_relay(zooid, 11), served_relay(zooid, 9)
    counted(large)
    counted(small)
    now = timezone.now()

    Plan.objects.filter(pk="basic").update(members=10)
    assert due_counts(now=now) == [large.pk]
    assert counted(large).over_limit_since is not None
    assert due_counts(now=now) == []

    Plan.objects.filter(pk="basic").update(members=None)
    assert due_counts(now=now) == [large.pk]
    assert counted(large).over_limit_since is None
    assert due_counts(now=now) == []


def test_second_message_about_a_relay_makes_no_second_count(zooid):
    relay = served_relay(zooid, 101)

    count_people(relay_id=relay.pk)
    count_people(relay_id=relay.pk)

    assert len(zooid.requests) == 1
    assert Notice.objects.count() == 1


def test_relay_stays_due_and_unchanged_while_zooid_is_away(zooid):
    relay = served_relay(zooid, 101)
    zooid.fault("error")

    with pytest.raises(ZooidUnavailable):
        count_people(relay_id=relay.pk)

    relay.refresh_from_db()
    assert (relay.people, relay.over_limit_since) == (None, None)
    assert due_counts(now=timezone.now()) == [relay.pk]


def test_relay_deleted_while_its_message_waits_is_not_counted(zooid):
    relay = served_relay(zooid, 101)
    delete_relay(relay_id=relay.pk)

    count_people(relay_id=relay.pk)

    assert zooid.requests == []


def test_relay_deleted_while_zooid_answers_is_left_alone(zooid):
    relay = served_relay(zooid, 101)

    def delete(client, relay_id):
        delete_relay(relay_id=relay_id)
        return []

    with (
        patch.object(Zooid, "list_members", autospec=True, side_effect=delete),
        pytest.raises(UnknownRelay),
    ):
        tasks.count_people_of_relay(str(relay.pk))

    relay.refresh_from_db()
    assert (relay.people, relay.over_limit_since) == (None, None)


def test_sweep_enqueues_each_due_relay_by_its_id(zooid):
    relay = served_relay(zooid, 1)

    with patch.object(tasks.count_people_of_relay, "delay_many") as delay_many:
        tasks.count_people()

    delay_many.assert_called_once_with([str(relay.pk)])
    tasks.count_people_of_relay(str(relay.pk))
    assert Relay.objects.get(pk=relay.pk).people == 1


def test_failed_notice_of_an_ended_episode_is_not_sent_again(zooid):
    relay = served_relay(zooid, 101)
    counted(relay)
    Notice.objects.update(state=Notice.State.FAILED)
    admit(zooid, relay, 1)

    counted(relay, days=1)

    assert deliver_notice(notice_id=Notice.objects.get().pk).state == "dropped"
