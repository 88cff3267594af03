"""The status page over HTTP: contents, access, and actions of its forms."""

import logging
import re
from dataclasses import replace

import pytest
import requests
import stripe

from sandbox.common.http import Request
from sandbox.stripe.app import StripeApp
from sandbox.stripe.pages import routes as pages
from sandbox.stripe.pages.dashboard import selection, status
from sandbox.stripe.pages.dashboard.query import MAX_ROWS, PAGE_SIZE
from sandbox.stripe.settings import AccountSettings
from sandbox.stripe.store.records import Store
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.web import part, words

HTML_INJECTION = """"><script>alert('1')</script>&amp;"""
HERE = {"host": "127.0.0.1:12111"}


def get(sandbox, query=""):
    return requests.get(f"{sandbox.url}/{query}", timeout=60)


def page_text(sandbox, query=""):
    return words(get(sandbox, query).text)


def post_action(sandbox, action, headers=None, **form):
    return requests.post(
        f"{sandbox.url}/_pages/{action}",
        data=form,
        headers={"Origin": sandbox.url, **(headers or {})},
        allow_redirects=False,
        timeout=60,
    )


def test_empty_account_shows_empty_sections(stripe_sandbox):
    text = page_text(stripe_sandbox)

    for sentence in (
        "No customers.",
        "No subscriptions.",
        "No invoices.",
        "No events.",
        "No requests.",
        "No webhook endpoints.",
        "No active faults.",
        "Nothing is due.",
        "in real time",
    ):
        assert sentence in text


def test_objects_are_displayed_in_their_sections(api, stripe_sandbox):
    ann = builders.customer(api, name="Ann", metadata={"tenant_pubkey": "ab12"})
    subscription = builders.subscription(api, to=ann, quantity=2)
    invoice = builders.first_invoice(api, subscription)
    api.v1.customers.balance_transactions.create(
        ann.id, {"amount": -750, "currency": "usd"}
    )

    page = get(stripe_sandbox).text

    customers = words(part(page, "customers"))
    assert f"Ann ann@example.com {ann.id}" in customers
    assert "credit $7.50" in customers
    assert "tenant_pubkey ab12" in customers
    subscriptions = words(part(page, "subscriptions"))
    assert f"{subscription.id} invoiced, due in 7 days Ann active" in subscriptions
    assert re.search(rf"2 × Relay 20\S+ \S+ {invoice.number}", subscriptions)
    invoices = words(part(page, "invoices"))
    assert f"{invoice.number} {invoice.id} Ann open $20.00 $20.00" in invoices
    assert "1 line 2 × Relay (at $10.00 / month)" in invoices
    assert f"invoice.finalized {finalized_event_id(api)} {invoice.id}" in words(
        part(page, "events")
    )
    assert "prices 1 products 1" in words(part(page, "kinds"))
    assert f"Next due: {invoice.id} in" in words(page)
    assert f'href="/?id={subscription.id}"' in page


def finalized_event_id(api):
    return api.v1.events.list({"type": "invoice.finalized"}).data[0].id


def test_deleted_and_ending_objects_are_marked(api, stripe_sandbox):
    ann = builders.customer(api, name="Ann")
    ending = builders.subscription(api)
    api.v1.subscriptions.update(ending.id, {"cancel_at_period_end": True})
    ended = builders.subscription(api)
    api.v1.subscriptions.cancel(ended.id)
    api.v1.customers.delete(ann.id)

    page = get(stripe_sandbox).text

    assert f"Ann deleted ann@example.com {ann.id}" in words(part(page, "customers"))
    subscriptions = words(part(page, "subscriptions"))
    assert "cancels 20" in subscriptions
    assert "canceled" in subscriptions
    assert "ended 20" in subscriptions


def test_default_card_is_displayed(api, stripe_sandbox):
    ann = builders.customer(api)
    card = {"brand": "visa", "last4": "4242"}

    def attach(context):
        context.insert(
            {
                "id": "pm_1",
                "object": "payment_method",
                "created": 1,
                "type": "card",
                "card": card,
            }
        )
        with context.update("customer", ann.id) as customer:
            customer["invoice_settings"]["default_payment_method"] = "pm_1"

    stripe_sandbox.app.transact(attach)

    assert "visa •••• 4242" in words(part(get(stripe_sandbox).text, "customers"))


