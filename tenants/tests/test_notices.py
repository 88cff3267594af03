"""A tenant is told each thing once, whatever is away, crashes or changes meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from caravel.core.exceptions import Invalid
from caravel.nostr import pubkey_of
from lightning.tests.support.polling import until
from tenants.models import Notice
from tenants.services.notices import (
    _hold,
    deliver_notice,
    drop_notices,
    notify,
    send_again,
)
from tenants.services.tenants import update_tenant
from tenants.tests.support.nostr_users import Person

pytestmark = pytest.mark.django_db

State = Notice.State
AT_ONCE = pytest.mark.django_db(transaction=True, serialized_rollback=True)
TEXT = "Your invoice of $5.00 is due on Friday.\nhttps://caravel.example/pay/abc — ₿"


def tell(person, subject="in_1", **changes):
    said = {"title": "An invoice is due", "text": TEXT, **changes}
    return notify(tenant_id=person.pubkey, kind="invoice-due", subject=subject, **said)


def drop(person, subject="in_1"):
    return drop_notices(
        tenant_id=person.pubkey, kinds=["invoice-due", "other"], subject=subject
    )


def deliver(notice):
    return deliver_notice(notice_id=notice.pk)


def ids(relay):
    return {event.id for event in relay.events(1059)}


@pytest.fixture
def tenant(ann):
    return ann.tenant()


# --- the message


def test_the_recipient_reads_what_the_robot_wrote(ann, tenant, inbox, outbox, settings):
    notice = deliver(tell(ann))

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


def test_nobody_else_can_read_it(ann, tenant, inbox):
    deliver(tell(ann))

    (wrap,) = inbox.stored(1059)
    with pytest.raises(Exception, match=r"(?i)hmac|decrypt"):
        Person().read(wrap)
    assert wrap.pubkey != ann.pubkey


def test_a_delivery_twice_sends_once(ann, tenant, inbox):
    notice = deliver(tell(ann))
    sent_at = notice.sent_at

    assert deliver(notice).sent_at == sent_at
    assert inbox.count(1059) == 1


def test_a_relay_that_wants_proof_of_who_we_are_gets_it(
    ann, tenant, inbox, outbox, settings
):
    inbox.change_settings(requires_auth=True)
    inbox.drop_connections()

    assert deliver(tell(ann)).relays == [f"127.0.0.1:{inbox.port}"]
    assert pubkey_of(settings.ROBOT_SECRET) in inbox.authenticated


def test_a_retry_sends_the_same_event(ann, tenant, inbox):
    """The relay has it, and the connection ends before it says so."""
    inbox.fault("disconnect", when="after", kinds={1059}, times=1)
    notice = deliver(tell(ann))
    assert notice.state == State.WAITING
    assert notice.last_error_code == "notice-not-delivered"
    assert notice.next_attempt_at > timezone.now()
    assert notice.enqueued_at is None

    assert deliver(notice).state == State.SENT

    assert inbox.count(1059) == 2
    assert ids(inbox) == {notice.event_id}
    assert ann.messages(inbox) == [TEXT]


def test_all_relays_away_then_back(ann, tenant, inbox, indexer, outbox):
    for relay in (inbox, indexer, outbox):
        relay.go_offline()
    notice = tell(ann)
    for _ in range(4):
        notice = deliver(notice)
        assert notice.state == State.WAITING
    assert notice.failures == 4

    inbox.go_online()
    indexer.go_online()

    assert deliver(notice).state == State.SENT
    assert ann.messages(inbox) == [TEXT]
    assert notice.note == ""


# --- where the recipient reads


def test_the_list_for_messages_is_found_through_the_list_of_relays(
    indexer, outbox, inbox
):
    bob = Person()
    bob.tenant()
    bob.writes_to(inbox, said_at=indexer)
    bob.reads_messages_at(inbox, said_at=inbox)

    assert deliver(tell(bob)).note == ""
    assert bob.messages(inbox) == [TEXT]


def test_of_several_lists_the_newest_counts(indexer, outbox, inbox):
    bob = Person()
    bob.tenant()
    now = int(timezone.now().timestamp())
    bob.writes_to(outbox, said_at=indexer)
    bob.reads_messages_at(outbox, said_at=indexer, created_at=now - 60)
    bob.reads_messages_at(inbox, said_at=outbox, created_at=now - 30)

    deliver(tell(bob))

    assert bob.messages(inbox) == [TEXT]
    assert bob.messages(outbox) == []


def test_a_list_is_remembered_for_a_while(ann, tenant, indexer, inbox):
    deliver(tell(ann, "in_1"))
    asked = indexer.requests
    deliver(tell(ann, "in_2"))
    assert indexer.requests == asked

    with time_machine.travel(timedelta(minutes=6), tick=True):
        deliver(tell(ann, "in_3"))

    assert indexer.requests > asked
    assert inbox.count(1059) == 3


def test_who_names_no_relay_is_written_to_at_our_own(indexer, outbox):
    bob = Person()
    bob.tenant()

    notice = deliver(tell(bob))

    assert notice.state == State.SENT
    assert "no kind 10050" in notice.note
    assert notice.relays == [f"127.0.0.1:{outbox.port}"]
    assert bob.messages(outbox) == [TEXT]


def test_silent_indexers_are_given_three_tries(indexer, outbox):
    bob = Person()
    bob.tenant()
    indexer.go_offline()
    notice = tell(bob)
    for _ in range(2):
        assert deliver(notice).state == State.WAITING
    assert outbox.count(1059) == 0

    notice = deliver(notice)

    assert notice.state == State.SENT
    assert "could not be looked up" in notice.note
    assert bob.messages(outbox) == [TEXT]


def test_relays_that_refuse_are_given_three_tries(ann, tenant, inbox, outbox):
    inbox.fault("reject", kinds={1059})
    notice = tell(ann)
    for _ in range(2):
        assert deliver(notice).state == State.WAITING

    notice = deliver(notice)

    assert notice.state == State.SENT
    assert "none of the recipient's relays" in notice.note
    assert ann.messages(outbox) == [TEXT]
    assert ids(outbox) == {notice.event_id} == ids(inbox)


def test_a_strangers_relay_on_our_own_network_is_not_dialled(
    ann, tenant, inbox, outbox, settings
):
    settings.NOSTR_ALLOW_PRIVATE_RELAYS = False
    connected = inbox.accepted
    notice = tell(ann)
    for _ in range(3):
        notice = deliver(notice)

    assert inbox.accepted == connected
    assert ann.messages(outbox) == [TEXT]


# --- e-mail


def test_an_e_mail_goes_to_who_gave_an_address(ann, mail_server, inbox, settings):
    settings.DEFAULT_FROM_EMAIL = "Caravel <billing@mail.example>"
    ann.tenant(email="ann@example.com")

    notice = deliver(tell(ann))

    (mail,) = mail_server.taken
    assert mail["To"] == "ann@example.com"
    assert mail["From"] == "Caravel <billing@mail.example>"
    assert mail["Subject"] == "An invoice is due"
    assert mail["Message-ID"] == notice.message_id
    content = mail.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert content.decode().replace("\r\n", "\n").strip() == TEXT
    assert notice.state == State.SENT
    assert ann.messages(inbox) == [TEXT]


def test_a_mail_server_that_fails_is_tried_again_and_repeats_no_message(
    ann, mail_server, inbox
):
    ann.tenant(email="ann@example.com")
    mail_server.refusal = "451 later"
    first = deliver(tell(ann))
    assert first.state == State.WAITING
    assert first.dm_sent_at and not first.email_sent_at
    assert "451" in first.last_error

    mail_server.refusal = ""
    second = deliver(first)

    assert second.state == State.SENT
    assert [mail["Message-ID"] for mail in mail_server.taken] == [first.message_id]
    assert inbox.count(1059) == 1


def test_relays_that_are_away_keep_no_e_mail_back_and_repeat_none(
    ann, mail_server, inbox, outbox
):
    ann.tenant(email="ann@example.com")
    inbox.go_offline()
    outbox.go_offline()
    notice = tell(ann)
    for _ in range(3):
        notice = deliver(notice)
    assert notice.state == State.WAITING
    assert notice.email_sent_at

    inbox.go_online()

    assert deliver(notice).state == State.SENT
    assert len(mail_server.taken) == 1


@pytest.mark.parametrize("address", ['"a\x0bb"@x.example', '"a\x0cCc:b@c.d"@x.example'])
def test_an_address_adds_no_line_to_an_email(ann, inbox, mail_server, address):
    ann.tenant()
    update_tenant(pubkey=ann.pubkey, email=address)

    notice = deliver(tell(ann))

    assert mail_server.taken == []
    assert notice.state == State.SENT
    assert "no header can hold" in notice.note


def test_an_address_that_is_refused_for_good_is_noted_and_not_tried_again(
    ann, mail_server, inbox
):
    ann.tenant(email="gone@bücher.example")
    mail_server.refusal = "550 no such mailbox"

    notice = deliver(tell(ann))

    assert notice.state == State.SENT
    assert notice.email_sent_at is None
    assert "550 no such mailbox" in notice.note


def test_what_only_a_defect_raises_is_raised_once_the_other_way_was_taken(
    ann, mail_server, inbox
):
    ann.tenant(email="ann@example.com")
    notice = tell(ann)

    with (
        patch("tenants.services.notices.send_message", side_effect=TypeError("oh")),
        pytest.raises(TypeError, match="oh"),
    ):
        deliver(notice)

    notice.refresh_from_db()
    assert (notice.state, notice.last_error_code) == (State.WAITING, "TypeError")
    assert notice.held_until is None
    assert len(mail_server.taken) == 1
    assert deliver(notice).state == State.SENT
    assert len(mail_server.taken) == 1


def test_a_message_that_cannot_be_read_any_more_does_not_shut_the_other_way(
    ann, mail_server
):
    ann.tenant(email="ann@example.com")
    notice = tell(ann)
    Notice.objects.update(wrap={"id": "of something else"})

    notice = deliver(notice)

    assert notice.state == State.WAITING
    assert notice.last_error_code == "nostr-event-invalid"
    assert len(mail_server.taken) == 1


def test_without_a_mail_server_there_is_no_e_mail(ann, inbox, mailoutbox):
    ann.tenant(email="ann@example.com")

    assert deliver(tell(ann)).state == State.SENT
    assert mailoutbox == []


# --- asked twice, dropped, given up


def test_asked_twice_there_is_one_notice_and_it_stays_as_it_is(ann, tenant):
    first = tell(ann)
    again = tell(ann, text="Another text.")

    assert again == first
    assert again.text == TEXT
    assert Notice.objects.count() == 1
    assert tell(ann, "in_2") != first


def test_what_was_sent_is_not_sent_again(ann, tenant, inbox):
    notice = deliver(tell(ann))

    assert tell(ann).state == State.SENT
    assert drop(ann) == 0
    assert not send_again(notice_id=notice.pk)
    deliver(notice)
    assert inbox.count(1059) == 1


def test_what_was_dropped_is_not_sent(ann, tenant, inbox, outbox):
    notice = tell(ann)
    other = tell(ann, "in_2")

    assert drop(ann) == 1

    notice = deliver(notice)
    assert notice.state == State.DROPPED
    assert notice.dropped_at
    assert inbox.count(1059) == 0
    assert drop(ann) == 0
    assert deliver(other).state == State.SENT


def test_what_was_dropped_may_become_true_again(ann, tenant, inbox):
    inbox.fault("reject", kinds={1059}, times=1)
    first = deliver(tell(ann))
    drop(ann)

    with time_machine.travel(timedelta(days=9), tick=True):
        again = tell(ann, text="It is due again.")
        assert again.pk == first.pk
        again = deliver(again)

    assert again.state == State.SENT
    assert again.event_id != first.event_id
    assert again.message_id != first.message_id
    assert again.created_at > first.created_at
    assert ann.messages(inbox) == ["It is due again."]


def test_after_a_week_it_is_given_up_and_may_be_sent_by_hand(
    ann, tenant, inbox, outbox
):
    inbox.go_offline()
    outbox.go_offline()
    notice = deliver(tell(ann))
    with time_machine.travel(timedelta(days=6, hours=23), tick=True):
        assert deliver(notice).state == State.WAITING
    with time_machine.travel(timedelta(days=7, hours=1), tick=True):
        notice = deliver(notice)
        assert notice.state == State.FAILED
        assert tell(ann).state == State.FAILED
        inbox.go_online()
        assert deliver(notice).state == State.FAILED

        assert send_again(notice_id=notice.pk)

        assert deliver(notice).state == State.SENT
    assert ids(inbox) == {notice.event_id}


def test_what_was_given_up_can_be_dropped(ann, tenant):
    notice = tell(ann)
    Notice.objects.update(state=State.FAILED)

    assert drop(ann) == 1
    assert not send_again(notice_id=notice.pk)


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
def test_what_cannot_be_sent_is_refused(ann, tenant, changes, code):
    with pytest.raises(Invalid) as caught:
        tell(ann, **changes)

    assert caught.value.code == code
    assert not Notice.objects.exists()


def test_a_title_is_one_line(ann, tenant):
    assert tell(ann, title=" Due:\r\nBcc: all ").title == "Due: Bcc: all"


def test_the_longest_text_fits(ann, tenant, inbox):
    deliver(tell(ann, text="₿" * 4000))

    assert ann.messages(inbox) == ["₿" * 4000]


# --- at once


@AT_ONCE
def test_two_workers_at_once_send_one_event_and_one_e_mail(ann, mail_server, inbox):
    ann.tenant(email="ann@example.com")
    notice = tell(ann)

    in_threads([lambda: deliver(notice)] * 4)

    assert deliver(notice).state == State.SENT
    assert inbox.count(1059) == 1
    assert len(mail_server.taken) == 1


@AT_ONCE
def test_asked_at_once_there_is_one_notice(ann, tenant):
    in_threads([lambda: tell(ann)] * 6)

    assert Notice.objects.count() == 1


@AT_ONCE
def test_dropped_while_its_relays_are_looked_up_it_is_not_sent(
    ann, tenant, inbox, indexer
):
    notice = tell(ann)
    indexer.fault("hold", on="req")

    def drop_when_asked():
        until(lambda: indexer.held)
        drop(ann)
        indexer.clear_faults()

    in_threads([lambda: deliver(notice), drop_when_asked])

    notice.refresh_from_db()
    assert notice.state == State.DROPPED
    assert inbox.count(1059) == 0


@AT_ONCE
def test_a_drop_that_is_about_to_commit_is_waited_for(ann, tenant, inbox, indexer):
    notice = tell(ann)
    indexer.fault("hold", on="req")

    def drop_slowly():
        until(lambda: indexer.held)
        with transaction.atomic():
            drop(ann)
            indexer.clear_faults()
            until(someone_waits_for_a_lock)

    in_threads([lambda: deliver(notice), drop_slowly])

    notice.refresh_from_db()
    assert notice.state == State.DROPPED
    assert inbox.count(1059) == 0


@AT_ONCE
def test_dropped_and_true_again_meanwhile_only_the_new_text_is_sent(
    ann, tenant, inbox, indexer
):
    notice = tell(ann)
    indexer.fault("hold", on="req", times=1)

    def change_mind():
        until(lambda: indexer.held)
        drop(ann)
        tell(ann, text="Anew.")
        indexer.clear_faults()

    in_threads([lambda: deliver(notice), change_mind])

    notice.refresh_from_db()
    assert notice.state == State.WAITING
    assert deliver(notice).state == State.SENT
    assert ann.messages(inbox) == ["Anew."]


def test_who_was_killed_holds_it_for_minutes_only(ann, tenant, inbox):
    notice = tell(ann)
    held = _hold(notice.pk)
    assert held

    assert deliver(notice).state == State.WAITING
    with time_machine.travel(timedelta(minutes=4), tick=True):
        assert deliver(notice).state == State.SENT

    assert ids(inbox) == {held.event_id}


def in_threads(deeds):
    def run(deed):
        try:
            return deed()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(deeds)) as pool:
        for done in [pool.submit(run, deed) for deed in deeds]:
            done.result(60)
    close_old_connections()


def someone_waits_for_a_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return cursor.fetchone() is not None
