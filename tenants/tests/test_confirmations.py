"""An address gets nothing but a link until its owner has followed it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module

import pytest
import time_machine
from django.apps import apps
from django.db import close_old_connections, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants.exceptions import EmailLinkExpired, EmailLinkInvalid
from tenants.models import Activity, EmailConfirmation, Notice, Tenant
from tenants.services import notices
from tenants.services.confirmations import mailbox_of, send_confirmation
from tenants.services.email_links import confirmation_url, stop_url
from tenants.services.notices import deliver_notice, notify
from tenants.services.tenants import (
    close_tenant,
    confirm_email,
    stop_emails,
    update_tenant,
)
from tenants.tasks import sweep_confirmations
from tenants.tests.factories import TenantFactory, confirm_address
from tenants.tests.support.nostr_users import NostrUser

pytestmark = pytest.mark.django_db

MIGRATION = import_module("tenants.migrations.0010_email_confirmations")
State = EmailConfirmation.State
WEEK = timedelta(days=7)
ADDRESS = "victim@example.com"


def enter(address: str = ADDRESS, tenant: Tenant | None = None, **fields) -> Tenant:
    """Enter an address into an account, by default a new one."""
    tenant = tenant or TenantFactory(**fields)
    update_tenant(pubkey=tenant.pk, email=address)
    tenant.refresh_from_db()
    return tenant


def key_of(tenant: Tenant) -> int:
    """Return the key of a tenant's link to ADDRESS."""
    return tenant.confirmations.get(mailbox=ADDRESS).pk


def send_due() -> None:
    """Send the links that may be sent now, as beat and the worker do."""
    EmailConfirmation.objects.update(enqueued_at=None)
    for pk in EmailConfirmation.objects.waiting().claim(now=timezone.now()):
        send_confirmation(confirmation_id=pk)


def text_of(mail) -> str:
    content = mail.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


def path_in(mail, name: str) -> str:
    (line,) = [line for line in text_of(mail).split() if f"/{name}/" in line]
    return "/" + line.split("/", 3)[3]


def send_notice(user: NostrUser, subject: str = "in_1") -> Notice:
    notice = notify(
        tenant_id=user.pubkey,
        kind="invoice-due",
        subject=subject,
        title="An invoice is due",
        text="Please pay.",
    )
    return deliver_notice(notice_id=notice.pk)


# --- before the confirmation


def test_notice_is_not_mailed_to_an_address_that_nobody_has_confirmed(
    ann, inbox, mail_server
):
    ann.tenant()
    update_tenant(pubkey=ann.pubkey, email=ADDRESS)

    notice = send_notice(ann)

    assert mail_server.received == []
    assert (notice.state, notice.email_sent_at) == (Notice.State.SENT, None)
    assert notice.note == "The e-mail address is not confirmed."
    assert ann.messages(inbox) == ["Please pay."]


def test_link_to_a_new_address_has_no_words_of_the_one_who_entered_it(mail_server):
    tenant = enter(display_name="WIN $1000 at evil.example")

    send_due()

    (mail,) = mail_server.received
    assert mail["To"] == ADDRESS
    assert "evil" not in str(mail) + text_of(mail)
    assert tenant.npub in text_of(mail)
    token = path_in(mail, "confirm-email").rsplit("/", 1)[1]
    assert confirm_email(token=token) == tenant


def test_link_to_a_new_address_comes_from_the_seller(mail_server, settings):
    settings.SELLER_NAME, settings.SELLER_CONTACT = "Ada & Co", "help@ada.example"
    enter()

    send_due()

    (mail,) = mail_server.received
    assert text_of(mail).splitlines()[-2:] == ["Ada & Co", "help@ada.example"]


@pytest.mark.parametrize(
    "spelling", ["victim@example.com", "V.ictim+x@EXAMPLE.com", "vic.tim@example.com"]
)
def test_mailbox_gets_one_link_a_week_whoever_asks(mail_server, spelling):
    enter()
    send_due()
    second = enter(spelling)

    with time_machine.travel(timezone.now()) as traveller:
        for _ in range(6):
            send_due()
            traveller.shift(timedelta(days=1))
        assert len(mail_server.received) == 1
        traveller.shift(timedelta(days=1))
        send_due()

    _, mail = mail_server.received
    assert second.npub in text_of(mail)


