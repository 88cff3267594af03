"""Admin pages of relays, tenants, syncs and events: changes go through the services."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone

from billing.models import (
    Credit,
    StripeCursor,
    StripeEvent,
    StripeWrite,
    SubscriptionSync,
)
from billing.services.credits.posting import record_credit
from billing.services.dunning.suspension import review_tenant
from billing.tasks import post_credit, process_stripe_event, sync_subscription
from billing.tests.factories import InvoiceCollectionFactory, StripeEventFactory
from billing.tests.support.admin import admin_url, message_texts, run_action
from caravel.nostr import npub
from relays.models import Plan, Relay
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]


@pytest.fixture
def enqueued_ids(monkeypatch):
    enqueued_ids = []
    for task in (sync_subscription, process_stripe_event, post_credit):
        monkeypatch.setattr(
            task,
            "apply_async",
            lambda args=(), kwargs=None, **options: enqueued_ids.append(args[0]),
        )
    return enqueued_ids


@pytest.fixture
def on_commit(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def relay_form(**fields):
    return {
        "subdomain": "nest",
        "plan": "basic",
        "name": "",
        "icon": "",
        "description": "",
        **fields,
    }


def test_every_admin_page_opens(admin_client):
    relay = RelayFactory()
    StripeEventFactory(tenant=relay.tenant)
    rows = {type(row): row for row in (relay, relay.tenant, relay.plan)}

    for model in admin.site._registry:
        changelist = admin_client.get(admin_url(model, "changelist"))
        assert changelist.status_code == 200, model
        if model in rows:
            url = admin_url(model, "change", rows[model].pk)
            assert admin_client.get(url).status_code == 200, model


def test_relay_added_in_the_admin_is_logged_and_synced(
    admin_client, enqueued_ids, on_commit
):
    tenant = TenantFactory()

    with on_commit():
        response = admin_client.post(
            reverse("admin:relays_relay_add"),
            relay_form(tenant=tenant.pk, subdomain="Nest", groups_enabled="on"),
            follow=True,
        )

    relay = Relay.objects.get()
    assert "was added successfully" in message_texts(response)[0]
    assert (relay.subdomain, relay.status, relay.groups_enabled) == (
        "nest",
        "active",
        True,
    )
    assert Activity.objects.filter(type="create_relay").count() == 1
    assert enqueued_ids == [tenant.pk]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subdomain": "taken"}, "This subdomain is taken."),
        ({"subdomain": "TAKEN"}, "This subdomain is taken."),
        ({"subdomain": "admin"}, "This name is reserved."),
        ({"subdomain": "a b"}, "A subdomain has"),
        ({"plan": "gold"}, "Select a valid choice"),
        ({"livekit_enabled": "on"}, "The plan Basic does not include livekit."),
    ],
)
def test_invalid_relay_form_shows_a_message(admin_client, fields, message):
    tenant = RelayFactory(subdomain="taken").tenant

    response = admin_client.post(
        reverse("admin:relays_relay_add"),
        relay_form(tenant=tenant.pk, **fields),
        follow=True,
    )

    assert message in response.content.decode()
    assert Relay.objects.count() == 1


def test_relay_on_plan_that_cannot_be_billed_is_refused_in_the_admin(admin_client):
    Plan.objects.filter(pk="basic").update(price_problem="archived")
    tenant = TenantFactory()

    response = admin_client.post(
        reverse("admin:relays_relay_add"),
        relay_form(tenant=tenant.pk, subdomain="nest"),
        follow=True,
    )

    assert "plan-price-missing" in message_texts(response)[0]
    assert not Relay.objects.exists()


def test_change_of_plan_switches_off_features_that_it_lacks(admin_client):
    relay = RelayFactory(plan=Plan.objects.get(pk="growth"), livekit_enabled=True)

    admin_client.post(
        reverse("admin:relays_relay_change", args=[relay.pk]),
        relay_form(
            subdomain=relay.subdomain, plan="basic", name="New", livekit_enabled="on"
        ),
        follow=True,
    )

    relay.refresh_from_db()
    assert (relay.plan_id, relay.name, relay.livekit_enabled) == ("basic", "New", False)


def test_staff_add_and_upgrade_relays_beyond_the_quotas(admin_client, settings):
    settings.QUOTA_FREE_RELAYS = settings.QUOTA_UNPAID_RELAYS = 0
    form = relay_form(tenant=TenantFactory().pk, plan="free")

    admin_client.post(reverse("admin:relays_relay_add"), form)
    relay = Relay.objects.get()
    url = reverse("admin:relays_relay_change", args=[relay.pk])
    admin_client.post(url, relay_form(plan="growth"))

    relay.refresh_from_db()
    assert relay.plan_id == "growth"


def test_delinquent_relay_cannot_be_upgraded_by_the_form(admin_client):
    relay = RelayFactory(status="delinquent")

    response = admin_client.post(
        reverse("admin:relays_relay_change", args=[relay.pk]),
        relay_form(subdomain=relay.subdomain, plan="growth"),
        follow=True,
    )

    relay.refresh_from_db()
    assert "relay-is-delinquent" in message_texts(response)[0]
    assert relay.plan_id == "basic"


def test_relay_action_reports_relays_that_it_could_not_change(admin_client):
    on, off = RelayFactory(), RelayFactory(status="inactive")

    response = run_action(admin_client, Relay, "deactivate", on, off)

    on.refresh_from_db()
    assert on.status == "inactive"
    assert f"{off}: This relay is inactive. [relay-is-inactive]" in message_texts(
        response
    )
    assert "Changed 1 relay." in message_texts(response)


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("activate", "inactive", "active"),
        ("deactivate", "delinquent", "inactive"),
    ],
)
def test_relay_action_sets_the_status(admin_client, action, before, after):
    relay = RelayFactory(status=before)

    run_action(admin_client, Relay, action, relay)

    relay.refresh_from_db()
    assert relay.status == after


@pytest.mark.parametrize("status", ["active", "delinquent"])
def test_no_relay_action_does_what_the_next_review_would_undo(admin_client, status):
    """The review would end the subscription or send a message, within minutes."""
    relay = RelayFactory(status=status)
    if status == "delinquent":
        finalized_at = timezone.now() - timedelta(days=8)
        InvoiceCollectionFactory(tenant=relay.tenant, created_at=finalized_at)
    page = admin_client.get(admin_url(Relay, "changelist"))
    offered = [name for name, _ in page.context["action_form"].fields["action"].choices]

    for action in filter(None, offered):
        run_action(admin_client, Relay, action, relay)
        before = Relay.objects.get().status
        review_tenant(tenant_id=relay.tenant_id)
        assert Relay.objects.get().status == before, action
        Relay.objects.update(status=status)

    assert not {"mark_delinquent", "reactivate"} & {*offered}


def test_tenant_is_added_by_npub(admin_client):
    pubkey = TenantFactory.build().pubkey

    admin_client.post(
        reverse("admin:tenants_tenant_add"),
        {
            "pubkey": npub(pubkey),
            "display_name": "Alice",
            "email": "",
            "dunning_exempt": "on",
        },
    )

    tenant = Tenant.objects.get(pk=pubkey)
    assert (tenant.display_name, tenant.dunning_exempt) == ("Alice", True)
    assert Activity.objects.filter(type="create_tenant").count() == 1


def test_search_by_npub_finds_rows_by_hex_pubkey(admin_client):
    relay = RelayFactory()
    StripeEventFactory(tenant=relay.tenant)
    RelayFactory()

    for model in (Tenant, Relay, SubscriptionSync, StripeEvent):
        url = admin_url(model, "changelist")
        page = admin_client.get(url, {"q": relay.tenant.npub})
        assert page.context["cl"].result_count == 1, model


def test_sync_list_shows_the_last_error(admin_client):
    relay = RelayFactory()
    SubscriptionSync.objects.update(failures=1, last_error="Stripe said no")

    page = admin_client.get(reverse("admin:billing_subscriptionsync_changelist"))

    assert "Stripe said no" in page.content.decode()
    assert relay.tenant.pk


def test_login_without_next_leads_to_the_admin(client, admin_user):
    credentials = {"username": admin_user.username, "password": "password"}

    response = client.post(reverse("admin:login"), credentials)

    assert (response.status_code, response["Location"]) == (302, "/admin/")


def test_malformed_pubkey_is_refused(admin_client):
    response = admin_client.post(
        reverse("admin:tenants_tenant_add"), {"pubkey": "npub1nonsense"}
    )

    assert "misspelt" in response.content.decode()
    assert not Tenant.objects.exists()


def test_wallet_url_and_relay_secret_are_on_no_page(admin_client):
    secret = "ab" * 32
    tenant = TenantFactory(nwc_url=f"nostr+walletconnect://x?secret={secret}")
    relay = RelayFactory(tenant=tenant)

    for url in (
        reverse("admin:tenants_tenant_change", args=[tenant.pk]),
        reverse("admin:relays_relay_change", args=[relay.pk]),
    ):
        page = admin_client.get(url).content.decode()
        assert secret not in page
        assert tenant.nwc_url.token not in page
        assert relay.secret.token not in page


def test_stale_tenant_is_found_and_synced_now(admin_client, enqueued_ids, on_commit):
    relay = RelayFactory()
    SubscriptionSync.objects.update(enqueued_at=None, failures=2)

    with on_commit():
        run_action(
            admin_client, SubscriptionSync, "sync_now", relay.tenant.subscription_sync
        )

    assert enqueued_ids == [relay.tenant_id]
    for value, count in (("yes", 1), ("failing", 1), ("", 1)):
        url = reverse("admin:billing_subscriptionsync_changelist")
        page = admin_client.get(url, {"stale": value} if value else {})
        assert page.context["cl"].result_count == count


def test_event_in_any_state_is_processed_again(admin_client, enqueued_ids, on_commit):
    events = [
        StripeEventFactory(status="failed"),
        StripeEventFactory(status="parked"),
        StripeEventFactory(status="processed", processed_at=timezone.now()),
        StripeEventFactory(),
    ]

    with on_commit():
        run_action(admin_client, StripeEvent, "process_again", *events)

    assert StripeEvent.objects.received().count() == 4
    assert sorted(enqueued_ids) == sorted(event.pk for event in events)


@pytest.mark.parametrize(
    "model", [StripeCursor, StripeEvent, StripeWrite, SubscriptionSync, Activity]
)
def test_money_rows_are_read_only(admin_client, model):
    model_admin = admin.site._registry[model]
    request = admin_client.get("/admin/").wsgi_request

    assert not model_admin.has_add_permission(request)
    assert not model_admin.has_change_permission(request)
    assert not model_admin.has_delete_permission(request)


def test_staff_with_view_permission_cannot_run_event_actions(client, django_user_model):
    from django.contrib.auth.models import Permission

    staff = django_user_model.objects.create_user("viewer", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(staff)
    event = StripeEventFactory(status="failed")

    run_action(client, StripeEvent, "process_again", event)

    event.refresh_from_db()
    assert event.status == "failed"


def test_lists_need_a_constant_number_of_queries(
    admin_client, django_assert_max_num_queries
):
    for _ in range(5):
        relay = RelayFactory()
        StripeEventFactory.create_batch(5, tenant=relay.tenant)

    for model in (Relay, Tenant, SubscriptionSync, StripeEvent, Activity):
        with django_assert_max_num_queries(12):
            admin_client.get(admin_url(model, "changelist"))


def test_owed_credit_can_be_posted_now(admin_client, enqueued_ids, on_commit):
    owed, posted = (
        record_credit(
            tenant_id=TenantFactory().pk,
            reason=Credit.Reason.SURPLUS,
            source=source,
            currency="usd",
            amount_cents=100,
        )
        for source in ("a", "b")
    )
    Credit.objects.filter(pk=posted.pk).update(state="posted", posted_at=timezone.now())

    with on_commit():
        response = run_action(admin_client, Credit, "post_now", owed, posted)

    assert enqueued_ids == [owed.pk]
    assert "Enqueued 1 credit." in message_texts(response)[0]
