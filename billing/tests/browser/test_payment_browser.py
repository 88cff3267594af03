"""The payment page in a real browser."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.utils import timezone
from playwright.sync_api import expect

from billing.models import CardAttempt, InvoiceCollection
from billing.tests.support.qr_codes import read_qr_code
from lightning.models import LightningInvoice
from lightning.services.rates import clear_cache
from sandbox.tests.support.accessibility import set_scheme, violations
from sandbox.wallets.behaviour import LookupBehaviour

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
]
WIDE = {"width": 1180, "height": 812}
PHONE = {"width": 375, "height": 812}


def request_bolt11(page):
    page.get_by_role("button", name="Pay with Lightning").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()


def pay(wallets, page):
    """Pay the bolt11 in the QR code."""
    scheme, _, bolt11 = read_qr_code(page).partition(":")
    assert scheme == "LIGHTNING"
    wallets.ledger.pay("alice", bolt11.lower())


def pay_and_expect_receipt(wallets, page):
    """Expect the receipt after at most three requests for the status.

    The page sends one every two seconds: see `test_hidden_page_does_not_poll`.
    """
    pay(wallets, page)
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    expect(page.get_by_role("heading", name="Paid. Thank you!")).to_be_visible()
    assert sum(url.endswith("/status") for url in urls) <= 3
    payment_hash = LightningInvoice.objects.get().payment_hash
    expect(page.get_by_role("main")).to_contain_text(payment_hash)


def test_receipt_appears_after_the_qr_code_was_paid(
    new_page, link, wallets, alice, save_picture
):
    page = new_page(viewport=WIDE)
    page.goto(link)
    expect(page.get_by_text("≈ 46,875 sats")).to_be_visible()
    save_picture(page, "pay-open")

    request_bolt11(page)
    save_picture(page, "pay-offered")
    in_light = read_qr_code(page)
    set_scheme(page, "dark")
    save_picture(page, "pay-dark")
    assert read_qr_code(page) == in_light
    page.evaluate("window.isSamePage = true")
    pay_and_expect_receipt(wallets, page)

    expect(page.get_by_role("status")).to_have_text("Paid. Thank you!")
    assert page.evaluate("window.isSamePage")
    set_scheme(page, "light")
    save_picture(page, "pay-receipt")


def test_receipt_is_downloaded_from_the_page(new_page, link, wallets, alice):
    page = new_page()
    page.goto(link)
    request_bolt11(page)
    pay_and_expect_receipt(wallets, page)

    with page.expect_download() as download:
        page.get_by_role("link", name="Download PDF").click()

    assert download.value.suggested_filename.endswith(".pdf")
    assert download.value.path().read_bytes().startswith(b"%PDF-")


def test_payment_on_a_phone_needs_no_scrolling(
    new_page, link, wallets, alice, save_picture
):
    page = new_page(viewport=PHONE, device_scale_factor=2, is_mobile=True)
    page.goto(link)

    request_bolt11(page)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    code = page.locator(".code").bounding_box()
    assert code["y"] + code["height"] < PHONE["height"]
    # A phone cannot scan its own screen.
    wallet = page.get_by_role("link", name="Open wallet").bounding_box()
    assert wallet["y"] + wallet["height"] < code["y"]
    save_picture(page, "pay-phone")
    pay_and_expect_receipt(wallets, page)

    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_qr_code_comes_first_on_a_wide_screen(new_page, link):
    page = new_page(viewport=WIDE)
    page.goto(link)

    request_bolt11(page)

    wallet = page.get_by_role("link", name="Open wallet").bounding_box()
    code = page.locator(".code").bounding_box()
    assert code["y"] + code["height"] < wallet["y"]
    assert code["width"] == code["height"] == 320


def test_times_are_in_the_readers_zone(new_page, link, invoice):
    page = new_page(timezone_id="Asia/Kathmandu")
    page.goto(link)

    local = invoice.suspend_at.astimezone(ZoneInfo("Asia/Kathmandu"))
    due = page.locator(".invoice-summary time")
    expect(due).to_contain_text(f"{local:%-d %B %Y}")
    expect(due).to_contain_text(f"{local:%H:%M} GMT+5:45")


def test_payment_works_without_javascript(new_page, link, wallets, alice):
    page = new_page(java_script_enabled=False)
    page.goto(link)
    expect(page.get_by_role("link", name="Check again")).to_be_visible()

    request_bolt11(page)
    expires_at = LightningInvoice.objects.get().expires_at
    expect(page.get_by_text(f"Valid until {expires_at:%H:%M} UTC")).to_be_visible()
    expect(page.get_by_role("button", name="Copy invoice")).to_be_hidden()
    pay(wallets, page)
    # Without scripts the page does not poll, and no task polls the wallet here.
    page.request.get(f"{link}/status")
    page.get_by_role("link", name="Check again").click()

    expect(page.get_by_role("heading", name="Paid. Thank you!")).to_be_visible()
    expect(page.get_by_role("button", name="Print")).to_be_hidden()


def tab_to(page, locator):
    for _ in range(20):
        page.keyboard.press("Tab")
        if locator.evaluate("e => e === document.activeElement"):
            return
    raise AssertionError("the element cannot be reached by keyboard")


def test_payment_works_by_keyboard_only(new_page, link, wallets, alice):
    page = new_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(link)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the payment")).to_be_focused()

    tab_to(page, page.get_by_role("button", name="Pay with Lightning"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    tab_to(page, page.locator("#copy"))
    page.keyboard.press("Enter")

    expect(page.locator("#copy")).to_have_text("Copied")
    bolt11 = LightningInvoice.objects.get().bolt11
    assert page.evaluate("navigator.clipboard.readText()") == bolt11
    wallets.ledger.pay("alice", bolt11)
    # The focused element is gone, so the focus moves to the new heading.
    expect(page.get_by_role("heading", name="Paid. Thank you!")).to_be_focused()


def test_link_opens_the_wallet_app(new_page, link):
    page = new_page()
    page.goto(link)
    request_bolt11(page)

    href = page.get_by_role("link", name="Open wallet").get_attribute("href")

    assert href == f"lightning:{LightningInvoice.objects.get().bolt11}"


def test_new_bolt11_can_be_requested_after_the_first_expired(
    new_page, link, wallets, alice
):
    page = new_page()
    page.goto(link)
    request_bolt11(page)
    first = read_qr_code(page)

    with time_machine.travel(timezone.now() + timedelta(seconds=905)):
        expect(page.get_by_role("heading", name="has expired")).to_be_visible()
        expect(page.get_by_role("button", name="new Lightning invoice")).to_be_hidden()
    with time_machine.travel(timezone.now() + timedelta(seconds=970)):
        expect(page.get_by_role("status")).to_contain_text(
            "You can now get a new Lightning invoice"
        )
        page.get_by_role("button", name="Get a new Lightning invoice").click()
        expect(page.get_by_role("img", name="QR code")).to_be_visible()
        assert read_qr_code(page) != first


def test_saving_a_card_leads_back_to_the_page(new_page, link, sandbox):
    page = new_page()
    page.goto(link)

    page.get_by_role("button", name="Pay by card").click()
    page.wait_for_url(f"{sandbox.url}/**")
    page.get_by_role("button", name="Visa •••• 4242").click()

    page.wait_for_url(f"{link}?back**")
    expect(page.get_by_text("Visa •••• 4242 is saved.")).to_be_visible()


@pytest.fixture
def page_with_clock(new_page, link):
    """A page with a fake clock, and a function that returns its requests."""
    page = new_page()
    page.clock.install()
    urls: list[str] = []

    def wait(seconds: int) -> list[str]:
        urls.clear()
        page.clock.run_for(1000 * seconds)
        page.wait_for_load_state("networkidle")
        return [url for url in urls if url.startswith(link)]

    page.on("request", lambda request: urls.append(request.url))
    page.goto(link)
    return page, wait


HIDE = "Object.defineProperty(document, 'hidden', {get: () => true})"


def test_hidden_page_does_not_poll(page_with_clock, link):
    page, wait = page_with_clock
    assert wait(2) == [f"{link}/status"]

    page.evaluate(HIDE)

    assert wait(60) == []


def test_page_of_a_paid_invoice_stops_polling(page_with_clock, link):
    _, wait = page_with_clock
    update_invoice(stripe_status="paid", amount_remaining_cents=0, paid_by="card")
    assert wait(2) == [f"{link}/status", link]

    assert wait(60) == []


# --- accessibility


def update_invoice(**columns):
    InvoiceCollection.objects.update(**columns)


def charge(invoice, **columns):
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=3000,
        idempotency_key="1",
        **columns,
    )


#: Columns of the invoice for each headline.
STATES: dict[str, dict[str, Any]] = {
    "Pay this invoice": {},
    "This invoice is overdue": {"suspend_at": timezone.now() - timedelta(days=1)},
    "This invoice was written off": {"stripe_status": "uncollectible"},
    "This invoice is void": {"stripe_status": "void", "amount_remaining_cents": 0},
    "This invoice is still a draft": {"stripe_status": "draft"},
    "Paid. Thank you!": {
        "stripe_status": "paid",
        "paid_by": "card",
        "amount_paid_cents": 3000,
    },
    "Covered by credit": {
        "stripe_status": "paid",
        "paid_by": "credit",
        "amount_paid_cents": 0,
    },
}


@pytest.fixture
def page(new_page):
    """A page without CSP, so the test can inject axe-core."""
    return new_page(bypass_csp=True)


def test_each_state_is_accessible(page, link, invoice):
    unchanged = {
        name: getattr(invoice, name)
        for name in ("stripe_status", "suspend_at", "paid_by")
    }
    for headline, columns in STATES.items():
        is_payable = columns.get("stripe_status") in (None, "uncollectible")
        remaining = {"amount_remaining_cents": 3000 * is_payable}
        update_invoice(**{**unchanged, **remaining, **columns})
        page.goto(link)

        expect(page.get_by_role("heading", name=headline)).to_be_visible()
        assert violations(page) == []


def test_error_messages_are_accessible(page, link, invoice, rates):
    charge(invoice, state="refused", resolved_at=timezone.now())
    rates.fault("error")
    clear_cache()
    page.goto(link)
    expect(page.get_by_text("Your card was declined")).to_be_visible()
    expect(page.get_by_text("There is no exchange rate right now")).to_be_visible()
    assert violations(page) == []

    CardAttempt.objects.update(state="pending", resolved_at=None)
    expect(page.get_by_role("heading", name="Waiting for your card")).to_be_visible()
    assert violations(page) == []


def test_lightning_payment_is_accessible(page, link, own_wallet, wallets, alice):
    page.goto(link)
    request_bolt11(page)
    page.get_by_text("Show the invoice as text").click()
    assert violations(page) == []

    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    expect(page.locator("#wallet-down")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("We cannot reach our wallet")
    assert violations(page) == []

    own_wallet.lookup_behaviour = LookupBehaviour()
    with time_machine.travel(timezone.now() + timedelta(seconds=905)):
        expect(page.get_by_role("heading", name="has expired")).to_be_visible()
        assert violations(page) == []
        wallets.ledger.pay("alice", LightningInvoice.objects.get().bolt11)
        with time_machine.travel(timezone.now() + timedelta(seconds=12)):
            expect(page.get_by_role("heading", name="Paid.")).to_be_visible()
    page.get_by_text("How to verify this receipt").click()
    assert violations(page) == []


def test_list_of_open_invoices_is_accessible(page, link, invoice):
    other = InvoiceCollection.objects.get(pk=invoice.pk)
    other.pk, other.number = "in_other", "OTHER-1"
    other.save(force_insert=True)
    page.goto(link)
    expect(page.get_by_text("1 other invoice is open: $30.00.")).to_be_visible()
    assert violations(page) == []

    page.get_by_role("link", name="See and pay all").click()
    expect(page.get_by_role("heading", name="Open invoices")).to_be_visible()
    expect(page.get_by_text("$60.00")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("link", name="Invoice OTHER-1").click()

    expect(page.get_by_role("heading", name="Pay this invoice")).to_be_visible()


@pytest.mark.parametrize("token", ["nonsense"])
def test_page_for_an_invalid_link_is_accessible(new_page, live_server, link, token):
    page = new_page(tolerated="404", bypass_csp=True)
    page.goto(f"{live_server.url}/pay/{token}")

    expect(page.get_by_role("heading", name="There is no such invoice")).to_be_visible()
    assert violations(page) == []
