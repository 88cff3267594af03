"""Each notice is sent once, despite crashes, outages and concurrent changes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from caravel.core.exceptions import Invalid
from caravel.nostr import pubkey_of
from caravel.tests.support.relay_requests import closed_ports
from caravel.tests.support.waiting import wait_until
from tenants.models import Notice
from tenants.services.notices import (
    _claim,
    deliver_notice,
    drop_notices,
    notify,
    resend,
)
from tenants.tests.support.nostr_users import NostrUser

pytestmark = pytest.mark.django_db

State = Notice.State
CONCURRENT = pytest.mark.django_db(transaction=True, serialized_rollback=True)
TEXT = "Your invoice of $5.00 is due on Friday.\nhttps://caravel.example/pay/abc — ₿"


def create_notice(user, subject="in_1", **changes):
    content = {"title": "An invoice is due", "text": TEXT, **changes}
    return notify(tenant_id=user.pubkey, kind="invoice-due", subject=subject, **content)


def drop(user, subject="in_1"):
    return drop_notices(
        tenant_id=user.pubkey, kinds=["invoice-due", "other"], subject=subject
    )


def deliver(notice):
    return deliver_notice(notice_id=notice.pk)


def event_ids(relay):
    return {event.id for event in relay.events(1059)}


@pytest.fixture
def tenant(ann):
    return ann.tenant()


# --- private message


def test_recipient_can_read_message_of_robot(ann, tenant, inbox, outbox, settings):
    notice = deliver(create_notice(ann))

    assert notice.state == State.SENT
    assert notice.sent_at and notice.dm_sent_at and notice.held_until is None
    assert notice.relays == [f"127.0.0.1:{inbox.port}"]
    assert notice.note == ""
    (wrap,) = inbox.stored(1059)
    gift = ann.read(wrap)
    robot = pubkey_of(settings.ROBOT_SECRET)
    assert gift.sender().to_hex() == robot
    assert gift.rumor().author().to_hex() == robot
    assert gift.rumor().kind().as_u16() == 14
    assert gift.rumor().content() == TEXT
    assert wrap.values("p") == [ann.pubkey]
    assert outbox.stored(1059) == []


def test_other_user_cannot_read_message(ann, tenant, inbox):
    deliver(create_notice(ann))

    (wrap,) = inbox.stored(1059)
    with pytest.raises(Exception, match=r"(?i)hmac|decrypt"):
        NostrUser().read(wrap)
    assert wrap.pubkey != ann.pubkey


def test_second_delivery_sends_nothing(ann, tenant, inbox):
    notice = deliver(create_notice(ann))
    sent_at = notice.sent_at

    assert deliver(notice).sent_at == sent_at
    assert inbox.count(1059) == 1


def test_robot_authenticates_when_relay_requires_it(
    ann, tenant, inbox, outbox, settings
):
    inbox.change_settings(requires_auth=True)
    inbox.drop_connections()

    assert deliver(create_notice(ann)).relays == [f"127.0.0.1:{inbox.port}"]
    assert pubkey_of(settings.ROBOT_SECRET) in inbox.authenticated


def test_retry_sends_same_event(ann, tenant, inbox):
    """The relay stores the event, but the connection is lost before its OK."""
    inbox.fault("disconnect", when="after", kinds={1059}, times=1)
    notice = deliver(create_notice(ann))
    assert notice.state == State.WAITING
    assert notice.last_error_code == "notice-not-delivered"
    assert notice.next_attempt_at > timezone.now()
    assert notice.enqueued_at is None

    assert deliver(notice).state == State.SENT

    assert inbox.count(1059) == 2
    assert event_ids(inbox) == {notice.event_id}
    assert ann.messages(inbox) == [TEXT]


def test_message_is_delivered_when_relays_are_back_after_outage(
    ann, tenant, inbox, indexer, outbox
):
    for relay in (inbox, indexer, outbox):
        relay.go_offline()
    notice = create_notice(ann)
    for _ in range(4):
        notice = deliver(notice)
        assert notice.state == State.WAITING
    assert notice.failures == 4

    inbox.go_online()
    indexer.go_online()

    assert deliver(notice).state == State.SENT
    assert ann.messages(inbox) == [TEXT]
    assert notice.note == ""


# --- message relays of the recipient


def test_message_relays_are_found_at_recipients_write_relays(indexer, outbox, inbox):
    bob = NostrUser()
    bob.tenant()
    bob.writes_to(inbox, announced_at=indexer)
    bob.reads_messages_at(inbox, announced_at=inbox)

    assert deliver(create_notice(bob)).note == ""
    assert bob.messages(inbox) == [TEXT]


def test_latest_list_of_message_relays_is_used(indexer, outbox, inbox):
    bob = NostrUser()
    bob.tenant()
    now = int(timezone.now().timestamp())
    bob.writes_to(outbox, announced_at=indexer)
    bob.reads_messages_at(outbox, announced_at=indexer, created_at=now - 60)
    bob.reads_messages_at(inbox, announced_at=outbox, created_at=now - 30)

    deliver(create_notice(bob))

    assert bob.messages(inbox) == [TEXT]
    assert bob.messages(outbox) == []


def test_message_reaches_the_only_living_relay_behind_dead_and_onion_ones(
    indexer, outbox, inbox
):
    bob = NostrUser()
    bob.tenant()
    dead = [f"ws://127.0.0.1:{port}" for port in closed_ports(6)]
    bob.lists_relays(10050, ["ws://x.onion"] * 9 + [*dead, inbox.url], at=indexer)

    assert deliver(create_notice(bob)).note == ""

    assert bob.messages(inbox) == [TEXT]


def test_list_is_found_at_the_only_living_write_relay(indexer, outbox, inbox):
    bob = NostrUser()
    bob.tenant()
    dead = [f"ws://127.0.0.1:{port}" for port in closed_ports(6)]
    bob.lists_relays(10002, [*dead, inbox.url], at=indexer)
    bob.reads_messages_at(inbox, announced_at=inbox)

    assert deliver(create_notice(bob)).note == ""

    assert bob.messages(inbox) == [TEXT]


def test_lists_are_found_at_relays_that_require_authentication_to_read(
    indexer, outbox, inbox, settings
):
    bob = NostrUser()
    bob.tenant()
    bob.writes_to(inbox, announced_at=indexer)
    bob.reads_messages_at(inbox, announced_at=inbox)
    for relay in (indexer, inbox):
        relay.change_settings(requires_auth_to_read=True)
        relay.drop_connections()

    assert deliver(create_notice(bob)).note == ""

    assert bob.messages(inbox) == [TEXT]
    assert indexer.authenticated == {pubkey_of(settings.ROBOT_SECRET)}


def test_list_of_message_relays_is_cached_for_minutes(ann, tenant, indexer, inbox):
    deliver(create_notice(ann, "in_1"))
    requests = indexer.requests
    deliver(create_notice(ann, "in_2"))
    assert indexer.requests == requests

    with time_machine.travel(timedelta(minutes=6), tick=True):
        deliver(create_notice(ann, "in_3"))

    assert indexer.requests > requests
    assert inbox.count(1059) == 3


def test_message_goes_to_our_outbox_when_recipient_has_no_message_relays(
    indexer, outbox
):
    bob = NostrUser()
    bob.tenant()

    notice = deliver(create_notice(bob))

    assert notice.state == State.SENT
    assert "no kind 10050" in notice.note
    assert notice.relays == [f"127.0.0.1:{outbox.port}"]
    assert bob.messages(outbox) == [TEXT]


def test_message_goes_to_our_outbox_on_third_attempt_when_indexers_are_down(
    indexer, outbox
):
    bob = NostrUser()
    bob.tenant()
    indexer.go_offline()
    notice = create_notice(bob)
    for _ in range(2):
        assert deliver(notice).state == State.WAITING
    assert outbox.count(1059) == 0

    notice = deliver(notice)

    assert notice.state == State.SENT
    assert "could not be looked up" in notice.note
    assert bob.messages(outbox) == [TEXT]


def test_message_goes_to_our_outbox_on_third_attempt_when_relays_refuse(
    ann, tenant, inbox, outbox
):
    inbox.fault("reject", kinds={1059})
    notice = create_notice(ann)
    for _ in range(2):
        assert deliver(notice).state == State.WAITING

    notice = deliver(notice)

    assert notice.state == State.SENT
    assert "none of the recipient's relays" in notice.note
    assert ann.messages(outbox) == [TEXT]
    assert event_ids(outbox) == {notice.event_id} == event_ids(inbox)


def test_recipients_relay_on_private_address_is_not_used(
    ann, tenant, inbox, outbox, settings
):
    settings.NOSTR_ALLOW_PRIVATE_RELAYS = False
    connections = inbox.accepted
    notice = create_notice(ann)
    for _ in range(3):
        notice = deliver(notice)

    assert inbox.accepted == connections
    assert ann.messages(outbox) == [TEXT]
    assert "names no public relay" in notice.note


# --- e-mail


def test_email_is_sent_in_addition_to_tenant_with_address(
    ann, mail_server, inbox, settings
):
    settings.DEFAULT_FROM_EMAIL = "Caravel <billing@mail.example>"
    ann.tenant(email="ann@example.com")

    notice = deliver(create_notice(ann))

    (mail,) = mail_server.received
    assert mail["To"] == "ann@example.com"
    assert mail["From"] == "Caravel <billing@mail.example>"
    assert mail["Subject"] == "An invoice is due"
    assert mail["Message-ID"] == notice.message_id
    content = mail.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert content.decode().replace("\r\n", "\n").startswith(f"{TEXT}\n\nNo more")
    assert notice.state == State.SENT
    assert ann.messages(inbox) == [TEXT]


def test_email_is_retried_without_repeating_private_message(ann, mail_server, inbox):
    ann.tenant(email="ann@example.com")
    mail_server.refusal = "451 later"
    first = deliver(create_notice(ann))
    assert first.state == State.WAITING
    assert first.dm_sent_at and not first.email_sent_at
    assert "451" in first.last_error

    mail_server.refusal = ""
    second = deliver(first)

    assert second.state == State.SENT
    assert [mail["Message-ID"] for mail in mail_server.received] == [first.message_id]
    assert inbox.count(1059) == 1


def test_email_is_sent_once_while_relays_are_down(ann, mail_server, inbox, outbox):
    ann.tenant(email="ann@example.com")
    inbox.go_offline()
    outbox.go_offline()
    notice = create_notice(ann)
    for _ in range(3):
        notice = deliver(notice)
    assert notice.state == State.WAITING
    assert notice.email_sent_at

    inbox.go_online()

    assert deliver(notice).state == State.SENT
    assert len(mail_server.received) == 1


@pytest.mark.parametrize("address", ['"a\x0bb"@x.example', '"a\x0cCc:b@c.d"@x.example'])
def test_address_with_line_break_is_refused(ann, inbox, mail_server, address):
    ann.tenant(email=address)

    notice = deliver(create_notice(ann))

    assert mail_server.received == []
    assert notice.state == State.SENT
    assert "a header cannot contain" in notice.note


def test_permanently_refused_address_is_noted_and_not_retried(ann, mail_server, inbox):
    ann.tenant(email="gone@bücher.example")
    mail_server.refusal = "550 no such mailbox"

    notice = deliver(create_notice(ann))

    assert notice.state == State.SENT
    assert notice.email_sent_at is None
    assert "550 no such mailbox" in notice.note


def test_unexpected_error_of_one_channel_is_raised_after_other_channel_was_tried(
    ann, mail_server, inbox
):
    ann.tenant(email="ann@example.com")
    notice = create_notice(ann)

    with (
        patch("tenants.services.notices.send_message", side_effect=TypeError("oh")),
        pytest.raises(TypeError, match="oh"),
    ):
        deliver(notice)

    notice.refresh_from_db()
    assert (notice.state, notice.last_error_code) == (State.WAITING, "TypeError")
    assert notice.held_until is None
    assert len(mail_server.received) == 1
    assert deliver(notice).state == State.SENT
    assert len(mail_server.received) == 1


def test_email_is_sent_when_stored_event_is_invalid(ann, mail_server):
    ann.tenant(email="ann@example.com")
    notice = create_notice(ann)
    Notice.objects.update(wrap={"id": "of something else"})

    notice = deliver(notice)

    assert notice.state == State.WAITING
    assert notice.last_error_code == "nostr-event-invalid"
    assert len(mail_server.received) == 1


def test_no_email_without_mail_server(ann, inbox, mailoutbox):
    ann.tenant(email="ann@example.com")

    assert deliver(create_notice(ann)).state == State.SENT
    assert mailoutbox == []


# --- duplicate, dropped and failed notices


def test_second_notify_returns_existing_notice_unchanged(ann, tenant):
    first = create_notice(ann)
    again = create_notice(ann, text="Another text.")

    assert again == first
    assert again.text == TEXT
    assert Notice.objects.count() == 1
    assert create_notice(ann, "in_2") != first


def test_sent_notice_cannot_be_dropped_resent_or_delivered_again(ann, tenant, inbox):
    notice = deliver(create_notice(ann))

    assert create_notice(ann).state == State.SENT
    assert drop(ann) == 0
    assert not resend(notice_id=notice.pk)
    deliver(notice)
    assert inbox.count(1059) == 1


def test_dropped_notice_is_not_sent(ann, tenant, inbox, outbox):
    notice = create_notice(ann)
    other = create_notice(ann, "in_2")

    assert drop(ann) == 1

    notice = deliver(notice)
    assert notice.state == State.DROPPED
    assert notice.dropped_at
    assert inbox.count(1059) == 0
    assert drop(ann) == 0
    assert deliver(other).state == State.SENT


def test_notify_restarts_dropped_notice_with_new_event(ann, tenant, inbox):
    inbox.fault("reject", kinds={1059}, times=1)
    first = deliver(create_notice(ann))
    drop(ann)

    with time_machine.travel(timedelta(days=9), tick=True):
        again = create_notice(ann, text="It is due again.")
        assert again.pk == first.pk
        again = deliver(again)

    assert again.state == State.SENT
    assert again.event_id != first.event_id
    assert again.message_id != first.message_id
    assert again.created_at > first.created_at
    assert ann.messages(inbox) == ["It is due again."]


def test_notice_fails_after_a_week_and_can_be_resent(ann, tenant, inbox, outbox):
    inbox.go_offline()
    outbox.go_offline()
    notice = deliver(create_notice(ann))
    with time_machine.travel(timedelta(days=6, hours=23), tick=True):
        assert deliver(notice).state == State.WAITING
    with time_machine.travel(timedelta(days=7, hours=1), tick=True):
        notice = deliver(notice)
        assert notice.state == State.FAILED
        assert create_notice(ann).state == State.FAILED
        inbox.go_online()
        assert deliver(notice).state == State.FAILED

        assert resend(notice_id=notice.pk)

        assert deliver(notice).state == State.SENT
    assert event_ids(inbox) == {notice.event_id}


def test_failed_notice_can_be_dropped(ann, tenant):
    notice = create_notice(ann)
    Notice.objects.update(state=State.FAILED)

    assert drop(ann) == 1
    assert not resend(notice_id=notice.pk)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"subject": "x" * 256}, "subject-invalid"),
        ({"title": " \n "}, "title-invalid"),
        ({"title": "x" * 201}, "title-invalid"),
        ({"text": ""}, "text-invalid"),
        ({"text": "x" * 4001}, "text-invalid"),
        ({"text": "a\0b"}, "text-invalid"),
    ],
)
def test_invalid_notice_is_refused(ann, tenant, changes, code):
    with pytest.raises(Invalid) as caught:
        create_notice(ann, **changes)

    assert caught.value.code == code
    assert not Notice.objects.exists()


def test_title_is_reduced_to_one_line(ann, tenant):
    assert create_notice(ann, title=" Due:\r\nBcc: all ").title == "Due: Bcc: all"


def test_text_of_maximum_length_fits_into_event(ann, tenant, inbox):
    deliver(create_notice(ann, text="₿" * 4000))

    assert ann.messages(inbox) == ["₿" * 4000]


# --- concurrency


@CONCURRENT
def test_concurrent_deliveries_send_one_event_and_one_email(ann, mail_server, inbox):
    ann.tenant(email="ann@example.com")
    notice = create_notice(ann)

    in_threads([lambda: deliver(notice)] * 4)

    assert deliver(notice).state == State.SENT
    assert inbox.count(1059) == 1
    assert len(mail_server.received) == 1


@CONCURRENT
def test_concurrent_notify_calls_create_one_notice(ann, tenant):
    in_threads([lambda: create_notice(ann)] * 6)

    assert Notice.objects.count() == 1


@CONCURRENT
def test_notice_dropped_during_lookup_of_relays_is_not_sent(
    ann, tenant, inbox, indexer
):
    notice = create_notice(ann)
    indexer.fault("hold", on="req")

    def drop_during_lookup():
        wait_until(lambda: indexer.held)
        drop(ann)
        indexer.clear_faults()

    in_threads([lambda: deliver(notice), drop_during_lookup])

    notice.refresh_from_db()
    assert notice.state == State.DROPPED
    assert inbox.count(1059) == 0


@CONCURRENT
def test_delivery_waits_for_uncommitted_drop(ann, tenant, inbox, indexer):
    notice = create_notice(ann)
    indexer.fault("hold", on="req")

    def drop_slowly():
        wait_until(lambda: indexer.held)
        with transaction.atomic():
            drop(ann)
            indexer.clear_faults()
            wait_until(a_query_waits_for_lock)

    in_threads([lambda: deliver(notice), drop_slowly])

    notice.refresh_from_db()
    assert notice.state == State.DROPPED
    assert inbox.count(1059) == 0


@CONCURRENT
def test_only_new_text_is_sent_when_notice_restarts_during_delivery(
    ann, tenant, inbox, indexer
):
    notice = create_notice(ann)
    indexer.fault("hold", on="req", times=1)

    def drop_and_restart():
        wait_until(lambda: indexer.held)
        drop(ann)
        create_notice(ann, text="New text.")
        indexer.clear_faults()

    in_threads([lambda: deliver(notice), drop_and_restart])

    notice.refresh_from_db()
    assert notice.state == State.WAITING
    assert deliver(notice).state == State.SENT
    assert ann.messages(inbox) == ["New text."]


def test_claim_of_killed_worker_expires_after_minutes(ann, tenant, inbox):
    notice = create_notice(ann)
    claimed = _claim(notice.pk)
    assert claimed

    assert deliver(notice).state == State.WAITING
    with time_machine.travel(timedelta(minutes=4), tick=True):
        assert deliver(notice).state == State.SENT

    assert event_ids(inbox) == {claimed.event_id}


def in_threads(functions):
    def run(function):
        try:
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as executor:
        for future in [executor.submit(run, function) for function in functions]:
            future.result(60)
    close_old_connections()


def a_query_waits_for_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return cursor.fetchone() is not None
