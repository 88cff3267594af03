"""The status page as a person uses it: fresh by itself, by pointer and by keyboard."""

import pytest
from playwright.sync_api import expect

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.colours import low_contrast

HOSTILE = """"><script>document.title='taken'</script><img src=x onerror=alert(1)>"""


@pytest.fixture
def page(new_page, stripe_sandbox):
    """The status page of an empty account, with a clock that a test can wind on."""
    page = new_page()
    page.clock.install()
    page.goto(stripe_sandbox.url)
    return page


def wait(page):
    """Let the time between two refreshes pass."""
    page.clock.run_for(2_000)


def fill(api):
    """Make an account with something in every table; return its customer."""
    ann = story.customer(api, name="Ann", metadata={"tenant_pubkey": "a" * 64})
    story.first_invoice(api, story.subscription(api, to=ann, quantity=2))
    api.v1.webhook_endpoints.create(
        {"url": f"http://127.0.0.1:9/{'long-' * 30}", "enabled_events": ["*"]}
    )
    story.customer(api, name="Without-a-space-" * 8, email=f"{'x' * 90}@example.com")
    return ann


def test_the_objects_of_a_story_can_be_read(api, stripe_sandbox, page):
    fill(api)
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


def test_what_happens_appears_without_a_reload(api, page):
    page.evaluate("window.kept = true")

    ann = story.customer(api, name="Ann")
    wait(page)

    expect(page.locator(f"#{ann.id}")).to_contain_text("Ann")
    assert page.evaluate("window.kept")


@pytest.mark.parametrize(
    ("button", "least", "most"),
    [
        ("+ 1 hour", 3_600, 3_600),
        ("+ 1 day", 86_400, 86_400),
        ("+ 1 month", 28 * 86_400, 31 * 86_400),
    ],
)
def test_a_button_moves_the_clock(page, stripe_sandbox, button, least, most):
    page.evaluate("window.kept = true")

    page.get_by_role("button", name=button).click()

    expect(page.get_by_role("status")).to_contain_text("The clock went forward to")
    expect(page.locator("#offset")).to_contain_text("ahead of real time")
    assert least <= stripe_sandbox.app.clock.offset <= most
    assert page.evaluate("window.kept")


def test_a_month_later_the_new_invoice_is_there(api, page):
    subscribed = story.subscription(api, to=story.customer(api, name="Ann"))
    story.first_invoice(api, subscribed)
    wait(page)
    rows = page.get_by_role("table", name="Invoices").locator("tbody tr:not(.fold)")
    expect(rows).to_have_count(1)

    page.get_by_role("button", name="+ 1 month").click()
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("draft")
    page.get_by_role("button", name="+ 1 day").click()

    expect(rows.first).to_contain_text("open")
    expect(page.locator("#message")).to_contain_text("The clock went forward to")


def test_the_clock_moves_by_a_free_amount(page, stripe_sandbox):
    page.get_by_label("Advance by", exact=True).fill("2")
    page.get_by_label("Unit").select_option("week")
    page.get_by_label("Advance by", exact=True).press("Enter")

    expect(page.locator("#offset")).to_contain_text("14 days ahead of real time")
    assert stripe_sandbox.app.clock.offset == 14 * 86_400


def test_the_clock_moves_to_the_next_due(api, page):
    expect(page.get_by_role("button", name="To the next due")).to_be_disabled()
    story.subscription(api)
    wait(page)

    page.get_by_role("button", name="To the next due").click()

    invoices = page.get_by_role("table", name="Invoices")
    expect(invoices.locator("tbody tr:not(.fold)").first).to_contain_text("open")


def test_reset_asks_first(api, page):
    ann = story.customer(api, name="Ann")
    wait(page)
    expect(page.locator(f"#{ann.id}")).to_be_visible()
    sure = page.get_by_role("button", name="Yes, forget everything")
    expect(sure).to_be_hidden()

    page.get_by_text("Reset…").click()
    expect(sure).to_be_in_viewport(ratio=1)
    sure.click()

    expect(page.locator("#customers")).to_contain_text("No customers.")
    expect(sure).to_be_hidden()
    expect(page.get_by_text("Reset…")).to_be_focused()


