"""`/pay/<token>/status`, which the page polls every two seconds."""

from datetime import timedelta
from itertools import pairwise
from unittest.mock import Mock

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from billing.models import CardAttempt, Credit, InvoiceCollection, Settlement
from billing.services.collection.collect import collect_invoice
from billing.services.invoices.payment_link import LIFETIME
from billing.services.invoices.records import payment_request_for
from billing.services.payment_page import refresh
from billing.tests.support.payment_page import bolt11s, path_of, text
from caravel.core.web.throttling import concurrency_limit
from caravel.nostr.relays.pool import get_pool
from lightning.models import LightningInvoice
from lightning.services.wallets import connect_wallet
from lightning.tests.support.payments import start_payment
from sandbox.wallets.behaviour import LookupBehaviour

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(open_invoice) -> str:
    return path_of(open_invoice)


@pytest.fixture
def open_bolt11(client, path) -> LightningInvoice:
    client.post(path)
    return LightningInvoice.objects.get()


def status(client, path):
    response = client.get(path + "/status")
    assert response.status_code == 200
    assert response.json()["code"] == "ok"
    return response.json()["data"]


def lookup_count(own_wallet) -> int:
    return len(own_wallet.requests("lookup_invoice"))


def after(**delta):
    return time_machine.travel(timezone.now() + timedelta(**delta))


def test_polling_issues_nothing_and_sends_no_requests(
    client, path, sandbox, own_wallet
):
    before = len(sandbox.requests())

    first, second = status(client, path), status(client, path)

    assert first == second
    assert first["state"] == "open"
    assert first["expires_at"] is None
    assert first["is_final"] is False
    assert bolt11s() == []
    assert len(sandbox.requests()) == before
    assert own_wallet.requests() == []


def test_wallet_is_polled_at_most_every_two_seconds(
    client, path, open_bolt11, own_wallet
):
    for _ in range(5):
        assert status(client, path)["state"] == "offered"
    assert lookup_count(own_wallet) == 1

    with after(seconds=2.1):
        status(client, path)

    assert lookup_count(own_wallet) == 2


def test_wallet_polling_is_limited_without_redis(
    client, path, open_bolt11, own_wallet, settings
):
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    for _ in range(5):
        assert status(client, path)["state"] == "offered"

    assert lookup_count(own_wallet) == 1


def test_payment_is_shown_before_it_is_marked_in_stripe(
    client, path, open_bolt11, alice, open_invoice
):
    alice.pay(open_bolt11.bolt11)

    data = status(client, path)

    assert data["state"] == "paid"
    open_invoice.refresh_from_db()
    assert open_invoice.stripe_status == "open"
    html = text(client.get(path))
    assert "Paid. Thank you!" in html
    assert open_bolt11.bolt11 not in html.partition("</main>")[0].partition("proof")[0]
    assert "<form" not in html


def test_version_stays_the_same_when_payment_is_marked_in_stripe(
    client, path, open_bolt11, alice, open_invoice
):
    alice.pay(open_bolt11.bolt11)
    before = status(client, path)

    collect_invoice(invoice_id=open_invoice.pk)

    marked = status(client, path)
    assert marked["version"] == before["version"]
    assert before["is_final"] is False
    assert marked["is_final"] is True


def test_version_changes_with_each_state(client, path, open_bolt11, alice):
    versions = []
    with after(seconds=1):
        versions.append(status(client, path)["version"])
    for seconds in (901, 962):
        with after(seconds=seconds):
            versions.append(status(client, path)["version"])
    alice.pay(open_bolt11.bolt11)
    with after(seconds=980):
        versions.append(status(client, path)["version"])

    assert all(earlier != later for earlier, later in pairwise(versions))


def test_expired_bolt11_is_still_looked_up(
    client, path, open_bolt11, alice, own_wallet
):
    with after(seconds=902):
        data = status(client, path)
        assert data["state"] == "offer-expired"
        assert data["expires_at"] is None
    alice.pay(open_bolt11.bolt11)

    with after(seconds=914):
        assert status(client, path)["state"] == "paid"


def test_offline_wallet_delays_status_only_briefly(
    client, path, open_bolt11, own_wallet, monkeypatch
):
    monkeypatch.setattr(refresh, "WALLET_TIMEOUT", 0.3)
    status(client, path)
    own_wallet.go_offline()
    pool = get_pool()
    request_each = Mock(wraps=pool.request_each)
    monkeypatch.setattr(pool, "request_each", request_each)

    with after(seconds=3):
        data = status(client, path)
        _, timeout = request_each.call_args.args
        assert timeout == refresh.WALLET_TIMEOUT
        assert data["state"] == "wallet-down"
        assert data["is_wallet_down"] is True
        assert "We cannot reach our wallet right now." in text(client.get(path))
        assert open_bolt11.bolt11 in text(client.get(path))


