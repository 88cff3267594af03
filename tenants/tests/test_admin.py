"""Support staff see what tenants were told and may send again what was given up."""

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
LIST = "admin:tenants_notice_changelist"


def tell(tenant, subject="in_1"):
    return notify(
        tenant_id=tenant.pk,
        kind="invoice-due",
        subject=subject,
        title="An invoice is due",
        text="Pay it.",
    )


def send_again(client, *notices):
    data = {"action": "send_again", "_selected_action": [n.pk for n in notices]}
    return client.post(reverse(LIST), data, follow=True)


def test_pages_show_how_a_notice_stands_and_no_secret(admin_client, ann, settings):
    notice = deliver_notice(notice_id=tell(ann.tenant()).pk)

    for url in (
        reverse(LIST),
        reverse(LIST) + f"?q={npub(ann.pubkey)}&state=sent",
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


def test_nobody_edits_or_deletes(admin_client):
    notice = tell(TenantFactory())

    for name in ("change", "delete"):
        url = reverse(f"admin:tenants_notice_{name}", args=[notice.pk])
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
    notice.refresh_from_db()
    assert notice.state == State.WAITING


def test_only_what_was_given_up_is_sent_again(admin_client):
    tenant = TenantFactory()
    failed, dropped = tell(tenant), tell(tenant, "in_2")
    Notice.objects.filter(pk=failed.pk).update(state=State.FAILED, failures=9)
    Notice.objects.filter(pk=dropped.pk).update(
        state=State.DROPPED, dropped_at=dropped.created_at
    )

    page = send_again(admin_client, failed, dropped)

    assert "Enqueued 1 notices." in page.content.decode()
    failed.refresh_from_db()
    dropped.refresh_from_db()
    assert (failed.state, failed.failures) == (State.WAITING, 0)
    assert dropped.state == State.DROPPED


def test_who_may_only_look_sends_nothing(client, django_user_model):
    looker = django_user_model.objects.create_user("looker", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_notice"))
    client.force_login(looker)
    failed = tell(TenantFactory())
    Notice.objects.update(state=State.FAILED)

    send_again(client, failed)

    failed.refresh_from_db()
    assert failed.state == State.FAILED


def test_the_list_costs_the_same_however_long(admin_client):
    counts = []
    for _ in range(3):
        tell(TenantFactory())
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(reverse(LIST))
        counts.append(len(captured.captured_queries))

    assert counts[1] == counts[2]
