"""Admin pages of notices: read-only, but failed notices can be resent."""

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from caravel.nostr import npub
from tenants.models import Notice
from tenants.services.notices import deliver_notice, notify
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db
State = Notice.State
CHANGELIST = "admin:tenants_notice_changelist"


def create_notice(tenant, subject="in_1"):
    return notify(
        tenant_id=tenant.pk,
        kind="invoice-due",
        subject=subject,
        title="An invoice is due",
        text="Pay it.",
    )


def resend_in_admin(client, *notices):
    data = {"action": "send_again", "_selected_action": [n.pk for n in notices]}
    return client.post(reverse(CHANGELIST), data, follow=True)


def test_pages_show_notice_but_no_secret(admin_client, ann, settings):
    notice = deliver_notice(notice_id=create_notice(ann.tenant()).pk)

    for url in (
        reverse(CHANGELIST),
        reverse(CHANGELIST) + f"?q={npub(ann.pubkey)}&state=sent",
        reverse("admin:tenants_notice_change", args=[notice.pk]),
    ):
        page = admin_client.get(url)
        assert page.status_code == 200
        text = page.content.decode()
        assert "An invoice is due" in text
        assert settings.ROBOT_SECRET not in text
        assert (notice.wrap or {})["content"] not in text
    assert "Pay it." in text
    assert notice.event_id in text


def test_notice_is_shown_without_the_links_in_it(admin_client):
    """A payment link is a credential: it opens the tenant's payment page."""
    notice = create_notice(TenantFactory())
    text = "Pay https://caravel.example/pay/eyJ0b2tlbiI6:1x/ today."
    Notice.objects.filter(pk=notice.pk).update(text=text)

    url = reverse("admin:tenants_notice_change", args=[notice.pk])
    page = admin_client.get(url).content.decode()

    assert "Pay https://caravel.example/… today." in page
    assert "eyJ0b2tlbiI6" not in page


def test_notice_cannot_be_edited_or_deleted(admin_client):
    notice = create_notice(TenantFactory())

    for name in ("change", "delete"):
        url = reverse(f"admin:tenants_notice_{name}", args=[notice.pk])
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
    notice.refresh_from_db()
    assert notice.state == State.WAITING


def test_send_again_enqueues_only_failed_notices(admin_client):
    tenant = TenantFactory()
    failed, dropped = create_notice(tenant), create_notice(tenant, "in_2")
    Notice.objects.filter(pk=failed.pk).update(state=State.FAILED, failures=9)
    Notice.objects.filter(pk=dropped.pk).update(
        state=State.DROPPED, dropped_at=dropped.created_at
    )

    page = resend_in_admin(admin_client, failed, dropped)

    assert "Enqueued 1 notice." in page.content.decode()
    failed.refresh_from_db()
    dropped.refresh_from_db()
    assert (failed.state, failed.failures) == (State.WAITING, 0)
    assert dropped.state == State.DROPPED


def test_send_again_requires_change_permission(client, django_user_model):
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_notice"))
    client.force_login(viewer)
    failed = create_notice(TenantFactory())
    Notice.objects.update(state=State.FAILED)

    resend_in_admin(client, failed)

    failed.refresh_from_db()
    assert failed.state == State.FAILED


def test_list_makes_constant_number_of_queries(admin_client):
    counts = []
    for _ in range(3):
        create_notice(TenantFactory())
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(reverse(CHANGELIST))
        counts.append(len(captured.captured_queries))

    assert counts[1] == counts[2]


def test_tenants_to_choose_from_have_an_order(admin_client):
    """Without one, the second page could repeat or omit some of the first."""
    tenants = [TenantFactory(display_name=name) for name in ("Zoe", "Ann")]
    field = {"app_label": "relays", "model_name": "relay", "field_name": "tenant"}

    found = admin_client.get(reverse("admin:autocomplete"), {"term": "", **field})

    assert [each["id"] for each in found.json()["results"]] == [
        tenant.pk for tenant in tenants
    ]
