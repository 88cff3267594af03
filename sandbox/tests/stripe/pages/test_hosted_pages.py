"""The hosted invoice page over HTTP: its contents, and payment on it."""

import re

import pytest
import requests

from sandbox.common.http import Request
from sandbox.stripe.app import StripeApp
from sandbox.stripe.pages import routes as pages
from sandbox.stripe.pages.hosted import invoice as invoice_page
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY
from sandbox.tests.support.stripe.web import fetch, part, submit, words

HTML_INJECTION = """"><script>alert('1')</script>&amp;"""
CHALLENGE = "pm_card_authenticationRequired"


def fetch_page(invoice):
    return fetch(invoice.hosted_invoice_url)


def text_on_page(invoice):
    return words(fetch_page(invoice).text)


def pay(invoice, card="pm_card_visa", **options):
    return submit(f"{invoice.hosted_invoice_url}/pay", {"card": card}, **options)


def authenticate(invoice, outcome):
    url = f"{invoice.hosted_invoice_url}/authenticate"
    return submit(url, {"outcome": outcome})


def status_of(api, invoice):
    return api.v1.invoices.retrieve(invoice.id).status


def test_open_invoice_page_contains_customer_lines_and_amounts(api):
    ann = builders.customer(api, name="Ann Bee")
    invoice = builders.open_invoice(api, ann)

    response = fetch_page(invoice)

    text = words(response.text)
    assert response.status_code == 200
    assert f"Invoice {invoice.number} open $10.00 Please pay by" in text
    assert "To Ann Bee ann@example.com From Sandbox Issued" in text
    assert re.search(
        r"1 × Relay \(at \$10\.00 / month\) \$10\.00 \d+ \w{3} 20\d\d – \d+ \w{3}", text
    )
    assert "Total $10.00 Amount due $10.00" in text
    assert "Pay $10.00 with Visa •••• 4242" in text
    assert "no money moves" in text
    assert response.headers["Cache-Control"] == "no-store"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert "<script" not in response.text


@pytest.mark.parametrize(
    ("balance", "amount", "expected"),
    [
        (-750, 1_000, "Total $10.00 Paid from your balance -$7.50 Amount due $2.50"),
        (300, 1_000, "Total $10.00 Balance owed $3.00 Amount due $13.00"),
        (-1_500, 1_000, "Paid from your balance -$10.00 Amount due $0.00"),
        (
            0,
            30,
            "Total $0.30 Below the minimum charge, moved to the next invoice -$0.30 "
            "Amount due $0.00",
        ),
    ],
)
def test_effect_of_customer_balance_is_displayed(api, balance, amount, expected):
    ann = builders.customer(api)
    if balance:
        api.v1.customers.balance_transactions.create(
            ann.id, {"amount": balance, "currency": "usd"}
        )
    subscription = builders.subscription(api, builders.price(api, amount), to=ann)
    invoice = builders.first_invoice(api, subscription)

    assert expected in text_on_page(invoice)


def test_negative_invoice_is_added_to_the_balance(api):
    ann = builders.customer(api)
    api.v1.invoice_items.create(
        {"customer": ann.id, "amount": -500, "currency": "usd", "description": "Back"}
    )
    draft = api.v1.invoices.create(
        {"customer": ann.id, "pending_invoice_items_behavior": "include"}
    )
    invoice = api.v1.invoices.finalize_invoice(draft.id)

    text = text_on_page(invoice)

    assert "Total -$5.00 Added to your balance $5.00 Amount due $0.00" in text
    assert "Paid with No payment was needed" in text


def test_issued_credit_notes_are_listed_and_voided_ones_are_not(api):
    invoice = builders.open_invoice(api)
    note = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 300})
    voided_note = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 100})
    api.v1.credit_notes.void_credit_note(voided_note.id)

    before = text_on_page(invoice)
    pay(invoice)
    api.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 200, "credit_amount": 200}
    )

    assert f"Credit note {note.number} -$3.00 Amount due $7.00" in before
    assert str(voided_note.number) not in before
    assert re.search(
        r"Amount paid -\$7\.00 Credited by \S+ \$2\.00", text_on_page(invoice)
    )


def test_invoice_with_too_many_lines_is_shortened(api, monkeypatch):
    monkeypatch.setattr(invoice_page, "MAX_LINES", 1)
    invoice = builders.open_invoice(api)
    two_lines = builders.first_invoice(
        api, builders.subscription(api, builders.price(api), builders.price(api))
    )

    assert "line more" not in text_on_page(invoice)
    assert "and 1 line more" in text_on_page(two_lines)


def test_customer_pays_with_a_valid_card(api):
    invoice = builders.open_invoice(api)

    response = pay(invoice)

    text = words(response.text)
    assert response.history[0].status_code == 303
    assert response.url == f"{invoice.hosted_invoice_url}?done=pay"
    assert "Your payment went through." in text
    assert re.search(
        r"Receipt Amount paid \$10\.00 Date .* Paid with Visa •••• 4242", text
    )
    assert 'id="pay"' not in response.text
    assert status_of(api, invoice) == "paid"
    assert "invoice.paid" in builders.event_types(api)


