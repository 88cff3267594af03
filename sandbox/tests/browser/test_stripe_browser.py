"""The status page in a browser: refreshes, actions and use by keyboard."""

import pytest
from playwright.sync_api import expect

from sandbox.tests.support.browser import widths_that_scroll
from sandbox.tests.support.colours import low_contrast
from sandbox.tests.support.stripe import builders

HTML_INJECTION = (
    """"><script>document.title='taken'</script><img src=x onerror=alert(1)>"""
)


@pytest.fixture
def page(new_page, stripe_sandbox):
    """The status page of an empty account, with timers that the test controls."""
    page = new_page()
    page.clock.install()
    page.goto(stripe_sandbox.url)
    return page


def run_refresh(page):
    """Run the page's timers until the next refresh."""
    page.clock.run_for(2_000)


def add_objects(api):
    """Create objects for every table; return the customer."""
    ann = builders.customer(api, name="Ann", metadata={"tenant_pubkey": "a" * 64})
    builders.first_invoice(api, builders.subscription(api, to=ann, quantity=2))
    api.v1.webhook_endpoints.create(
        {"url": f"http://127.0.0.1:9/{'long-' * 30}", "enabled_events": ["*"]}
    )
    builders.customer(api, name="Without-a-space-" * 8, email=f"{'x' * 90}@example.com")
    return ann


def test_objects_are_displayed_in_their_tables(api, stripe_sandbox, page):
    add_objects(api)
    page.reload()

    row = page.get_by_role("table", name="Invoices").get_by_role("row").nth(1)
    expect(row).to_contain_text("Ann")
    expect(row).to_contain_text("$20.00")
    expect(page.get_by_role("table", name="Customers")).to_contain_text("Ann")
    expect(page.get_by_role("table", name="Subscriptions")).to_contain_text("2 × Relay")
    expect(page.get_by_role("table", name="Events")).to_contain_text(
        "invoice.finalized"
    )
    expect(page.get_by_role("table", name="API requests")).to_contain_text("/finalize")


def test_new_objects_appear_without_a_reload(api, page):
    page.evaluate("window.isSamePage = true")

    ann = builders.customer(api, name="Ann")
    run_refresh(page)

    expect(page.locator(f"#{ann.id}")).to_contain_text("Ann")
    assert page.evaluate("window.isSamePage")


def test_step_buttons_move_the_clock(page, stripe_sandbox):
    page.evaluate("window.isSamePage = true")
    clock = stripe_sandbox.app.clock

    for button, minimum, maximum in (
        ("+ 1 hour", 3_600, 3_600),
        ("+ 1 day", 86_400, 86_400),
        ("+ 1 month", 28 * 86_400, 31 * 86_400),
    ):
        before, shown = clock.offset, page.locator("#offset").text_content()
        page.get_by_role("button", name=button).click()

        expect(page.locator("#offset")).not_to_have_text(shown)
        expect(page.locator("#offset")).to_contain_text("ahead of real time")
        expect(page.get_by_role("status")).to_contain_text("The clock was moved to")
        assert minimum <= clock.offset - before <= maximum
    assert page.evaluate("window.isSamePage")


def test_advancing_a_month_displays_the_new_invoice(api, page):
    subscription = builders.subscription(api, to=builders.customer(api, name="Ann"))
    builders.first_invoice(api, subscription)
    run_refresh(page)
    rows = page.get_by_role("table", name="Invoices").locator("tbody tr:not(.fold)")
    expect(rows).to_have_count(1)

    page.get_by_role("button", name="+ 1 month").click()
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("draft")
    page.get_by_role("button", name="+ 1 day").click()

    expect(rows.first).to_contain_text("open")
    expect(page.locator("#message")).to_contain_text("The clock was moved to")


def test_clock_moves_by_a_custom_amount(page, stripe_sandbox):
    page.get_by_label("Advance by", exact=True).fill("2")
    page.get_by_label("Unit").select_option("week")
    page.get_by_label("Advance by", exact=True).press("Enter")

    expect(page.locator("#offset")).to_contain_text("14 days ahead of real time")
    assert stripe_sandbox.app.clock.offset == 14 * 86_400


def test_clock_moves_to_the_next_due_time(api, page):
    expect(page.get_by_role("button", name="To the next due time")).to_be_disabled()
    builders.subscription(api)
    run_refresh(page)

    page.get_by_role("button", name="To the next due time").click()

    invoices = page.get_by_role("table", name="Invoices")
    expect(invoices.locator("tbody tr:not(.fold)").first).to_contain_text("open")