def test_entering_an_address_again_and_again_sends_one_link_a_week(mail_server):
    tenant = enter()

    for _ in range(3):
        send_due()
        enter("", tenant)
        enter(ADDRESS, tenant)
    send_due()

    assert len(mail_server.received) == 1
    with time_machine.travel(timezone.now() + WEEK, tick=True):
        enter(ADDRESS, tenant)
        send_due()
    assert len(mail_server.received) == 2


def test_tenant_causes_three_links_a_week_to_different_addresses(mail_server):
    tenant = TenantFactory()

    for number in range(5):
        enter(f"victim{number}@example.com", tenant)
        send_due()

    assert len(mail_server.received) == 3
    with time_machine.travel(timezone.now() + WEEK, tick=True):
        send_due()
    assert mail_server.received[3]["To"] == "victim4@example.com"
    assert len(mail_server.received) == 4


def test_links_that_are_being_sent_count_for_their_tenant(mail_server):
    tenant = TenantFactory()
    for number in range(3):
        enter(f"victim{number}@example.com", tenant)
    # Three workers have claimed them at once, and wait for the mail server.
    sending = timezone.now() + timedelta(minutes=3)
    EmailConfirmation.objects.update(held_until=sending)
    enter("victim3@example.com", tenant)

    send_due()

    assert mail_server.received == []


def test_who_asks_again_at_once_does_not_keep_others_from_their_link(mail_server):
    stranger = enter()
    send_due()
    owner = enter()
    send_due()

    with time_machine.travel(timezone.now() + WEEK, tick=True):
        enter(ADDRESS, stranger)
        # The message of a new request arrives before the sweep finds older ones.
        send_confirmation(confirmation_id=key_of(stranger))
        send_due()

    assert len(mail_server.received) == 2
    assert owner.npub in text_of(mail_server.received[-1])


def test_tenant_who_has_paid_comes_before_any_number_of_new_ones(mail_server):
    strangers = [enter() for _ in range(3)]
    send_due()
    owner = enter(first_paid_at=timezone.now())

    with time_machine.travel(timezone.now() + WEEK, tick=True):
        for tenant in (*strangers, owner):
            send_confirmation(confirmation_id=key_of(tenant))

    assert len(mail_server.received) == 2
    assert owner.npub in text_of(mail_server.received[-1])


def test_strangers_with_many_accounts_make_a_link_no_more_work(
    mail_server,
):
    """They would add rows to a mailbox, and all of them were locked for each link."""
    first = enter()
    EmailConfirmation.objects.bulk_create(
        EmailConfirmation(tenant=tenant, mailbox=ADDRESS, address=ADDRESS)
        for tenant in TenantFactory.create_batch(50, email=ADDRESS)
    )

    with CaptureQueriesContext(connection) as queries:
        send_confirmation(confirmation_id=key_of(first))

    assert len(mail_server.received) == 1
    locked = [q["sql"] for q in queries if "FOR" in q["sql"] and "UPDATE" in q["sql"]]
    assert locked and not any('"mailbox" =' in sql for sql in locked)


def test_link_waits_for_none_that_is_not_due_or_not_wanted_any_more(mail_server):
    first, second, third = enter(), enter(), enter()
    enter("other@example.com", first)
    later = timezone.now() + timedelta(minutes=1)
    EmailConfirmation.objects.filter(tenant=second).update(next_attempt_at=later)

    send_confirmation(confirmation_id=key_of(third))

    (mail,) = mail_server.received
    assert third.npub in text_of(mail)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_tenants_who_ask_at_once_cause_one_link(mail_server):
    for _ in range(4):
        enter()
    keys = list(EmailConfirmation.objects.values_list("pk", flat=True))

    def send(key: int) -> None:
        try:
            send_confirmation(confirmation_id=key)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(keys)) as executor:
        list(executor.map(send, keys))
    close_old_connections()

    assert len(mail_server.received) == 1


def test_link_is_sent_once_although_its_task_runs_twice(mail_server):
    enter()
    (key,) = EmailConfirmation.objects.values_list("pk", flat=True)

    for _ in range(2):
        send_confirmation(confirmation_id=key)

    assert len(mail_server.received) == 1


def test_link_that_the_server_postpones_is_repeated_as_the_same_mail(mail_server):
    enter()
    mail_server.refusal = "451 later"
    send_due()
    row = EmailConfirmation.objects.get()
    assert (row.state, row.last_error_code) == (State.WAITING, "notice-not-delivered")

    mail_server.refusal = ""
    with time_machine.travel(row.next_attempt_at, tick=True):
        send_due()

    assert [mail["Message-ID"] for mail in mail_server.received] == [row.message_id]
    assert EmailConfirmation.objects.get().state == State.SENT


