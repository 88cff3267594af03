"""The invoice page and the billing portal in a browser."""

import pytest
from playwright.sync_api import expect

from sandbox.tests.support.browser import widths_that_scroll
from sandbox.tests.support.colours import low_contrast
from sandbox.tests.support.stripe import builders

HTML_INJECTION = (
    """"><script>document.title='taken'</script><img src=x onerror=alert(1)>"""
)
LONG = "Without-a-space-" * 8
ON = {"enabled": True}
ALL_FEATURES = {
    "customer_update": {**ON, "allowed_updates": ["email", "name"]},
    "invoice_history": ON,
    "payment_method_update": ON,
}
# Violations of the content security policy are console errors: `new_page` reports them.


@pytest.fixture
def page(new_page):
    return new_page()


def portal_url(api, payer, **params):
    """Create a portal session with all features and return its URL."""
    configuration = api.v1.billing_portal.configurations.create(
        {"features": ALL_FEATURES}
    )
    fields = {"customer": payer.id, "configuration": configuration.id, **params}
    return api.v1.billing_portal.sessions.create(fields).url


def button(page, name, **options):
    return page.get_by_role("button", name=name, **options)


def test_invoice_is_paid_with_a_valid_card(api, page):
    invoice = builders.open_invoice(api, builders.customer(api, name="Ann"))
    page.goto(invoice.hosted_invoice_url)
    expect(page.get_by_text("Ann", exact=True)).to_be_visible()

    button(page, "Pay $10.00").click()

    expect(page.get_by_role("status")).to_have_text(
        "Your payment went through. Thank you."
    )
    expect(page.locator("#receipt")).to_contain_text("Visa •••• 4242")
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"
    page.reload()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()


def test_declined_card_leaves_the_invoice_open(api, page):
    invoice = builders.open_invoice(api)
    page.goto(invoice.hosted_invoice_url)

    button(page, "is declined").click()

    expect(page.get_by_role("alert")).to_contain_text("Your card was declined.")
    expect(page.get_by_role("alert")).to_contain_text("card_declined")
    expect(page).to_have_title(f"Not paid: Invoice {invoice.number} · Sandbox")
    expect(button(page, "Pay $10.00")).to_be_visible()
    assert api.v1.invoices.retrieve(invoice.id).status == "open"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("Complete authentication", "paid"), ("Fail authentication", "open")],
)
def test_challenge_ends_with_the_chosen_outcome(api, page, outcome, status):
    invoice = builders.open_invoice(api)
    page.goto(invoice.hosted_invoice_url)
    button(page, "needs authentication").click()
    expect(page.get_by_role("heading", name="Authenticate the payment")).to_be_visible()

    button(page, outcome).click()

    expect(page.locator(".summary .badge")).to_have_text(status)
    assert api.v1.invoices.retrieve(invoice.id).status == status


def test_invoice_is_paid_with_a_card_number(api, page):
    invoice = builders.open_invoice(api)
    page.goto(invoice.hosted_invoice_url)

    page.get_by_text("Another test card").click()
    page.get_by_label("Card number").fill("5555 5555 5555 4444")
    page.get_by_label("Card number").press("Enter")

    expect(page.locator("#receipt")).to_contain_text("Mastercard •••• 4444")


def test_invoice_page_can_be_opened_from_another_site(api, page, stripe_sandbox):
    invoice = builders.open_invoice(api)
    page.goto(stripe_sandbox.url.replace("127.0.0.1", "localhost"))

    page.evaluate("(url) => { location.href = url }", invoice.hosted_invoice_url)

    expect(page.get_by_role("heading", name="Pay with a test card")).to_be_visible()


def test_status_page_links_to_the_invoice_page(api, page, stripe_sandbox):
    invoice = builders.open_invoice(api)
    page.goto(stripe_sandbox.url)

    invoices = page.get_by_role("table", name="Invoices")
    invoices.get_by_role("link", name=str(invoice.number)).click()

    expect(button(page, "Pay $10.00")).to_be_visible()


def test_card_is_added_and_removed(api, page):
    ann = builders.customer(api, name="Ann")
    page.goto(portal_url(api, ann))

    page.get_by_text("Add a test card").click()
    button(page, "Mastercard •••• 4444").click()
    expect(page.get_by_role("status")).to_contain_text("The card was saved")
    cards = page.locator("#payment-methods .rows")
    expect(cards).to_contain_text("Mastercard •••• 4444 default")
    button(page, "Remove: Mastercard •••• 4444").click()

    expect(page.get_by_role("status")).to_contain_text("The card was removed.")
    expect(page.locator("#payment-methods")).to_contain_text("No cards on file")
    assert api.v1.payment_methods.list({"customer": ann.id}).data == []


def test_default_card_is_changed(api, page):
    ann, visa = builders.paying_customer(api)
    builders.card(api, ann.id, "pm_card_mastercard")
    page.goto(portal_url(api, ann))

    button(page, "Make default: Visa •••• 4242").click()

    expect(page.locator("#payment-methods")).to_contain_text("Visa •••• 4242 default")
    settings = api.v1.customers.retrieve(ann.id).invoice_settings
    assert settings.default_payment_method == visa.id