def test_reset_needs_confirmation(api, page):
    ann = builders.customer(api, name="Ann")
    run_refresh(page)
    expect(page.locator(f"#{ann.id}")).to_be_visible()
    confirm = page.get_by_role("button", name="Yes, delete everything")
    expect(confirm).to_be_hidden()

    page.get_by_text("Reset…").click()
    expect(confirm).to_be_in_viewport(ratio=1)
    confirm.click()

    expect(page.locator("#customers")).to_contain_text("No customers.")
    expect(confirm).to_be_hidden()
    expect(page.get_by_text("Reset…")).to_be_focused()


def test_webhooks_are_paused_and_resumed(page, stripe_sandbox):
    page.get_by_role("button", name="Pause webhooks").click()
    expect(page.locator("#warnings")).to_contain_text("webhooks are paused")
    assert stripe_sandbox.app.deliveries.paused

    page.get_by_role("button", name="Resume webhooks").click()
    expect(page.locator("#warnings")).to_be_empty()
    assert not stripe_sandbox.app.deliveries.paused


def test_faults_are_cleared(page, stripe_sandbox):
    stripe_sandbox.fault("status", times=None)
    run_refresh(page)

    page.get_by_role("button", name="Clear all faults").click()

    expect(page.locator("#faults")).to_contain_text("No active faults.")


def test_invalid_setting_shows_an_error_and_valid_one_is_saved(
    new_page, stripe_sandbox
):
    page = new_page(tolerated="status of 400")
    page.goto(stripe_sandbox.url)

    page.get_by_label("Setting", exact=True).select_option("overdue_after_days")
    page.get_by_label("Value as JSON").fill("0")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "overdue_after_days must be an integer, at least 1"
    )
    page.get_by_label("Value as JSON").fill("4")
    page.get_by_role("button", name="Change").click()

    expect(page.locator("#settings dl")).to_contain_text("overdue_after_days4")
    assert stripe_sandbox.settings().overdue_after_days == 4


def test_refresh_keeps_open_details_typed_text_and_focus(api, page):
    ann = add_objects(api)
    invoice = api.v1.invoices.list({"customer": ann.id}).data[0].id
    run_refresh(page)
    page.locator(f"#fold-{invoice} summary").click()
    expect(page.locator(f"#fold-{invoice} .lines")).to_be_visible()
    search = page.get_by_label("Customer", exact=True)
    search.fill("half a wo")

    ben = builders.customer(api, name="Ben")
    api.v1.invoices.pay(invoice, {"paid_out_of_band": True})
    run_refresh(page)

    expect(page.locator(f"#{ben.id}")).to_be_visible()
    expect(page.locator(f"#{invoice}")).to_contain_text("paid")
    expect(page.locator(f"#fold-{invoice} .lines")).to_be_visible()
    expect(search).to_have_value("half a wo")
    expect(search).to_be_focused()


def test_refresh_keeps_focus_on_a_row_that_moves(api, page):
    ann = builders.customer(api, name="Ann")
    run_refresh(page)
    link = page.locator(f"#{ann.id}").get_by_role("link", name="Ann")
    link.focus()

    ben = builders.customer(api, name="Ben")
    run_refresh(page)

    expect(page.locator(f"#{ben.id}")).to_be_visible()
    expect(link).to_be_focused()


def test_more_rows_are_loaded_and_stay_after_a_refresh(api, page):
    for number in range(52):
        builders.customer(api, name=f"customer-{number}.")
    run_refresh(page)
    rows = page.get_by_role("table", name="Customers").locator("tbody tr")
    expect(rows).to_have_count(50)

    page.get_by_role("link", name="50 more customers").click()

    expect(rows).to_have_count(52)
    builders.customer(api, name="late")
    run_refresh(page)
    expect(rows).to_have_count(53)
    page.go_back()
    expect(rows).to_have_count(50)


def test_hidden_page_does_not_refresh(new_page, stripe_sandbox):
    page = new_page()
    page.clock.install()
    page.goto(stripe_sandbox.url)
    requests = []
    page.on("request", lambda request: requests.append(request.url))

    set_visibility(page, "hidden")
    page.clock.run_for(60_000)
    while_hidden = requests.count(page.url)
    with page.expect_response(page.url):
        set_visibility(page, "visible")

    assert while_hidden == 0
    assert requests.count(page.url) == 1


def set_visibility(page, state):
    """Set the visibility state that the page sees."""
    page.evaluate(
        """(state) => {
          Object.defineProperty(document, 'visibilityState',
            {value: state, configurable: true});
          document.dispatchEvent(new Event('visibilitychange'));
        }""",
        state,
    )


def test_unreachable_server_is_reported(new_page, stripe_sandbox):
    page = new_page(tolerated="ERR_FAILED")
    page.clock.install()
    page.goto(stripe_sandbox.url)

    page.route("**/*", lambda route: route.abort())
    run_refresh(page)
    expect(page.locator("#as-of")).to_have_class("stale")
    page.get_by_role("button", name="+ 1 day").click()
    expect(page.locator("#message")).to_contain_text("Request failed")
    page.unroute_all()
    run_refresh(page)

    expect(page.locator("#as-of")).not_to_have_class("stale")


