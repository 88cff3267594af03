"""The page of the sandbox Lightning in a browser."""

import pytest
from playwright.sync_api import expect

from sandbox.tests.support.browser import widths_that_scroll
from sandbox.tests.support.colours import low_contrast
from sandbox.tests.support.lightning_fixtures import control, lightning

__all__ = ["control", "lightning"]


# A page is closed before the server stops: `new_page` is requested after it.
@pytest.fixture
def page(lightning, new_page):
    page = new_page()
    page.clock.install()
    page.goto(lightning.url)
    return page


def unfold(page, wallet):
    page.get_by_text(f"Pay from {wallet}").click()
    return page.locator(f"#more-of-wallet-{wallet}")


def fill_sections(control):
    """Give every section some content."""
    control.post("wallets", name="x" * 40, sats=2_100_000_000, budget=10**9)
    control.post(
        "wallets/platform/invoices", sats=1, description="Without-a-space-" * 9
    )
    control.post("relay/faults", kind="hold", kinds=[23194, 23195])
    control.post("prices/faults", kind="stale")
    control.post("wallets/slow/offline")


def test_click_selects_the_whole_address(page, lightning):
    address = page.get_by_label("Address of rich")

    address.click()

    selected = address.evaluate("e => e.value.slice(e.selectionStart, e.selectionEnd)")
    assert selected == lightning.wallets["rich"].url


def test_invoice_is_pasted_and_paid_without_a_page_load(page, control):
    bolt11 = control.post("wallets/platform/invoices", sats=21)["bolt11"]
    page.evaluate("window.sameDocument = true")
    forms = unfold(page, "rich")

    forms.get_by_label("Invoice").fill(bolt11)
    forms.get_by_role("button", name="Pay by hand").click()

    expect(page.get_by_role("status")).to_contain_text("The invoice is paid.")
    expect(page.locator("#invoices")).to_contain_text("paid")
    expect(page.locator("#wallet-platform")).to_contain_text("21 sats")
    expect(forms.get_by_label("Invoice")).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_page_refreshes_and_keeps_typed_text(page, control):
    forms = unfold(page, "rich")
    forms.get_by_label("Invoice").fill("lnbc")

    control.post("wallets", name="alice", sats=5)
    page.clock.run_for(2_000)

    expect(page.locator("#wallet-alice")).to_contain_text("5 sats")
    expect(forms.get_by_label("Invoice")).to_have_value("lnbc")


def test_forms_work_without_javascript(lightning, new_page):
    page = new_page(java_script_enabled=False)
    page.goto(lightning.url)
    forms = unfold(page, "rich")

    forms.get_by_label("On a payment it").select_option("refuses")
    forms.get_by_label("Code").fill("QUOTA_EXCEEDED")
    forms.get_by_role("button", name="Change behaviour").click()

    expect(page.locator("#wallet-rich")).to_contain_text("refuses with QUOTA_EXCEEDED")


def test_no_horizontal_scrolling_at_any_width(control, lightning, new_page):
    fill_sections(control)
    page = new_page()
    page.goto(lightning.url)
    unfold(page, "rich")

    assert widths_that_scroll(page, [320, 900, 1280]) == {}


def test_text_has_enough_contrast(control, lightning, new_page):
    fill_sections(control)
    page = new_page()
    page.goto(lightning.url)
    unfold(page, "rich")

    assert low_contrast(page) == set()


def test_every_control_has_an_accessible_name(page):
    unfold(page, "rich")

    for role in ("textbox", "spinbutton", "combobox", "button"):
        for element in page.get_by_role(role).all():
            assert element.evaluate(
                "e => (e.labels?.[0]?.textContent || e.ariaLabel || e.textContent)"
            ).strip()