def test_requests_show_status_replay_and_idempotency_key(api, stripe_sandbox):
    stripe_sandbox.fault("status", path="/v1/products", status=503)
    for _ in range(2):
        api.v1.customers.create(
            {"email": "ann@example.com"}, options={"idempotency_key": "key-1"}
        )
    with pytest.raises(stripe.APIError):
        api.v1.products.create({"name": "Relay"})

    text = words(part(get(stripe_sandbox).text, "requests"))

    assert re.search(r"POST /v1/products 503 fault \d+ 20", text)
    assert re.search(r"POST /v1/customers 200 replayed 20\S+ \S+ key-1", text)
    assert "email=ann@example.com" in text


def test_request_with_broken_connection_has_no_status(api, stripe_sandbox):
    stripe_sandbox.fault("reset")
    with pytest.raises(stripe.APIConnectionError):
        builders.customer(api)

    text = words(part(get(stripe_sandbox).text, "requests"))

    assert "POST /v1/customers connection broken" in text


def test_pending_deliveries_are_displayed(api, stripe_sandbox):
    stripe_sandbox.pause_webhooks()
    endpoint = api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/hook", "enabled_events": ["customer.created"]}
    )
    builders.customer(api)

    page = get(stripe_sandbox).text

    text = words(part(page, "webhooks"))
    assert f"http://127.0.0.1:9/hook {endpoint.id} enabled customer.created 1" in text
    assert "Pending deliveries 1" in text
    assert "webhooks are paused" in words(page)
    assert "1 pending" in words(part(page, "events"))


def test_active_faults_are_displayed(stripe_sandbox):
    stripe_sandbox.fault("status", path="^/v1/invoices", status=429, times=3)
    stripe_sandbox.fault("delay", method=None, seconds=1, when="after", times=None)

    page = get(stripe_sandbox).text

    text = words(part(page, "faults"))
    assert "status 429, before execution POST ^/v1/invoices 3 left" in text
    assert "delay, after execution any any path until cleared" in text
    assert "2 faults active" in words(page)


def test_html_in_names_is_escaped(api, stripe_sandbox):
    ann = builders.customer(
        api,
        name=HTML_INJECTION,
        email=f"{HTML_INJECTION}@x",
        metadata={"<b>": HTML_INJECTION},
    )
    builders.subscription(
        api, builders.price(api, product_data={"name": HTML_INJECTION}), to=ann
    )
    api.v1.webhook_endpoints.create(
        {"url": f"http://x/{HTML_INJECTION}", "enabled_events": ["*"]}
    )
    product = api.v1.products.create(
        {"id": f"x_{HTML_INJECTION}", "name": HTML_INJECTION}
    )
    stripe_sandbox.fault("delay", path="<script>", times=None)

    for query in (
        "",
        f"?customer={ann.id}",
        "?customer=<script>",
        f"?id={ann.id}",
        "?id=<script>",
        "?kind=product",
        "?kind=<script>",
        f"?customer={product.id}",
    ):
        page = get(stripe_sandbox, query).text
        scripts = re.findall(r"<script[^>]*>", page)
        assert scripts == ['<script src="/_pages/status.js" defer>'], query
        assert "<b>" not in page

    assert HTML_INJECTION in page_text(stripe_sandbox)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/_pages/hosted.css",
        "/_pages/icon.svg",
        "/_pages/status.css",
        "/_pages/status.js",
        "/_pages/theme.css",
    ],
)
def test_every_response_has_security_headers(stripe_sandbox, path):
    response = requests.get(f"{stripe_sandbox.url}{path}", timeout=60)

    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_page_has_no_inline_script_or_style(api, stripe_sandbox):
    builders.subscription(api)

    page = get(stripe_sandbox).text

    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)