def test_html_in_names_is_displayed_as_text(api, page):
    ann = builders.customer(
        api,
        name=HTML_INJECTION,
        email=f"{HTML_INJECTION}@x",
        metadata={"note": HTML_INJECTION},
    )
    builders.subscription(
        api, builders.price(api, product_data={"name": HTML_INJECTION}), to=ann
    )
    run_refresh(page)

    row = page.locator(f"#{ann.id}")
    expect(row.get_by_role("link", name=HTML_INJECTION, exact=True)).to_be_visible()
    expect(row).to_contain_text(f"note {HTML_INJECTION}")
    row.get_by_role("link", name=ann.id).click()

    expect(page.locator("#object")).to_contain_text("onerror=alert(1)")
    assert "taken" not in page.title()
    assert page.locator("main img, main script").count() == 0


def test_pages_do_not_scroll_horizontally(api, page, stripe_sandbox):
    ann = add_objects(api)
    stripe_sandbox.fault("status", path=f"/v1/{'x' * 80}", times=None)

    for path in ("", f"?id={ann.id}", f"?customer={ann.id}", "?kind=price"):
        page.goto(f"{stripe_sandbox.url}/{path}")
        page.evaluate(
            "document.querySelectorAll('details').forEach((fold) => fold.open = true)"
        )

        assert widths_that_scroll(page, [375, 720, 900, 1_024]) == {}, path


def test_narrow_screen_keeps_table_roles_for_screen_readers(
    api, new_page, stripe_sandbox
):
    builders.customer(api, name="Ann")
    page = new_page(viewport={"width": 375, "height": 812})

    page.goto(stripe_sandbox.url)

    table = page.get_by_role("table", name="Customers")
    expect(table.get_by_role("columnheader", name="Metadata")).to_be_attached()
    expect(table.get_by_role("cell").first).to_contain_text("Ann")


def test_every_control_is_reachable_by_keyboard(api, page):
    add_objects(api)
    page.reload()
    expected = page.evaluate(f"{CONTROLS}.length")

    focused = set()
    for _ in range(expected + 1):
        page.keyboard.press("Tab")
        focused.add(page.evaluate(f"{CONTROLS}.indexOf(document.activeElement)"))

    assert expected > 40
    assert focused >= set(range(expected))


# Every visible control.
CONTROLS = """[...document.querySelectorAll(
  'a[href], button:enabled, input, select, summary'
)].filter((control) => control.checkVisibility())"""


def test_focused_control_has_an_outline(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")

    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_step_button_works_by_keyboard(page, stripe_sandbox):
    page.get_by_role("button", name="+ 1 hour").focus()
    page.keyboard.press("Enter")

    expect(page.locator("#offset")).to_contain_text("1 hour ahead of real time")
    expect(page.get_by_role("button", name="+ 1 hour")).to_be_focused()


def test_links_lead_to_objects_and_back(api, page):
    ann = builders.customer(api, name="Ann")
    invoice = builders.first_invoice(api, builders.subscription(api, to=ann))
    page.reload()

    page.locator("#invoices").get_by_role("link", name=str(invoice.id)).click()
    expect(page.get_by_role("heading", name=f"Invoice {invoice.id}")).to_be_visible()
    page.locator("#object").get_by_role("link", name=ann.id).click()
    expect(page.get_by_role("heading", name=f"Customer {ann.id}")).to_be_visible()
    page.get_by_role("link", name="The whole account").click()

    expect(page.get_by_role("table", name="Customers")).to_contain_text("Ann")


def test_filter_selects_a_customer(api, page):
    builders.customer(api, name="Ann")
    ben = builders.customer(api, name="Ben", email="ben@example.com")

    page.get_by_label("Customer", exact=True).fill("Ben")
    page.get_by_role("button", name="Filter").click()

    rows = page.get_by_role("table", name="Customers").locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(ben.id)
    expect(page.locator("#filter-result")).to_contain_text("Only Ben")


def test_text_has_enough_contrast(api, new_page, stripe_sandbox):
    add_objects(api)
    stripe_sandbox.fault("status", times=None)
    page = new_page()
    page.goto(stripe_sandbox.url)

    assert low_contrast(page) == set()


def test_page_works_without_javascript(api, new_page, stripe_sandbox):
    builders.subscription(api, to=builders.customer(api, name="Ann"))
    page = new_page(java_script_enabled=False)

    page.goto(stripe_sandbox.url)
    page.get_by_role("button", name="+ 1 day").click()

    expect(page.get_by_role("status")).to_contain_text("The clock was moved to")
    expect(page.get_by_role("table", name="Invoices")).to_contain_text("open")
    assert stripe_sandbox.app.clock.offset >= 86_400