def test_failing_wallet_is_polled_less_often(client, path, open_bolt11, own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    status(client, path)
    with after(seconds=3):
        assert status(client, path)["state"] == "wallet-down"
    count = lookup_count(own_wallet)

    with after(seconds=6):
        assert status(client, path)["state"] == "wallet-down"
    assert lookup_count(own_wallet) == count

    own_wallet.lookup_behaviour = LookupBehaviour()
    with after(seconds=14):
        assert status(client, path)["state"] == "offered"
    assert lookup_count(own_wallet) == count + 1


def test_payment_is_shown_after_wallet_recovers(
    client, path, open_bolt11, own_wallet, alice
):
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    assert status(client, path)["state"] == "wallet-down"
    own_wallet.lookup_behaviour = LookupBehaviour()
    alice.pay(open_bolt11.bolt11)

    with after(seconds=11):
        assert status(client, path)["state"] == "paid"


def test_wallet_is_not_polled_when_overloaded(
    client, path, open_bolt11, own_wallet, settings
):
    limits = [concurrency_limit() for _ in range(settings.SLOW_REQUESTS)]
    for limit in limits:
        limit.__enter__()
    try:
        assert status(client, path)["state"] == "offered"
        assert lookup_count(own_wallet) == 0
    finally:
        for limit in limits:
            limit.__exit__(None, None, None)


def test_status_has_latest_end_of_pending_wallet_payment(
    client, path, open_invoice, alice
):
    connect_wallet(pubkey=open_invoice.tenant_id, nwc_url=alice.url)
    start_payment(payment_request_for(open_invoice))

    data = status(client, path)

    assert data["state"] == "waiting"
    until = LightningInvoice.objects.get().final_at
    assert data["until"] == until.isoformat().replace("+00:00", "Z")


def test_status_is_waiting_while_card_charge_is_pending(client, path, open_invoice):
    CardAttempt.objects.create(
        collection=open_invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="1",
    )

    assert status(client, path)["state"] == "waiting"
    html = text(client.get(path))
    assert "Waiting for your card" in html
    assert "<form" not in html


def start_payment_at_stripe(status):
    InvoiceCollection.objects.update(intent_status=status, intent_since=timezone.now())


def test_status_is_waiting_during_a_bank_payment(client, path):
    start_payment_at_stripe("processing")

    data = status(client, path)

    assert (data["state"], data["until"]) == ("waiting", None)
    html = text(client.get(path))
    assert "A bank payment is in progress" in html
    assert "only a moment" not in html
    assert "<form" not in html


def test_presented_bolt11_is_hidden_during_a_bank_payment(client, path, open_bolt11):
    start_payment_at_stripe("processing")

    assert status(client, path)["state"] == "waiting"
    assert open_bolt11.bolt11 not in text(client.get(path))


def test_status_has_the_end_of_a_challenge_and_the_page_leads_back_to_it(
    client, path, open_invoice
):
    start_payment_at_stripe("requires_action")

    data = status(client, path)

    assert (data["state"], bool(data["until"])) == ("waiting", True)
    html = text(client.get(path))
    assert "Waiting for your confirmation" in html
    assert f'href="{open_invoice.hosted_invoice_url}"' in html
    assert "<form" not in html


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        ({"stripe_status": "draft", "suspend_at": None}, "draft"),
        ({"stripe_status": "void"}, "void"),
        ({"stripe_status": "paid", "paid_by": "card"}, "paid"),
    ],
)
def test_status_of_an_invoice_with_nothing_to_pay_is_that_at_stripe(
    client, path, columns, state
):
    InvoiceCollection.objects.update(amount_remaining_cents=0, **columns)

    data = status(client, path)

    assert data["state"] == state
    assert data["is_final"] is (state != "draft")


def test_paid_status_is_not_final_until_payment_method_is_known(client, path):
    InvoiceCollection.objects.update(stripe_status="paid", amount_remaining_cents=0)

    data = status(client, path)

    assert data["state"] == "paid"
    assert data["is_final"] is False


def test_insufficient_payment_is_waiting_and_not_paid(client, path, open_bolt11, alice):
    alice.pay(open_bolt11.bolt11)
    InvoiceCollection.objects.update(amount_remaining_cents=700)

    assert status(client, path)["state"] == "waiting"
    html = text(client.get(path))
    assert "A payment has arrived and is being booked." in html
    assert "<form" not in html


def test_payment_that_became_credit_leaves_invoice_open(
    client, path, open_bolt11, alice, open_invoice
):
    alice.pay(open_bolt11.bolt11)
    status(client, path)
    Settlement.objects.create(
        invoice=open_bolt11,
        collection=open_invoice,
        state=Settlement.State.CREDITED,
        surplus_cents=500,
        resolved_at=timezone.now(),
    )

    assert status(client, path)["state"] == "open"
    assert not Credit.objects.exists()


# --- link and limits


@pytest.mark.parametrize(
    ("token", "code", "http_status"), [("nonsense", "link-invalid", 404)]
)
def test_invalid_link_is_not_found(client, token, code, http_status):
    response = client.get(reverse("pay-status", args=[token]))

    assert response.status_code == http_status
    assert response.json()["code"] == code
    assert response["Cache-Control"] == "no-store, private"


def test_expired_link_is_gone(client, path):
    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        response = client.get(path + "/status")

    assert response.status_code == 410
    assert response.json()["code"] == "link-expired"


def test_polling_is_rate_limited(client, path, settings):
    settings.API_RATE_PER_ADDRESS = "2/minute"
    status(client, path)
    status(client, path)

    response = client.get(path + "/status")

    assert response.status_code == 429
    assert response.json()["code"] == "throttled"
    assert 0 < int(response["Retry-After"]) <= 60


def test_only_get_is_allowed(client, path):
    assert client.post(path + "/status").status_code == 405


def test_status_is_private(client, path):
    response = client.get(path + "/status")

    assert response["Cache-Control"] == "no-store, private"
    assert response["Referrer-Policy"] == "same-origin"
    assert "noindex" in response["X-Robots-Tag"]