def test_no_payment_notice_on_an_unpaid_invoice(api):
    invoice = builders.open_invoice(api)

    page = fetch(f"{invoice.hosted_invoice_url}?done=pay")

    assert "went through" not in words(page.text)


@pytest.mark.parametrize(
    ("card", "message", "codes"),
    [
        (
            "pm_card_chargeDeclined",
            "Your card was declined.",
            "card_declined · generic_decline",
        ),
        (
            "pm_card_chargeDeclinedInsufficientFunds",
            "Your card has insufficient funds.",
            "card_declined · insufficient_funds",
        ),
        ("4000 0000 0000 0069", "Your card has expired.", "expired_card"),
    ],
)
def test_decline_is_displayed_with_message_and_code(api, card, message, codes):
    invoice = builders.open_invoice(api)

    page = pay(invoice, card).text

    assert f"{message} {codes} Pay $10.00" in words(part(page, "pay"))
    assert f"<title>Not paid: Invoice {invoice.number}" in page
    assert status_of(api, invoice) == "open"
    assert "invoice.payment_failed" in builders.event_types(api)


def test_another_card_pays_after_a_decline(api):
    invoice = builders.open_invoice(api)
    pay(invoice, "pm_card_chargeDeclined")

    text = words(pay(invoice, "5555 5555 5555 4444").text)

    assert "Paid with Mastercard •••• 4444" in text
    assert "declined" not in text


def test_card_that_needs_authentication_shows_the_challenge(api):
    invoice = builders.open_invoice(api)

    page = pay(invoice, CHALLENGE).text

    assert "The issuer of Visa •••• 3184 requires 3D Secure" in words(
        part(page, "challenge")
    )
    assert 'id="pay"' not in page
    assert status_of(api, invoice) == "open"


def test_completed_challenge_pays_the_invoice(api):
    invoice = builders.open_invoice(api)
    pay(invoice, CHALLENGE)

    text = words(authenticate(invoice, "succeeded").text)

    assert "Your payment went through." in text
    assert status_of(api, invoice) == "paid"


def test_failed_challenge_shows_the_error_and_leaves_the_invoice_open(api):
    invoice = builders.open_invoice(api)
    pay(invoice, CHALLENGE)

    page = authenticate(invoice, "failed").text

    text = words(part(page, "pay"))
    assert "has failed authentication" in text
    assert "payment_intent_authentication_failure" in text
    assert status_of(api, invoice) == "open"


def test_challenge_of_an_automatic_charge_is_completed_on_the_page(api):
    ann, _ = builders.paying_customer(api, CHALLENGE)
    subscription = builders.automatic(api, to=ann)
    invoice = api.v1.invoices.retrieve(str(subscription.latest_invoice))

    before = fetch_page(invoice).text
    authenticate(invoice, "succeeded")

    assert 'id="challenge"' in before
    assert builders.status_of(api, subscription) == "active"


def test_overdue_invoice_shows_its_due_date(api, stripe_sandbox):
    invoice = builders.open_invoice(api)

    stripe_sandbox.advance(8 * DAY)

    assert "It was due on " in text_on_page(invoice)


def test_failed_automatic_charge_shows_its_decline(api, stripe_sandbox):
    ann, _ = builders.paying_customer(api)
    subscription = builders.automatic(api, to=ann)
    builders.script(api, ann, "card_declined")
    stripe_sandbox.advance(32 * DAY)
    invoice = builders.newest_invoice(api, subscription)

    text = text_on_page(invoice)
    assert "There will be no automatic charge" in text
    assert "Your card was declined. card_declined" in text


@pytest.mark.parametrize(
    ("action", "text", "payable"),
    [
        ("void_invoice", "Voided on", False),
        ("mark_uncollectible", "Marked uncollectible on", True),
    ],
)
def test_void_and_uncollectible_invoices_show_their_status(api, action, text, payable):
    invoice = builders.open_invoice(api)
    getattr(api.v1.invoices, action)(invoice.id)

    page = fetch_page(invoice).text
    pay(invoice)

    assert text in words(page)
    assert ('id="pay"' in page) == payable
    assert (status_of(api, invoice) == "paid") == payable


def test_out_of_band_payment_is_displayed(api):
    invoice = builders.open_invoice(api)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert "Paid with Outside of Stripe" in text_on_page(invoice)


def test_description_and_footer_are_displayed(api):
    subscription = builders.subscription(api)
    api.v1.invoices.update(
        str(subscription.latest_invoice), {"description": "For May", "footer": "Thanks"}
    )

    text = text_on_page(builders.first_invoice(api, subscription))

    assert "For May Thanks" in text