@pytest.mark.parametrize(
    "text", ["{id}", "ann@example.com", "nn B", "AB12", "ann@exam"]
)
def test_filter_limits_the_page_to_one_customer(api, stripe_sandbox, text):
    ann = builders.customer(api, name="Ann Bee", metadata={"tenant_pubkey": "ab12"})
    ben = builders.customer(api, name="Ben", email="ben@example.com")
    own = builders.subscription(api, to=ann)
    other = builders.subscription(api, to=ben)

    page = get(stripe_sandbox, f"?customer={text.format(id=ann.id)}").text

    assert "Only Ann Bee" in words(page)
    assert own.id in page
    for other_id in (ben.id, other.id, str(other.latest_invoice)):
        assert other_id not in page


def test_filter_with_several_matches_lists_them(api, stripe_sandbox):
    builders.customer(api, name="Ann", email="ann@example.com")
    builders.customer(api, name="Ben", email="ben@example.com")

    text = page_text(stripe_sandbox, "?customer=example.com")

    assert "Several customers match; choose one." in text
    assert "Ann" in text
    assert "Ben" in text


def test_filter_without_match_shows_a_message(api, stripe_sandbox):
    builders.customer(api)

    assert "No customer matches “zoe”." in page_text(stripe_sandbox, "?customer=zoe")


def test_newest_fifty_rows_are_displayed_with_a_link_to_more(api, stripe_sandbox):
    for number in range(PAGE_SIZE + 2):
        builders.customer(api, name=f"customer-{number}.")

    first = get(stripe_sandbox).text
    second = get(stripe_sandbox, f"?customers={2 * PAGE_SIZE}").text

    assert "customer-51." in words(part(first, "customers"))
    assert "customer-1." not in words(part(first, "customers"))
    assert 'href="/?customers=100#customers"' in first
    assert "customer-0." in words(part(second, "customers"))
    assert 'id="more-customers"' not in second


@pytest.mark.parametrize(
    "query",
    ["?customers=x", "?customers=-5", "?customers=٣", "?events=999999", "?done=x"],
)
def test_invalid_query_values_are_ignored(stripe_sandbox, query):
    assert get(stripe_sandbox, query).status_code == 200


def test_object_is_displayed_as_json_with_links(api, stripe_sandbox):
    subscription = builders.subscription(api)
    invoice = str(subscription.latest_invoice)

    page = get(stripe_sandbox, f"?id={subscription.id}").text

    assert f'"latest_invoice" : "{invoice}"' in words(page)
    assert f'href="/?id={invoice}"' in page
    assert re.search(r'"created" : \d+ \w{3} \d+ \w{3} 20', words(page))
    assert "customer.subscription.created" in words(part(page, "events"))
    assert "_items&quot;" not in page
    assert "All objects of ann@example.com" in words(page)


def test_secrets_are_not_displayed(api, stripe_sandbox):
    endpoint = api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/", "enabled_events": ["*"]}
    )

    for query in ("", f"?id={endpoint.id}"):
        page = get(stripe_sandbox, query).text
        assert str(endpoint.secret) not in page
        assert "sk_test" not in page


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?id=in_none", "There is no such object."),
        ("?kind=wish", "There are no objects called “wish”."),
    ],
)
def test_unknown_object_or_type_is_a_404(stripe_sandbox, query, text):
    response = get(stripe_sandbox, query)

    assert response.status_code == 404
    assert text in words(response.text)


def test_objects_without_a_section_are_listed_by_type(api, stripe_sandbox):
    price = builders.price(api, 1_250)

    text = page_text(stripe_sandbox, "?kind=price")

    assert f"{price.id} $12.50" in text


def test_timestamp_out_of_range_is_displayed_as_number(api, stripe_sandbox):
    subscription = builders.subscription(api)
    too_late = 10**15
    with stripe_sandbox.app.lock:
        record = stripe_sandbox.app.store.get("subscription", subscription.id)
        changed = {**record, "cancel_at": too_late}
        stripe_sandbox.app.store.put("subscription", changed)

    assert f"cancels {too_late}" in page_text(stripe_sandbox)
    assert f"{too_late} seconds after 1970" in page_text(
        stripe_sandbox, f"?id={subscription.id}"
    )