def test_details_are_changed(api, page):
    ann = builders.customer(api, name="Ann")
    page.goto(portal_url(api, ann))

    page.get_by_label("Name").fill("Ann Bee")
    button(page, "Save details").click()

    expect(page.locator(".summary")).to_contain_text("Ann Bee")
    assert api.v1.customers.retrieve(ann.id).name == "Ann Bee"


def test_completed_flow_redirects_automatically(api, page, stripe_sandbox):
    target = f"{stripe_sandbox.url}/?done=pause".replace("127.0.0.1", "localhost")
    flow_data = {
        "type": "payment_method_update",
        "after_completion": {"type": "redirect", "redirect": {"return_url": target}},
    }
    page.goto(portal_url(api, builders.customer(api), flow_data=flow_data))

    button(page, "Visa •••• 4242").click()

    expect(page).to_have_url(target)


def test_html_in_names_is_displayed_as_text(api, page):
    ann = builders.customer(api, name=HTML_INJECTION, email=f"{HTML_INJECTION}@x")
    price = builders.price(api, product_data={"name": HTML_INJECTION})
    invoice = builders.first_invoice(api, builders.subscription(api, price, to=ann))

    for url in (invoice.hosted_invoice_url, portal_url(api, ann)):
        page.goto(url)
        expect(page.locator("main")).to_contain_text(f"1 × {HTML_INJECTION} (at $10.00")
        assert "taken" not in page.title()
        assert page.locator("main img, main script").count() == 0


@pytest.fixture
def page_urls(api):
    """URLs of the pages in most of their states, with long names."""
    ann, _ = builders.paying_customer(api, name=LONG, email=f"{'x' * 90}@example.com")
    price = builders.price(api, 99_999_999, product_data={"name": LONG})
    builders.automatic(api, to=ann)
    needs_action, declined, paid, void = (
        builders.first_invoice(api, builders.subscription(api, price, to=ann))
        for _ in range(4)
    )
    api.v1.invoices.void_invoice(void.id)
    api.v1.invoices.pay(paid.id)
    builders.pay_error(
        api,
        needs_action.id,
        payment_method=attach_card(api, ann, "authenticationRequired"),
    )
    builders.pay_error(
        api, declined.id, payment_method=attach_card(api, ann, "chargeCustomerFail")
    )
    url = portal_url(api, ann, return_url=f"https://{'long-' * 12}.example/")
    invoices = (needs_action, declined, paid, void)
    return [
        *(invoice.hosted_invoice_url for invoice in invoices),
        url,
        f"{url}?done=add-card",
    ]


def attach_card(api, payer, name):
    return api.v1.payment_methods.attach(f"pm_card_{name}", {"customer": payer.id}).id


def open_details(page):
    page.evaluate(
        "document.querySelectorAll('details').forEach((details) => details.open = true)"
    )


def test_pages_do_not_scroll_horizontally(page_urls, page):
    for url in page_urls:
        page.goto(url)
        open_details(page)

        assert widths_that_scroll(page, [320, 375, 1_024]) == {}, url


def test_text_has_enough_contrast(page_urls, page):
    for url in page_urls:
        page.goto(url)
        open_details(page)

        assert low_contrast(page) == set(), url


def test_fields_have_labels_and_pages_have_one_title_and_unique_ids(page_urls, page):
    for url in page_urls:
        page.goto(url)
        open_details(page)

        fields = page.locator("input")
        unlabelled = fields.evaluate_all(
            "(fields) => fields.filter((field) => !field.labels.length)"
        )
        assert unlabelled == [], url
        assert page.get_by_role("heading", level=1).count() == 1, url
        duplicate_ids = page.evaluate(
            """() => {
              const elements = [...document.querySelectorAll('[id]')];
              const ids = elements.map((element) => element.id);
              return ids.filter((id, index) => ids.indexOf(id) !== index);
            }"""
        )
        assert duplicate_ids == [], url


def test_invoice_is_paid_by_keyboard(api, page):
    page.goto(builders.open_invoice(api).hosted_invoice_url)

    page.keyboard.press("Tab")
    expect(button(page, "Pay $10.00")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")

    assert outline == "solid"
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()


def test_pages_work_without_javascript(api, new_page):
    page = new_page(java_script_enabled=False)
    ann = builders.customer(api)
    page.goto(builders.open_invoice(api, ann).hosted_invoice_url)

    button(page, "needs authentication").click()
    button(page, "Complete authentication").click()
    expect(page.locator("#receipt")).to_contain_text("Visa •••• 3184")
    page.goto(portal_url(api, ann))
    page.get_by_text("Add a test card").click()
    button(page, "Visa •••• 4242").click()

    expect(page.locator("#payment-methods")).to_contain_text("Visa •••• 4242 default")
