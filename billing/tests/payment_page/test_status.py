"""`/pay/<token>/status`: what the page of an invoice asks every other second."""

import time
from datetime import timedelta
from itertools import pairwise

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from billing.models import CardAttempt, Credit, InvoiceCollection, Settlement
from billing.services.collection.collect import collect_invoice
from billing.services.invoices.payment_link import LIFETIME
from billing.services.payment_page import refresh
from billing.tests.support.payment_page import bill, bolt11s, path_of, text
from caravel.core.web.throttling import concurrency_limit
from lightning.models import LightningInvoice
from lightning.services.payments import start_payment
from lightning.services.wallets import connect_wallet
from sandbox.wallets import LookingUp

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(payable) -> str:
    return path_of(payable)


@pytest.fixture
def open_bolt11(client, path) -> LightningInvoice:
    client.post(path)
    return LightningInvoice.objects.get()


def status(client, path):
    answer = client.get(path + "/status")
    assert answer.status_code == 200
    assert answer.json()["code"] == "ok"
    return answer.json()["data"]


def asked(own_wallet) -> int:
    return len(own_wallet.requests("lookup_invoice"))


def after(**delta):
    return time_machine.travel(timezone.now() + timedelta(**delta))


def test_asking_issues_nothing_and_asks_nobody(client, path, sandbox, own_wallet):
    before = len(sandbox.requests())

    first, again = status(client, path), status(client, path)

    assert first == again
    assert first["state"] == "open"
    assert first["expires_at"] is None
    assert first["is_final"] is False
    assert bolt11s() == []
    assert len(sandbox.requests()) == before
    assert own_wallet.requests() == []


def test_our_wallet_is_asked_every_other_second(client, path, open_bolt11, own_wallet):
    for _ in range(5):
        assert status(client, path)["state"] == "offered"
    assert asked(own_wallet) == 1

    with after(seconds=2.1):
        status(client, path)

    assert asked(own_wallet) == 2


def test_without_redis_our_wallet_is_not_overrun(
    client, path, open_bolt11, own_wallet, settings
):
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    for _ in range(5):
        assert status(client, path)["state"] == "offered"

    assert asked(own_wallet) == 1


def test_a_payment_is_told_before_stripe_is(client, path, open_bolt11, alice, payable):
    alice.pay(open_bolt11.bolt11)

    found = status(client, path)

    assert found["state"] == "paid"
    payable.refresh_from_db()
    assert payable.stripe_status == "open"
    shown = text(client.get(path))
    assert "Paid. Thank you!" in shown
    assert open_bolt11.bolt11 not in shown.partition("</main>")[0].partition("proof")[0]
    assert "<form" not in shown


def test_that_stripe_is_told_too_changes_nothing(
    client, path, open_bolt11, alice, payable
):
    alice.pay(open_bolt11.bolt11)
    before = status(client, path)

    collect_invoice(invoice_id=payable.pk)

    after_all = status(client, path)
    assert after_all["version"] == before["version"]
    assert (before["is_final"], after_all["is_final"]) == (False, True)


def test_each_state_has_another_version(client, path, open_bolt11, alice):
    versions = []
    with after(seconds=1):
        versions.append(status(client, path)["version"])
    for seconds in (901, 962):
        with after(seconds=seconds):
            versions.append(status(client, path)["version"])
    alice.pay(open_bolt11.bolt11)
    with after(seconds=980):
        versions.append(status(client, path)["version"])

    assert all(one != other for one, other in pairwise(versions))


def test_an_expired_one_is_still_looked_for(
    client, path, open_bolt11, alice, own_wallet
):
    with after(seconds=902):
        found = status(client, path)
        assert found["state"] == "offer-expired"
        assert found["expires_at"] is None
    alice.pay(open_bolt11.bolt11)

    with after(seconds=914):
        assert status(client, path)["state"] == "paid"


def test_a_silent_wallet_holds_nobody_up(
    client, path, open_bolt11, own_wallet, monkeypatch
):
    monkeypatch.setattr(refresh, "PATIENCE", 0.3)
    status(client, path)
    own_wallet.go_offline()

    with after(seconds=3):
        begun = time.monotonic()
        found = status(client, path)
        assert time.monotonic() - begun < 2
        assert found["state"] == "wallet-down"
        assert found["is_wallet_down"] is True
        assert "We cannot reach our wallet just now." in text(client.get(path))
        assert open_bolt11.bolt11 in text(client.get(path))