@pytest.mark.parametrize(
    ("form", "minimum", "maximum"),
    [
        ({"step": "1 hour"}, 3_600, 3_600),
        ({"step": "1 day"}, 86_400, 86_400),
        ({"step": "1 month"}, 28 * 86_400, 31 * 86_400),
        ({"amount": "90", "unit": "minute"}, 5_400, 5_400),
        ({"amount": "2", "unit": "week"}, 14 * 86_400, 14 * 86_400),
        ({"amount": "0", "unit": "day"}, 0, 0),
        ({"step": "next"}, 0, 0),
    ],
)
def test_advance_moves_the_clock_by_a_step_or_amount(
    stripe_sandbox, form, minimum, maximum
):
    before = stripe_sandbox.now()

    response = post_action(stripe_sandbox, "advance", **form)

    assert response.status_code == 303
    assert minimum <= stripe_sandbox.now() - before <= maximum + 2
    assert "The clock was moved to" in page_text(
        stripe_sandbox, response.headers["Location"].lstrip("/")
    )


def test_advance_moves_the_clock_to_the_next_due_time(api, stripe_sandbox):
    # The first invoice is finalized after an hour.
    subscription = builders.subscription(api)

    post_action(stripe_sandbox, "advance", step="next")

    invoice = api.v1.invoices.retrieve(str(subscription.latest_invoice))
    assert invoice.status == "open"


NOT_A_TIME = "Enter a whole number of minutes, hours, days, weeks or months."
TOO_FAR = "The clock can be moved by at most ten years at once."


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, NOT_A_TIME),
        ({"step": "1 fortnight"}, NOT_A_TIME),
        ({"step": "day"}, NOT_A_TIME),
        ({"amount": "-1", "unit": "day"}, NOT_A_TIME),
        ({"amount": "1.5", "unit": "day"}, NOT_A_TIME),
        ({"amount": "٣", "unit": "day"}, NOT_A_TIME),
        ({"amount": "121", "unit": "month"}, TOO_FAR),
        ({"amount": "99999999999999999999", "unit": "minute"}, TOO_FAR),
        ({"amount": "999999", "unit": "month"}, TOO_FAR),
    ],
)
def test_invalid_step_is_rejected_and_does_not_move_the_clock(
    stripe_sandbox, form, error
):
    response = post_action(stripe_sandbox, "advance", **form)

    assert response.status_code == 400
    assert error in words(response.text)
    assert stripe_sandbox.app.clock.offset == 0


def test_reset_deletes_everything_and_resets_the_clock(api, stripe_sandbox):
    builders.customer(api)
    stripe_sandbox.advance(1_000)

    post_action(stripe_sandbox, "reset")

    assert "No customers." in page_text(stripe_sandbox)
    assert stripe_sandbox.app.clock.offset == 0


def test_webhooks_are_paused_and_resumed(stripe_sandbox):
    post_action(stripe_sandbox, "pause")
    paused = page_text(stripe_sandbox)
    post_action(stripe_sandbox, "resume")
    resumed = page_text(stripe_sandbox)

    assert "Resume webhooks" in paused
    assert "Pause webhooks" in resumed
    assert not stripe_sandbox.app.deliveries.paused


def test_faults_are_cleared(stripe_sandbox):
    stripe_sandbox.fault("reset", times=None)

    post_action(stripe_sandbox, "clear-faults")

    assert stripe_sandbox.app.faults.list() == []


def test_setting_is_changed(stripe_sandbox):
    post_action(stripe_sandbox, "settings", name="overdue_after_days", value="4")
    post_action(stripe_sandbox, "settings", name="after_last_retry", value="unpaid")

    settings = stripe_sandbox.settings()
    assert settings.overdue_after_days == 4
    assert settings.after_last_retry == "unpaid"
    assert "overdue_after_days 4" in page_text(stripe_sandbox)


@pytest.mark.parametrize(
    ("name", "value"), [("latency", "-1"), ("latency", ""), ("colour", "red")]
)
def test_invalid_setting_is_rejected(stripe_sandbox, name, value):
    response = post_action(stripe_sandbox, "settings", name=name, value=value)

    assert response.status_code == 400
    assert name in words(message_of(response.text))
    assert stripe_sandbox.settings() == AccountSettings()


def message_of(page):
    message = re.search(r'<div id="message".*?</div>', page)
    assert message
    return message.group()