@pytest.mark.parametrize("address", ['"a\x0bb"@x.example', '"a\x0cCc:b@c.d"@x.example'])
def test_address_with_line_break_gets_no_link(mail_server, address):
    enter(address)

    send_due()

    assert mail_server.received == []
    assert EmailConfirmation.objects.get().last_error_code == "email-address-refused"


def test_refused_address_is_not_tried_again_within_the_week(mail_server):
    mail_server.refusal = "550 no such mailbox"
    tenant = enter()
    send_due()
    assert EmailConfirmation.objects.get().state == State.REFUSED

    mail_server.refusal = ""
    enter(ADDRESS, tenant)
    send_due()

    assert mail_server.received == []


@pytest.mark.parametrize(
    "change",
    [
        lambda tenant: enter("", tenant),
        confirm_address,
        lambda tenant: close_tenant(pubkey=tenant.pk),
    ],
    ids=["address removed", "confirmed", "account closed"],
)
def test_link_is_dropped_when_it_is_no_longer_wanted(mail_server, change):
    tenant = enter()

    change(tenant)
    send_due()

    assert mail_server.received == []
    assert EmailConfirmation.objects.get().state == State.DROPPED


def test_link_waits_for_a_mail_server(mail_server, settings):
    settings.EMAIL_ENABLED = False
    enter()
    send_due()

    settings.EMAIL_ENABLED = True
    with time_machine.travel(timezone.now() + timedelta(days=1), tick=True):
        send_due()

    assert len(mail_server.received) == 1


def test_sweep_enqueues_links_that_were_lost(monkeypatch):
    enter()
    EmailConfirmation.objects.update(enqueued_at=None)
    sent: list[int] = []
    monkeypatch.setattr("tenants.tasks.send_confirmation.delay_many", sent.extend)

    sweep_confirmations()
    sweep_confirmations()

    assert sent == [EmailConfirmation.objects.get().pk]


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("Ann.Lee+x+y@Example.COM", "annlee@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("+x@example.com", "+x@example.com"),
        ("ann@[127.0.0.1]", "ann@[127.0.0.1]"),
        # Quotes do not make it another mailbox: RFC 5321, section 4.1.2.
        (r'"a\nn"@example.com', "ann@example.com"),
        ('"ann+x"@example.com', "ann@example.com"),
        ("ann@googlemail.com", "ann@gmail.com"),
        ("ann@" + "x" * 70 + ".example", "ann@" + "x" * 70 + ".example"),
    ],
)
def test_spellings_of_a_mailbox_are_one(address, mailbox):
    assert mailbox_of(address) == mailbox


# --- the link


def test_link_confirms_only_when_its_button_is_pressed(client, mail_server):
    """Link scanners open links: https://www.rfc-editor.org/rfc/rfc8058#section-1."""
    tenant = enter()
    send_due()
    path = path_in(mail_server.received[0], "confirm-email")

    page = client.get(path)
    client.head(path)

    tenant.refresh_from_db()
    assert not tenant.email_confirmed
    assert ADDRESS in page.content.decode()
    assert '<form method="post"' in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert page["Referrer-Policy"] == "same-origin"
    assert client.post(path).status_code == 200
    tenant.refresh_from_db()
    assert tenant.email_confirmed
    assert Activity.objects.latest("pk").snapshot == {"email": "confirmed"}


def test_link_may_be_followed_twice():
    tenant = enter()
    confirm_address(tenant)
    confirmed_at = tenant.email_confirmed_at

    confirm_address(tenant)

    assert tenant.email_confirmed_at == confirmed_at


def test_change_of_the_address_asks_for_another_confirmation(client, mail_server):
    tenant = enter()
    confirm_address(tenant)
    old_link = confirmation_url(tenant)

    update_tenant(pubkey=tenant.pk, display_name="Ann", email=ADDRESS)
    tenant.refresh_from_db()
    assert tenant.email_confirmed

    enter("other@example.com", tenant)
    assert not tenant.email_confirmed
    assert client.post("/" + old_link.split("/", 3)[3]).status_code == 404
    tenant.refresh_from_db()
    assert not tenant.email_confirmed
    send_due()
    assert [mail["To"] for mail in mail_server.received] == ["other@example.com"]