@pytest.mark.parametrize(
    ("action", "form", "status", "text"),
    [
        ("pay", {}, 402, "Your card number is incorrect."),
        ("pay", {"card": "4111 1111 1111 1111"}, 402, "Your card number is incorrect."),
        ("pay", {"card": HTML_INJECTION}, 402, "Your card number is incorrect."),
        ("authenticate", {"outcome": "succeeded"}, 400, "nothing to authenticate"),
        ("authenticate", {"outcome": "x"}, 400, "must be succeeded or failed"),
    ],
)
def test_invalid_form_is_rejected_and_changes_nothing(api, action, form, status, text):
    invoice = builders.open_invoice(api)
    before = builders.event_types(api)

    response = submit(f"{invoice.hosted_invoice_url}/{action}", form)

    assert response.status_code == status
    assert text in words(response.text)
    assert 'role="alert"' in response.text
    assert builders.event_types(api) == before


def test_paid_invoice_cannot_be_paid_again(api):
    invoice = builders.open_invoice(api)
    pay(invoice)

    response = pay(invoice)

    assert response.status_code == 400
    assert "Invoice is already paid" in words(response.text)
    assert builders.event_types(api).count("charge.succeeded") == 1


def test_rejected_payment_that_claims_success_shows_only_the_error(api):
    invoice = builders.open_invoice(api)
    pay(invoice)

    form = {"card": "pm_card_visa", "done": "pay"}
    page = words(submit(f"{invoice.hosted_invoice_url}/pay", form).text)

    assert "Invoice is already paid" in page
    assert "went through" not in page


def test_get_on_the_form_url_redirects_to_the_page(api):
    invoice = builders.open_invoice(api)

    response = fetch(f"{invoice.hosted_invoice_url}/pay")

    assert response.url == invoice.hosted_invoice_url


def test_html_in_names_is_escaped(api):
    ann = builders.customer(api, name=HTML_INJECTION, email=f"{HTML_INJECTION}@x")
    price = builders.price(api, product_data={"name": HTML_INJECTION})
    subscription = builders.subscription(api, price, to=ann)
    api.v1.invoices.update(
        str(subscription.latest_invoice),
        {"description": HTML_INJECTION, "footer": HTML_INJECTION},
    )
    invoice = builders.first_invoice(api, subscription)

    page = fetch_page(invoice).text

    assert "<script" not in page
    assert words(page).count(HTML_INJECTION) == 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/i/test_unknown", 404),
        ("HEAD", "/i/test_unknown", 404),
        ("GET", "/i/", 404),
        ("GET", "/i/a/b/c", 404),
        ("GET", "/i/<script>", 404),
        ("GET", "/i/test_unknown/pay", 404),
        ("POST", "/i/test_unknown/pay", 404),
        ("POST", "/i/test_unknown/steal", 404),
        ("POST", "/i/test_unknown", 405),
        ("DELETE", "/i/test_unknown", 405),
    ],
)
def test_unknown_path_or_method_is_rejected(stripe_sandbox, method, path, status):
    response = requests.request(
        method,
        f"{stripe_sandbox.url}{path}",
        headers={"Origin": stripe_sandbox.url},
        timeout=60,
    )

    assert response.status_code == status
    assert "<script" not in response.text
    assert "Content-Security-Policy" in response.headers


def test_draft_has_no_page(api, stripe_sandbox):
    builders.subscription(api)

    assert fetch(f"{stripe_sandbox.url}/i/None").status_code == 404


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example"])
def test_form_from_another_site_is_denied(api, stripe_sandbox, origin):
    invoice = builders.open_invoice(api)
    headers = {"Origin": origin} if origin else {}

    response = requests.post(
        f"{invoice.hosted_invoice_url}/pay",
        data={"card": "pm_card_visa"},
        headers=headers,
        timeout=60,
    )

    assert response.status_code == 403
    assert status_of(api, invoice) == "open"


@pytest.mark.parametrize("path", ["/i/x", "/p/session/x", "/p/login/x"])
def test_page_is_denied_to_other_machines(path):
    headers = {"host": "127.0.0.1:12111"}
    requests = [
        Request("GET", path, headers=headers, client=client)
        for client in ("127.0.0.1", "192.168.1.5")
    ]

    local, remote = (pages.handle(StripeApp(), request).status for request in requests)

    assert (local, remote) == (404, 403)


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
@pytest.mark.parametrize(
    ("method", "mode", "destination", "status"),
    [
        ("GET", "navigate", "document", 404),
        ("GET", "navigate", "iframe", 403),
        ("GET", "no-cors", "image", 403),
        ("GET", "cors", "empty", 403),
        ("POST", "navigate", "document", 403),
    ],
)
def test_other_sites_can_only_link_to_the_page(site, method, mode, destination, status):
    headers = {
        "host": "127.0.0.1:12111",
        "sec-fetch-site": site,
        "sec-fetch-mode": mode,
        "sec-fetch-dest": destination,
    }
    request = Request(method, "/i/x", headers=headers)

    assert pages.handle(StripeApp(), request).status == status


def test_status_page_links_to_the_invoice_page(api, stripe_sandbox):
    invoice = builders.open_invoice(api)
    path = str(invoice.hosted_invoice_url).removeprefix(stripe_sandbox.url)

    table = fetch(f"{stripe_sandbox.url}/").text
    object_page = fetch(f"{stripe_sandbox.url}/?id={invoice.id}").text

    assert f'href="{path}"' in part(table, "invoices")
    assert f'href="{path}"' in part(object_page, "object")