def test_action_redirects_to_the_same_view(api, stripe_sandbox):
    ann = builders.customer(api)

    response = post_action(stripe_sandbox, f"pause?customer={ann.id}&events=100")

    assert response.headers["Location"] == f"/?customer={ann.id}&events=100&done=pause"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "http://evil.example",
        "http://127.0.0.1",
        "https://127.0.0.1:12111",
        "http://localhost:12111",
    ],
)
def test_action_from_another_origin_is_denied(stripe_sandbox, origin):
    headers = {**HERE, **({"origin": origin} if origin else {})}
    request = Request("POST", "/_pages/advance", headers=headers, body=b"step=1+day")

    response = pages.handle(stripe_sandbox.app, request)

    assert response.status == 403
    assert stripe_sandbox.app.clock.offset == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/_pages/status.js"])
def test_page_is_denied_to_other_machines(method, path):
    request = Request(method, path, headers=HERE)

    local = handle(request, client="127.0.0.1")
    remote = handle(request, client="192.168.1.5")

    assert (local.status, remote.status) == (200, 403)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:12111", 200),
        ("127.0.0.1", 200),
        ("127.8.0.1:1", 200),
        ("[::1]:12111", 200),
        ("evil.example:12111", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.1.5", 403),
        ("[::1", 403),
    ],
)
def test_only_loopback_host_names_are_accepted(host, status):
    request = Request("GET", "/", headers={"host": host})

    assert handle(request).status == status


def handle(request, client="127.0.0.1"):
    request = replace(request, client=client)
    return pages.handle(StripeApp(), request)


def test_head_response_has_content_length_and_no_body(stripe_sandbox):
    with requests.Session() as session:
        response = session.head(f"{stripe_sandbox.url}/", timeout=60)
        following = session.get(f"{stripe_sandbox.url}/", timeout=60)

    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["Content-Length"]) > 1_000
    assert following.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        # Other paths belong to the API.
        ("POST", "/", 401),
        ("DELETE", "/", 401),
        ("GET", "/index.html", 401),
        ("POST", "/_pages/status.js", 405),
        ("DELETE", "/_pages/reset", 405),
        ("GET", "/_pages/reset", 404),
        ("GET", "/_pages/", 404),
        ("GET", "/_pages/../app.py", 404),
        ("POST", "/_pages/format-disk", 405),
    ],
)
def test_other_methods_and_paths_are_rejected(stripe_sandbox, method, path, status):
    headers = {"Origin": stripe_sandbox.url}
    with requests.Session() as session:
        request = requests.Request(method, stripe_sandbox.url, headers=headers)
        prepared = session.prepare_request(request)
        prepared.url = f"{stripe_sandbox.url}{path}"
        response = session.send(prepared, timeout=60)

    assert response.status_code == status


def test_page_requests_are_not_logged(stripe_sandbox):
    get(stripe_sandbox)

    assert stripe_sandbox.requests() == []


def test_failing_page_is_a_500_and_is_logged(stripe_sandbox, monkeypatch, caplog):
    def failing_page(*args, **kwargs):
        raise RuntimeError("template error")

    monkeypatch.setattr(status, "page", failing_page)
    with caplog.at_level(logging.ERROR):
        response = get(stripe_sandbox)

    assert response.status_code == 500
    assert "template error" not in response.text
    assert "template error" in caplog.text


def test_page_reads_a_limited_number_of_objects(monkeypatch):
    app = StripeApp()
    app.transact(add_customers)
    read: list[str] = []

    def counting_scan(self, kind, **options):
        for record in scan(self, kind, **options):
            read.append(record["id"])
            yield record

    scan = Store.scan
    monkeypatch.setattr(Store, "scan", counting_scan)
    for query in ("", "customer=cus_9", "customer=nobody", "customers=9999999"):
        read.clear()
        request = Request("GET", "/", query, headers=HERE)
        response = pages.handle(app, request)

        assert response.status == 200
        assert len(read) <= 3 * selection.MAX_SEARCHED + MAX_ROWS, query


def add_customers(context):
    for number in range(20_000):
        customer = {
            "object": "customer",
            "id": f"cus_{number}",
            "created": number,
            "name": "Ann",
            "email": None,
            "balance": 0,
            "currency": None,
            "metadata": {},
            "invoice_settings": {"default_payment_method": None},
        }
        context.store.put("customer", customer)
        context.emit("customer.created", customer)
