"""Admin pages of relays: the sync with zooid, what was seen, and what needs a look."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.tests.support.admin import admin_url, message_texts, run_action
from relays.models import Plan, Relay, RelaySync
from relays.tasks import sync_relay
from relays.tests.factories import RelayFactory
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]


@pytest.fixture
def enqueued_ids(monkeypatch):
    sent: list[str] = []
    monkeypatch.setattr(
        sync_relay,
        "apply_async",
        lambda args=(), kwargs=None, **options: sent.append(str(args[0])),
    )
    return sent


def in_sync(relay: Relay, **fields) -> Relay:
    """Let zooid have acknowledged the relay's configuration."""
    rows = RelaySync.objects.filter(pk=relay.pk)
    rows.update(version=1, synced_version=1, enqueued_at=None, **fields)
    Relay.objects.filter(pk=relay.pk).update(synced=True)
    return relay


def page_of(client, relay: Relay) -> str:
    response = client.get(admin_url(Relay, "change", relay.pk))
    return str(response.content.decode())


def listed(client, attention: str) -> list[str]:
    url = admin_url(Relay, "changelist")
    response = client.get(url, {"attention": attention})
    assert response.status_code == 200
    return sorted(relay.subdomain for relay in response.context["cl"].result_list)


def test_page_shows_the_sync_and_the_error_for_the_operator(admin_client):
    relay = in_sync(RelayFactory(sync_error="It does not answer."))
    RelaySync.objects.update(
        version=2,
        failures=3,
        last_error_code="zooid-unavailable",
        last_error="No connection to https://zooid.example/relay/secret-part",
    )

    page = page_of(admin_client, relay)

    assert "3 attempts failed, next attempt" in page
    assert "acknowledged never" in page
    assert "zooid-unavailable: No connection to https://zooid.example/…" in page
    assert "It does not answer." in page
    assert relay.secret.reveal() not in page


def test_page_shows_proofs_and_dates(admin_client):
    now = timezone.now()
    relay = in_sync(RelayFactory(), acknowledged_at=now)
    Relay.objects.update(
        first_served_at=now - timedelta(days=400),
        served_at=now,
        people=1234,
        deletion_at=now + timedelta(days=400),
    )

    page = page_of(admin_client, relay)

    assert "in sync, acknowledged" in page
    assert str((now - timedelta(days=400)).year) in page
    assert str((now + timedelta(days=400)).year) in page
    assert "1234" in page or "1,234" in page


def test_page_of_a_relay_that_no_sync_knows_opens(admin_client):
    relay = RelayFactory()
    RelaySync.objects.all().delete()

    assert "not begun" in page_of(admin_client, relay)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "no: never seen running"),
        ({"first_served_at": timezone.now()}, "yes"),
        ({"plan_id": "free"}, "no: free plan"),
        ({"status": "delinquent"}, "no: switched off by billing"),
    ],
    ids=["never served", "served", "free", "delinquent"],
)
def test_page_says_whether_the_relay_is_billed(admin_client, settings, fields, text):
    settings.BILLING_SERVED_RELAYS_ONLY = True
    relay = RelayFactory()
    Relay.objects.update(**fields)

    response = admin_client.get(admin_url(Relay, "change", relay.pk))

    model_admin = response.context["adminform"].model_admin
    assert model_admin.billed(Relay.objects.get()) == text
    assert text in response.content.decode()


def test_filter_finds_what_needs_a_look(admin_client):
    now = timezone.now()
    free = Plan.objects.get(pk="free")
    for name, row, sync in (
        ("well", {"first_served_at": now}, {}),
        ("new", {}, {"version": 2}),
        ("failing", {"first_served_at": now}, {"version": 2, "failures": 1}),
        ("full", {"first_served_at": now, "over_limit_since": now}, {}),
        (
            "ending",
            {"first_served_at": now, "status": "delinquent", "deletion_at": now},
            {},
        ),
        ("off", {"status": "inactive", "plan": free}, {}),
    ):
        relay = in_sync(RelayFactory(subdomain=name, **row))
        RelaySync.objects.filter(pk=relay.pk).update(**sync)
        Relay.objects.filter(pk=relay.pk).update(synced="version" not in sync)
    gone = RelayFactory(
        subdomain="gone", status="inactive", deleted_at=now, deletion_at=now
    )
    assert RelaySync.objects.get(pk=gone.pk).is_stale
    RelayFactory(subdomain="old", status="inactive", deleted_at=now)
    RelaySync.objects.filter(relay__subdomain="old").delete()

    assert listed(admin_client, "unsynced") == ["failing", "gone", "new"]
    assert listed(admin_client, "failing") == ["failing"]
    assert listed(admin_client, "never_served") == ["new"]
    assert listed(admin_client, "over_limit") == ["full"]
    assert listed(admin_client, "to_be_deleted") == ["ending"]
    assert len(listed(admin_client, "")) == 8


def test_sync_again_makes_syncs_due_now(
    admin_client, enqueued_ids, django_capture_on_commit_callbacks
):
    later = timezone.now() + timedelta(hours=1)
    relays = [in_sync(RelayFactory(), next_attempt_at=later) for _ in range(2)]
    untouched = in_sync(RelayFactory())

    with django_capture_on_commit_callbacks(execute=True):
        response = run_action(admin_client, Relay, "sync_again", *relays)

    assert message_texts(response) == ["Queued 2 relays."]
    stale = RelaySync.objects.stale()
    assert {sync.pk for sync in stale} == {relay.pk for relay in relays}
    assert all(sync.next_attempt_at <= timezone.now() for sync in stale)
    assert sorted(enqueued_ids) == sorted(str(relay.pk) for relay in relays)
    assert untouched.pk not in {sync.pk for sync in stale}


def test_list_needs_as_many_queries_for_many_relays(
    admin_client, django_assert_max_num_queries
):
    tenant = TenantFactory()
    for _ in range(20):
        in_sync(RelayFactory(tenant=tenant))

    with django_assert_max_num_queries(12):
        admin_client.get(admin_url(Relay, "changelist"))