def test_link_of_another_tenant_or_purpose_confirms_nothing(client):
    tenant, other = enter(), enter()
    forged = confirmation_url(other).replace(other.pk, tenant.pk)
    stop = stop_url(tenant).replace("stop-email", "confirm-email")

    for url in (forged, stop):
        with pytest.raises(EmailLinkInvalid):
            confirm_email(token=url.rsplit("/", 1)[1])
        assert client.get("/" + url.split("/", 3)[3]).status_code == 404


def test_link_expires_after_a_week(client):
    tenant = enter()
    url = confirmation_url(tenant)

    with time_machine.travel(timezone.now() + WEEK + timedelta(minutes=1)):
        with pytest.raises(EmailLinkExpired):
            confirm_email(token=url.rsplit("/", 1)[1])
        response = client.post("/" + url.split("/", 3)[3])

    assert response.status_code == 410
    assert "older than a week" in response.content.decode()


def test_guesses_of_links_are_throttled(client, settings):
    settings.API_RATE_PER_ADDRESS = "2/minute"

    statuses = [client.get("/stop-email/x").status_code for _ in range(3)]

    assert statuses == [404, 404, 429]


# --- the end


def test_notice_has_the_headers_of_a_one_click_unsubscription(ann, inbox, mail_server):
    """As in https://www.rfc-editor.org/rfc/rfc8058#section-3.1."""
    tenant = ann.tenant(email="ann@example.com")

    send_notice(ann)

    (mail,) = mail_server.received
    assert mail["List-Unsubscribe"].strip() == f"<{stop_url(tenant)}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert path_in(mail, "stop-email") in stop_url(tenant)
    assert all(len(line) < 998 for line in str(mail).splitlines())


def test_one_click_of_a_mail_program_ends_the_mails(ann, inbox, mail_server):
    tenant = ann.tenant(email="ann@example.com")
    path = "/" + stop_url(tenant).split("/", 3)[3]
    without_cookies = Client(enforce_csrf_checks=True)

    assert without_cookies.get(path).status_code == 200
    assert Tenant.objects.get().email_confirmed
    body = {"List-Unsubscribe": "One-Click"}
    assert without_cookies.post(path, body).status_code == 200

    send_notice(ann)
    assert mail_server.received == []
    tenant.refresh_from_db()
    assert (tenant.email, tenant.email_confirmed_at) == ("", None)
    assert Activity.objects.latest("pk").snapshot == {"email": "unsubscribed"}


def test_address_that_is_removed_while_a_notice_is_sent_gets_no_mail(
    ann, inbox, mail_server, monkeypatch
):
    tenant = ann.tenant(email="ann@example.com")
    token = stop_url(tenant).rsplit("/", 1)[1]
    # The private message goes first, and its relays may take a minute.
    monkeypatch.setattr(
        notices, "send_message", lambda *_, **__: stop_emails(token=token)
    )

    send_notice(ann)

    assert mail_server.received == []


def test_old_mail_does_not_end_the_mails_to_a_new_address(client):
    tenant = enter()
    old = stop_url(tenant)
    enter("new@example.com", tenant)
    confirm_address(tenant)

    page = client.post("/" + old.split("/", 3)[3])

    assert page.status_code == 200
    assert "does not use this address any more" in page.content.decode()
    assert "removed" not in page.content.decode()
    tenant.refresh_from_db()
    assert tenant.mail_address == "new@example.com"


# --- the update of Caravel


def test_migration_asks_every_address_once_for_its_confirmation(mail_server):
    TenantFactory(email="Ann.Lee@example.com")
    TenantFactory(email="annlee+x@example.com")
    TenantFactory(email="closed@example.com", closed_at=timezone.now())
    TenantFactory()

    MIGRATION.ask_for_confirmations(apps, None)
    send_due()

    assert EmailConfirmation.objects.count() == 2
    assert len(mail_server.received) == 1


def test_migration_removes_the_words_of_wallets():
    evil = "Your wallet did not pay: call +1 900 555"
    tenants = [TenantFactory(nwc_error=text) for text in (evil, "relay: evil", "")]

    MIGRATION.cut_words_of_wallets(apps, None)

    for tenant in tenants:
        tenant.refresh_from_db()
    errors = [tenant.nwc_error for tenant in tenants]
    assert errors == ["Your wallet did not pay.", "", ""]