def test_webhooks_are_paused_and_resumed(page, stripe_sandbox):
    page.get_by_role("button", name="Pause webhooks").click()
    expect(page.locator("#alarms")).to_contain_text("webhooks are held back")
    assert stripe_sandbox.app.deliveries.settings.paused

    page.get_by_role("button", name="Resume webhooks").click()
    expect(page.locator("#alarms")).to_be_empty()
    assert not stripe_sandbox.app.deliveries.settings.paused


def test_faults_are_cleared(page, stripe_sandbox):
    stripe_sandbox.fault("status", times=None)
    wait(page)

    page.get_by_role("button", name="Clear all faults").click()

    expect(page.locator("#faults")).to_contain_text("Nothing goes wrong on order.")


def test_a_setting_is_refused_or_changed(new_page, stripe_sandbox):
    page = new_page(tolerated="status of 400")
    page.goto(stripe_sandbox.url)

    page.get_by_label("Setting", exact=True).select_option("overdue_after_days")
    page.get_by_label("Value as JSON").fill("0")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("alert")).to_contain_text("overdue_after_days cannot be 0")
    page.get_by_label("Value as JSON").fill("4")
    page.get_by_role("button", name="Change").click()

    expect(page.locator("#settings dl")).to_contain_text("overdue_after_days4")
    assert stripe_sandbox.settings().overdue_after_days == 4


def test_a_refresh_keeps_what_is_unfolded_typed_and_focused(api, page):
    ann = fill(api)
    invoice = api.v1.invoices.list({"customer": ann.id}).data[0].id
    wait(page)
    page.locator(f"#fold-{invoice} summary").click()
    expect(page.locator(f"#fold-{invoice} .lines")).to_be_visible()
    search = page.get_by_label("Customer", exact=True)
    search.fill("half a wo")

    ben = story.customer(api, name="Ben")
    api.v1.invoices.pay(invoice, {"paid_out_of_band": True})
    wait(page)

    expect(page.locator(f"#{ben.id}")).to_be_visible()
    expect(page.locator(f"#{invoice}")).to_contain_text("paid")
    expect(page.locator(f"#fold-{invoice} .lines")).to_be_visible()
    expect(search).to_have_value("half a wo")
    expect(search).to_be_focused()


def test_focus_stays_on_a_row_that_moves_down(api, page):
    ann = story.customer(api, name="Ann")
    wait(page)
    link = page.locator(f"#{ann.id}").get_by_role("link", name="Ann")
    link.focus()

    ben = story.customer(api, name="Ben")
    wait(page)

    expect(page.locator(f"#{ben.id}")).to_be_visible()
    expect(link).to_be_focused()


def test_more_rows_come_on_request_and_stay(api, page):
    for number in range(52):
        story.customer(api, name=f"customer-{number}.")
    wait(page)
    rows = page.get_by_role("table", name="Customers").locator("tbody tr")
    expect(rows).to_have_count(50)

    page.get_by_role("link", name="50 more customers").click()

    expect(rows).to_have_count(52)
    story.customer(api, name="late")
    wait(page)
    expect(rows).to_have_count(53)
    page.go_back()
    expect(rows).to_have_count(50)


def test_only_a_visible_page_asks_for_news(new_page, stripe_sandbox):
    page = new_page()
    page.clock.install()
    page.goto(stripe_sandbox.url)
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    show(page, "hidden")
    page.clock.run_for(60_000)
    unseen = asked.count(page.url)
    with page.expect_response(page.url):
        show(page, "visible")

    assert unseen == 0
    assert asked.count(page.url) == 1


def show(page, state):
    """Make the page believe that it is in sight, or not."""
    page.evaluate(
        """(state) => {
          Object.defineProperty(document, 'visibilityState',
            {value: state, configurable: true});
          document.dispatchEvent(new Event('visibilitychange'));
        }""",
        state,
    )


def test_a_page_whose_server_is_gone_says_so(new_page, stripe_sandbox):
    page = new_page(tolerated="ERR_FAILED")
    page.clock.install()
    page.goto(stripe_sandbox.url)

    page.route("**/*", lambda route: route.abort())
    wait(page)
    expect(page.locator("#as-of")).to_have_class("stale")
    page.get_by_role("button", name="+ 1 day").click()
    expect(page.locator("#message")).to_contain_text("That did not work")
    page.unroute_all()
    wait(page)

    expect(page.locator("#as-of")).not_to_have_class("stale")