def test_a_silent_wallet_is_asked_less_often(client, path, open_bolt11, own_wallet):
    own_wallet.lookups = LookingUp(error="INTERNAL")
    status(client, path)
    with after(seconds=3):
        assert status(client, path)["state"] == "wallet-down"
    count = asked(own_wallet)

    with after(seconds=6):
        assert status(client, path)["state"] == "wallet-down"
    assert asked(own_wallet) == count

    own_wallet.lookups = LookingUp()
    with after(seconds=14):
        assert status(client, path)["state"] == "offered"
    assert asked(own_wallet) == count + 1


def test_a_wallet_that_comes_back_is_no_more_said_to_be_away(
    client, path, open_bolt11, own_wallet, alice
):
    own_wallet.lookups = LookingUp(error="INTERNAL")
    assert status(client, path)["state"] == "wallet-down"
    own_wallet.lookups = LookingUp()
    alice.pay(open_bolt11.bolt11)

    with after(seconds=11):
        assert status(client, path)["state"] == "paid"


def test_with_many_waiting_it_is_told_what_is_known(
    client, path, open_bolt11, own_wallet, settings
):
    lanes = [concurrency_limit() for _ in range(settings.SLOW_REQUESTS)]
    for lane in lanes:
        lane.__enter__()
    try:
        assert status(client, path)["state"] == "offered"
        assert asked(own_wallet) == 0
    finally:
        for lane in lanes:
            lane.__exit__(None, None, None)


def test_while_the_wallet_is_asked_it_says_until_when(client, path, payable, alice):
    connect_wallet(pubkey=payable.tenant_id, nwc_url=alice.url)
    start_payment(bill=bill(payable))

    found = status(client, path)

    assert found["state"] == "waiting"
    until = LightningInvoice.objects.get().final_at
    assert found["until"] == until.isoformat().replace("+00:00", "Z")


def test_while_the_card_is_asked(client, path, payable):
    CardAttempt.objects.create(
        collection=payable, payment_method="pm_1", amount_cents=500, idempotency_key="1"
    )

    assert status(client, path)["state"] == "waiting"
    shown = text(client.get(path))
    assert "Waiting for your card" in shown
    assert "<form" not in shown


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        ({"stripe_status": "draft", "suspend_at": None}, "draft"),
        ({"stripe_status": "void"}, "void"),
        ({"stripe_status": "paid", "paid_by": "card"}, "paid"),
    ],
)
def test_what_asks_for_nothing(client, path, columns, state):
    InvoiceCollection.objects.update(amount_remaining_cents=0, **columns)

    found = status(client, path)

    assert found["state"] == state
    assert found["is_final"] is (state != "draft")


def test_who_paid_may_not_be_known_yet(client, path):
    InvoiceCollection.objects.update(stripe_status="paid", amount_remaining_cents=0)

    found = status(client, path)

    assert (found["state"], found["is_final"]) == ("paid", False)


def test_a_payment_that_cannot_pay_it_all_is_not_taken_for_paid(
    client, path, open_bolt11, alice
):
    alice.pay(open_bolt11.bolt11)
    InvoiceCollection.objects.update(amount_remaining_cents=700)

    assert status(client, path)["state"] == "waiting"
    shown = text(client.get(path))
    assert "A payment has arrived and is being booked." in shown
    assert "<form" not in shown


def test_what_became_credit_has_not_paid_it(client, path, open_bolt11, alice, payable):
    alice.pay(open_bolt11.bolt11)
    status(client, path)
    Settlement.objects.create(
        invoice=open_bolt11,
        collection=payable,
        state=Settlement.State.CREDITED,
        surplus_cents=500,
        resolved_at=timezone.now(),
    )

    assert status(client, path)["state"] == "open"
    assert not Credit.objects.exists()


# --- the link


@pytest.mark.parametrize(("token", "code", "http"), [("nonsense", "link-invalid", 404)])
def test_a_bad_link(client, token, code, http):
    answer = client.get(reverse("pay-status", args=[token]))

    assert answer.status_code == http
    assert answer.json()["code"] == code
    assert answer["Cache-Control"] == "no-store, private"


def test_an_old_link(client, path):
    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        answer = client.get(path + "/status")

    assert (answer.status_code, answer.json()["code"]) == (410, "link-expired")


def test_too_many_questions(client, path, settings):
    settings.API_RATE_PER_ADDRESS = "2/minute"
    status(client, path)
    status(client, path)

    answer = client.get(path + "/status")

    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert 0 < int(answer["Retry-After"]) <= 60


def test_others_than_get_are_refused(client, path):
    assert client.post(path + "/status").status_code == 405


def test_nothing_keeps_the_answer(client, path):
    answer = client.get(path + "/status")

    assert answer["Cache-Control"] == "no-store, private"
    assert answer["Referrer-Policy"] == "same-origin"
    assert "noindex" in answer["X-Robots-Tag"]
