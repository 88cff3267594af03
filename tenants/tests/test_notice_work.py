"""Delivery of notices by tasks, the sweep, and after a worker was killed."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import redis
import time_machine
from django.conf import settings as django_settings
from django.db.models import F
from django.utils import timezone

from billing.tests.support import processes
from caravel.tests.support.waiting import wait_until
from tenants.models import Notice
from tenants.services.notices import deliver_notice, drop_notices, notify, resend
from tenants.tasks import send_notice, sweep_notices

State = Notice.State


def create_notice(user, subject="in_1"):
    return notify(
        tenant_id=user.pubkey,
        kind="invoice-due",
        subject=subject,
        title="An invoice is due",
        text=f"Pay {subject}.",
    )


@pytest.mark.django_db
def test_notice_is_enqueued_once_each_time_it_starts_to_wait(
    ann, django_capture_on_commit_callbacks
):
    ann.tenant(display_name="Ann")
    with (
        patch.object(send_notice, "apply_async") as enqueue,
        django_capture_on_commit_callbacks(execute=True),
    ):
        notice = create_notice(ann)
        create_notice(ann)
        deliver_notice(notice_id=notice.pk)
        Notice.objects.update(state=State.WAITING, sent_at=None)
        drop_notices(tenant_id=ann.pubkey, kinds=["invoice-due"], subject="in_1")
        create_notice(ann)
        Notice.objects.update(state=State.FAILED)
        resend(notice_id=notice.pk)

    assert [call.args for call in enqueue.call_args_list] == [((notice.pk,), {})] * 3


@pytest.mark.django_db
def test_sweep_sends_due_notices_without_message_under_way(ann):
    ann.tenant()
    lost, enqueued, later, sent = (create_notice(ann, f"in_{n}") for n in range(4))
    rows = Notice.objects
    rows.filter(pk=lost.pk).update(enqueued_at=F("enqueued_at") - timedelta(minutes=6))
    rows.filter(pk=later.pk).update(
        enqueued_at=None, next_attempt_at=timezone.now() + timedelta(minutes=1)
    )
    rows.filter(pk=sent.pk).update(
        enqueued_at=None, state=State.SENT, sent_at=timezone.now()
    )

    swept: list[int] = []
    with patch.object(send_notice, "delay_many", swept.extend):
        sweep_notices()
        sweep_notices()
        assert swept == [lost.pk]
        with time_machine.travel(timedelta(minutes=2), tick=True):
            sweep_notices()

    assert swept == [lost.pk, later.pk]
    assert enqueued.state == State.WAITING


@pytest.mark.processes
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_next_worker_sends_same_event_when_first_was_killed_after_sending(
    ann, inbox, indexer, outbox, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROBOT_SECRET", django_settings.ROBOT_SECRET)
    monkeypatch.setenv("ROBOT_OUTBOX_RELAYS", outbox.url)
    monkeypatch.setenv("ROBOT_INDEXER_RELAYS", indexer.url)
    monkeypatch.setenv("NOSTR_ALLOW_PRIVATE_RELAYS", "true")
    with redis.from_url(django_settings.REDIS_URL) as broker:
        broker.flushall()
    ann.tenant()
    inbox.fault("hold", on="event", when="after", kinds={1059})
    notice = create_notice(ann)
    with running_worker(tmp_path / "first.log") as first:
        wait_until(lambda: inbox.held)
        processes.kill(first)
    inbox.clear_faults()
    assert len(inbox.stored(1059)) == 1
    notice.refresh_from_db()
    assert notice.state == State.WAITING

    age = timedelta(minutes=6)
    Notice.objects.update(
        **{name: F(name) - age for name in ("enqueued_at", "held_until")}
    )
    with running_worker(tmp_path / "second.log"):
        sweep_notices()
        wait_until(lambda: Notice.objects.filter(state=State.SENT).exists())

    assert [event.id for event in inbox.events(1059)] == [notice.event_id] * 2
    assert ann.messages(inbox) == ["Pay in_1."]
    assert len(outbox.stored(0)) == len(indexer.stored(10050)) - 1 == 1


def running_worker(log):
    return processes.worker(log, queues="default,nostr", pool=processes.THREADS)