def test_hostile_names_are_shown_as_text(api, page):
    ann = story.customer(
        api, name=HOSTILE, email=f"{HOSTILE}@x", metadata={"note": HOSTILE}
    )
    story.subscription(api, story.price(api, product_data={"name": HOSTILE}), to=ann)
    wait(page)

    row = page.locator(f"#{ann.id}")
    expect(row.get_by_role("link", name=HOSTILE, exact=True)).to_be_visible()
    expect(row).to_contain_text(f"note {HOSTILE}")
    row.get_by_role("link", name=ann.id).click()

    expect(page.locator("#object")).to_contain_text("onerror=alert(1)")
    assert "taken" not in page.title()
    assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("width", [375, 720, 900, 1_024])
@pytest.mark.parametrize("path", ["", "?id={id}", "?customer={id}", "?kind=price"])
def test_no_screen_needs_scrolling_sideways(api, new_page, stripe_sandbox, path, width):
    ann = fill(api)
    stripe_sandbox.fault("status", path=f"/v1/{'x' * 80}", times=None)
    page = new_page(viewport={"width": width, "height": 800})

    page.goto(f"{stripe_sandbox.url}/{path.format(id=ann.id)}")
    page.evaluate(
        "document.querySelectorAll('details').forEach((one) => one.open = true)"
    )

    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_rows_are_still_a_table_to_a_screen_reader_on_a_narrow_screen(
    api, new_page, stripe_sandbox
):
    story.customer(api, name="Ann")
    page = new_page(viewport={"width": 375, "height": 812})

    page.goto(stripe_sandbox.url)

    table = page.get_by_role("table", name="Customers")
    expect(table.get_by_role("columnheader", name="Metadata")).to_be_attached()
    expect(table.get_by_role("cell").first).to_contain_text("Ann")


def test_the_keyboard_reaches_every_control(api, page):
    fill(api)
    page.reload()
    expected = page.evaluate(f"{CONTROLS}.length")

    reached = set()
    for _ in range(expected + 1):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(f"{CONTROLS}.indexOf(document.activeElement)"))

    assert expected > 40
    assert reached >= set(range(expected))


# Every control that is not folded away.
CONTROLS = """[...document.querySelectorAll(
  'a[href], button:enabled, input, select, summary'
)].filter((one) => one.checkVisibility())"""


def test_what_has_the_focus_is_seen(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")

    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_button_works_by_keyboard(page, stripe_sandbox):
    page.get_by_role("button", name="+ 1 hour").focus()
    page.keyboard.press("Enter")

    expect(page.locator("#offset")).to_contain_text("1 hour ahead of real time")
    expect(page.get_by_role("button", name="+ 1 hour")).to_be_focused()


def test_links_lead_to_the_object_and_on_to_others(api, page):
    ann = story.customer(api, name="Ann")
    invoice = story.first_invoice(api, story.subscription(api, to=ann))
    page.reload()

    page.locator("#invoices").get_by_role("link", name=str(invoice.id)).click()
    expect(page.get_by_role("heading", name=f"Invoice {invoice.id}")).to_be_visible()
    page.locator("#object").get_by_role("link", name=ann.id).click()
    expect(page.get_by_role("heading", name=f"Customer {ann.id}")).to_be_visible()
    page.get_by_role("link", name="The whole account").click()

    expect(page.get_by_role("table", name="Customers")).to_contain_text("Ann")


def test_a_customer_is_chosen_by_typing(api, page):
    story.customer(api, name="Ann")
    ben = story.customer(api, name="Ben", email="ben@example.com")

    page.get_by_label("Customer", exact=True).fill("Ben")
    page.get_by_role("button", name="Filter").click()

    rows = page.get_by_role("table", name="Customers").locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(ben.id)
    expect(page.locator("#meaning")).to_contain_text("Only Ben")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(api, new_page, stripe_sandbox, scheme):
    fill(api)
    stripe_sandbox.fault("status", times=None)
    page = new_page(color_scheme=scheme)
    page.goto(stripe_sandbox.url)

    assert low_contrast(page) == set()


def test_the_page_works_without_javascript(api, new_page, stripe_sandbox):
    story.subscription(api, to=story.customer(api, name="Ann"))
    page = new_page(java_script_enabled=False)

    page.goto(stripe_sandbox.url)
    page.get_by_role("button", name="+ 1 day").click()

    expect(page.get_by_role("status")).to_contain_text("The clock went forward to")
    expect(page.get_by_role("table", name="Invoices")).to_contain_text("open")
    assert stripe_sandbox.app.clock.offset >= 86_400
