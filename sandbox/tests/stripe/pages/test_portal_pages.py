"""The billing portal over HTTP: its contents, forms, flows and sessions."""

import re

import pytest

from sandbox.stripe.objects.portal import actions
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.web import fetch, part, submit, words

HTML_INJECTION = """"><script>alert('1')</script>&amp;"""
ON = {"enabled": True}
CARDS = {"payment_method_update": ON}
HISTORY = {"invoice_history": ON}
DETAILS = {"customer_update": {**ON, "allowed_updates": ["email", "name"]}}
RETURN = "https://caravel.example/account"


def portal_url(api, payer, features, profile=None, **params):
    """Create a portal session with these features and return its URL."""
    configuration = api.v1.billing_portal.configurations.create(
        {"features": features, "business_profile": profile or {}}
    )
    fields = {"customer": payer.id, "configuration": configuration.id, **params}
    return api.v1.billing_portal.sessions.create(fields).url


def card_brands(api, payer):
    """Return the brands of the customer's cards, the default one in capitals."""
    customer = api.v1.customers.retrieve(payer.id)
    default = customer.invoice_settings.default_payment_method
    methods = api.v1.payment_methods.list({"customer": payer.id}).data
    return [
        method.card.brand.upper() if method.id == default else method.card.brand
        for method in methods
    ]


def test_portal_displays_enabled_features_only(api):
    ann = builders.customer(api, name="Ann Bee")
    builders.open_invoice(api, ann)
    pages = {
        name: fetch(portal_url(api, ann, {name: features[name]})).text
        for features in (CARDS, HISTORY, DETAILS)
        for name in features
    }

    for name, section in (
        ("payment_method_update", 'id="payment-methods"'),
        ("invoice_history", 'id="invoices"'),
        ("customer_update", 'id="details"'),
    ):
        assert {feature for feature, page in pages.items() if section in page} == {name}
    for page in pages.values():
        assert "Your billing Ann Bee ann@example.com" in words(page)
        assert "1 × Relay (at $10.00 / month) active Renews on" in words(page)


def test_scheduled_cancellations_are_displayed_and_ended_subscriptions_are_not(api):
    ann = builders.customer(api)
    builders.subscription(api, to=ann, cancel_at_period_end=True)
    ended = builders.subscription(api, to=ann)
    api.v1.subscriptions.cancel(ended.id)

    page = fetch(portal_url(api, ann, HISTORY)).text

    text = words(part(page, "subscriptions"))
    assert "active Ends on" in text
    assert text.count("1 × Relay") == 1


def test_portal_without_objects_shows_empty_sections(api):
    page = fetch(portal_url(api, builders.customer(api), {**CARDS, **HISTORY})).text

    text = words(page)
    assert "No subscriptions." in text
    assert "No cards on file." in text
    assert "No invoices yet." in text
    assert 'class="back"' not in page


def test_response_has_security_headers(api):
    response = fetch(portal_url(api, builders.customer(api), HISTORY))

    assert response.headers["Cache-Control"] == "no-store"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert "no money moves" in words(response.text)


def test_business_profile_and_return_link_are_displayed(api):
    profile = {
        "headline": "Caravel hosts relays",
        "privacy_policy_url": "https://caravel.example/privacy",
        "terms_of_service_url": "https://caravel.example/terms",
    }
    url = portal_url(api, builders.customer(api), HISTORY, profile, return_url=RETURN)

    page = fetch(url).text

    assert "Caravel hosts relays" in words(page)
    assert f'<a href="{RETURN}">← Return to caravel.example</a>' in page
    for name in ("privacy", "terms"):
        assert f'href="https://caravel.example/{name}"' in page


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "ftp://a.example/",
        "http:",
        "http://[",
        "/here",
    ],
)
def test_urls_that_are_not_http_are_not_linked(api, url):
    profile = {"privacy_policy_url": url, "terms_of_service_url": url}

    page = fetch(
        portal_url(api, builders.customer(api), HISTORY, profile, return_url=url)
    )

    assert url not in page.text
    assert page.status_code == 200


def test_added_card_becomes_the_default(api):
    ann = builders.customer(api)
    url = portal_url(api, ann, CARDS)

    first = submit(f"{url}/add-card", {"card": "pm_card_visa"})
    second = submit(f"{url}/add-card", {"card": "5555 5555 5555 4444"})

    assert first.history[0].status_code == 303
    assert "The card was saved and is now the default." in words(first.text)
    text = words(part(second.text, "payment-methods"))
    assert re.search(r"Mastercard •••• 4444 default expires \d\d/20\d\d Remove", text)
    assert re.search(r"Visa •••• 4242 expires \d\d/20\d\d Make default Remove", text)
    assert card_brands(api, ann) == ["MASTERCARD", "visa"]


def test_declined_card_is_not_saved(api):
    ann = builders.customer(api)

    url = portal_url(api, ann, CARDS)
    response = submit(f"{url}/add-card", {"card": "4000000000000002"})

    assert response.status_code == 402
    assert "Your card was declined." in words(response.text)
    assert card_brands(api, ann) == []


def test_default_card_is_changed(api):
    ann, visa = builders.paying_customer(api)
    builders.card(api, ann.id, "pm_card_mastercard")
    url = portal_url(api, ann, CARDS)

    response = submit(f"{url}/default-card", {"payment_method": visa.id})

    assert "The default card was changed." in words(response.text)
    assert card_brands(api, ann) == ["mastercard", "VISA"]
    assert builders.event_types(api)[-1] == "customer.updated"


def test_card_is_removed(api):
    ann, visa = builders.paying_customer(api)
    url = portal_url(api, ann, CARDS)

    response = submit(f"{url}/remove-card", {"payment_method": visa.id})

    assert "The card was removed." in words(response.text)
    assert card_brands(api, ann) == []
    assert "payment_method.detached" in builders.event_types(api)


def test_only_card_of_an_automatic_subscription_cannot_be_removed(api):
    ann, visa = builders.paying_customer(api)
    builders.automatic(api, to=ann)
    url = portal_url(api, ann, CARDS)
    page_with_one_card = fetch(url).text

    rejected = submit(f"{url}/remove-card", {"payment_method": visa.id})
    submit(f"{url}/add-card", {"card": "pm_card_mastercard"})
    submit(f"{url}/remove-card", {"payment_method": visa.id})

    assert "pays a subscription" in words(page_with_one_card)
    assert rejected.status_code == 403
    assert "add another one first" in words(rejected.text)
    assert card_brands(api, ann) == ["MASTERCARD"]


def test_subscriptions_own_card_cannot_be_removed_but_the_others_can(api):
    ann, visa = builders.paying_customer(api)
    builders.automatic(api, to=ann, default_payment_method=visa.id)
    other = builders.card(api, ann.id, "pm_card_mastercard")
    url = portal_url(api, ann, CARDS)

    submit(f"{url}/remove-card", {"payment_method": other.id})
    rejected = submit(f"{url}/remove-card", {"payment_method": visa.id})

    assert rejected.status_code == 403
    assert card_brands(api, ann) == ["visa"]


@pytest.mark.parametrize("features", [CARDS, HISTORY])
@pytest.mark.parametrize("action", ["default-card", "remove-card"])
def test_cards_of_others_or_without_the_feature_are_not_changed(api, features, action):
    ann, visa = builders.paying_customer(api)
    _, foreign = builders.paying_customer(api)
    url = portal_url(api, ann, features)
    own = visa.id if features is HISTORY else foreign.id
    before = builders.event_types(api)

    responses = [
        submit(f"{url}/{action}", form)
        for form in ({"payment_method": own}, {"payment_method": "pm_x"}, {})
    ]

    assert [response.status_code for response in responses] == [403, 403, 403]
    assert builders.event_types(api) == before


def test_card_is_not_added_without_the_feature(api):
    ann = builders.customer(api)

    url = portal_url(api, ann, HISTORY)
    response = submit(f"{url}/add-card", {"card": "pm_card_visa"})

    assert response.status_code == 403
    assert "The portal does not change payment methods." in words(response.text)
    assert card_brands(api, ann) == []


def test_invoices_link_to_their_pages(api):
    ann = builders.customer(api)
    paid = builders.open_invoice(api, ann)
    api.v1.invoices.pay(paid.id, {"paid_out_of_band": True})
    open_invoice = builders.open_invoice(api, ann)
    builders.subscription(api, to=ann)
    foreign = builders.open_invoice(api)

    page = fetch(portal_url(api, ann, HISTORY)).text

    text = words(part(page, "invoices"))
    assert re.search(
        rf"{open_invoice.number} open \$10\.00 \d+ \w+ \d+ {paid.number} paid \$10\.00",
        text,
    )
    assert text.count("$10.00") == 2
    assert str(foreign.number) not in page
    link = re.search(rf'href="([^"]+)">{paid.number}', page)
    assert link and str(paid.hosted_invoice_url).endswith(link[1])


def test_details_are_changed(api):
    ann = builders.customer(api, name="Ann")
    url = portal_url(api, ann, DETAILS)

    response = submit(f"{url}/details", {"email": "bee@example.com", "name": ""})

    customer = api.v1.customers.retrieve(ann.id)
    assert "Your details were saved." in words(response.text)
    assert 'value="bee@example.com"' in response.text
    assert (customer.email, customer.name) == ("bee@example.com", None)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"phone": "1"}, 403),
        ({"balance": "-100"}, 403),
        ({"email": "a", "metadata": "x"}, 403),
        ({"name": "x" * 257}, 400),
    ],
)
def test_details_that_are_not_allowed_are_not_changed(api, form, status):
    ann = builders.customer(api)
    url = portal_url(api, ann, DETAILS)

    response = submit(f"{url}/details", form)

    assert response.status_code == status
    assert 'role="alert"' in response.text
    assert api.v1.customers.retrieve(ann.id).email == "ann@example.com"
    assert "customer.updated" not in builders.event_types(api)


def flow_data(after=None):
    flow = {"type": "payment_method_update"}
    return {**flow, "after_completion": after} if after else flow


def redirect(url):
    return {"type": "redirect", "redirect": {"return_url": url}}


def test_flow_displays_a_single_action(api):
    ann = builders.customer(api)
    features = {**CARDS, **HISTORY}

    page = fetch(portal_url(api, ann, features, flow_data=flow_data())).text

    assert "Add a payment method" in words(page)
    assert 'id="invoices"' not in page
    assert 'id="subscriptions"' not in page


def test_flow_without_after_completion_ends_in_the_portal(api):
    ann = builders.customer(api)
    features = {**CARDS, **HISTORY}
    url = portal_url(api, ann, features, flow_data=flow_data())

    page = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert "The card was saved" in words(page)
    assert 'id="invoices"' in page


def test_flow_with_hosted_confirmation_ends_with_its_message(api):
    after = {
        "type": "hosted_confirmation",
        "hosted_confirmation": {"custom_message": "Until next time"},
    }
    url = portal_url(
        api,
        builders.customer(api),
        CARDS,
        flow_data=flow_data(after),
        return_url=RETURN,
    )

    rejected = submit(f"{url}/add-card", {"card": "4000000000000002"}).text
    page = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert "Your card was declined." in words(rejected)
    assert "Add a payment method" in words(rejected)
    assert "The card was saved and is now the default. Until next time" in words(page)
    assert f'href="{RETURN}"' in page
    assert 'id="payment-methods"' not in page


def test_rejected_form_that_claims_success_shows_the_flow_again(api):
    after = {"type": "hosted_confirmation", "hosted_confirmation": {}}
    url = portal_url(api, builders.customer(api), CARDS, flow_data=flow_data(after))

    form = {"card": "4000000000000002", "done": "add-card"}
    page = words(submit(f"{url}/add-card", form).text)

    assert "Your card was declined." in page
    assert "Add a payment method" in page
    assert "The card was saved" not in page


def test_flow_with_redirect_ends_at_its_url(api):
    ann = builders.customer(api)
    target = "http://127.0.0.1:8000/bye?a=1&b=2"
    url = portal_url(api, ann, CARDS, flow_data=flow_data(redirect(target)))

    before = fetch(url).text
    after = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    escaped = target.replace("&", "&amp;")
    assert "refresh" not in before
    assert f'<meta http-equiv="refresh" content="0;url={escaped}">' in after
    assert f'<a href="{escaped}">Continue to 127.0.0.1:8000</a>' in after
    assert card_brands(api, ann) == ["VISA"]


def test_flow_does_not_redirect_to_a_url_that_is_not_http(api):
    url = portal_url(
        api,
        builders.customer(api),
        CARDS,
        flow_data=flow_data(redirect("javascript:alert(1)")),
    )

    page = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert "The card was saved" in words(page)
    assert "javascript" not in page
    assert "refresh" not in page


def test_expired_session_shows_an_error_and_runs_no_action(api, stripe_sandbox):
    ann = builders.customer(api)
    url = portal_url(api, ann, CARDS, return_url=RETURN)
    stripe_sandbox.advance(actions.OPEN_TIMEOUT + 5)

    page = fetch(url)
    response = submit(f"{url}/add-card", {"card": "pm_card_visa"})

    for result in (page, response):
        assert result.status_code == 410
        assert "This session has expired" in words(result.text)
        assert f'href="{RETURN}"' in result.text
    assert card_brands(api, ann) == []


def test_visit_extends_the_session(api, stripe_sandbox):
    url = portal_url(api, builders.customer(api), HISTORY)
    fetch(url)
    stripe_sandbox.advance(actions.IDLE_TIMEOUT - 60)

    assert fetch(url).status_code == 200


def test_portal_of_a_deleted_customer_is_unavailable(api):
    ann = builders.customer(api)
    url = portal_url(api, ann, {**CARDS, **DETAILS})
    api.v1.customers.delete(ann.id)

    for response in (
        fetch(url),
        submit(f"{url}/add-card", {"card": "pm_card_visa"}),
        submit(f"{url}/details", {"name": "Ann"}),
    ):
        assert response.status_code == 410
        assert "This customer has been deleted" in words(response.text)


def test_due_timers_run_before_the_page_is_rendered(api, stripe_sandbox):
    ann = builders.customer(api)
    builders.subscription(api, to=ann)
    url = portal_url(api, ann, HISTORY)
    fetch(url)
    stripe_sandbox.app.clock.advance(3_500)

    assert "No invoices yet." in words(fetch(url).text)
    stripe_sandbox.app.clock.advance(3_500)
    assert "open $10.00" in words(fetch(url).text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/p/session/test_x", "Session not found"),
        ("/p/session/", "Session not found"),
        ("/p/login/test_x", "Login is not available"),
    ],
)
def test_unknown_session_or_login_is_a_404(stripe_sandbox, path, text):
    response = fetch(f"{stripe_sandbox.url}{path}")

    assert response.status_code == 404
    assert text in words(response.text)


def test_action_of_an_unknown_session_is_a_404(stripe_sandbox):
    url = f"{stripe_sandbox.url}/p/session/test_x/add-card"

    assert submit(url, {"card": "pm_card_visa"}).status_code == 404


def test_login_page_explains_that_login_is_not_available(api):
    configuration = api.v1.billing_portal.configurations.create(
        {"features": HISTORY, "login_page": ON}
    )

    response = fetch(configuration.login_page.url)

    assert response.status_code == 404
    assert "The sandbox sends no mail" in words(response.text)


def test_form_from_another_site_is_denied(api):
    ann = builders.customer(api)
    url = portal_url(api, ann, CARDS)

    response = submit(
        f"{url}/add-card", {"card": "pm_card_visa"}, Origin="http://evil.example"
    )

    assert response.status_code == 403
    assert card_brands(api, ann) == []


def test_html_in_names_is_escaped(api):
    ann = builders.customer(api, name=HTML_INJECTION, email=f"{HTML_INJECTION}@x")
    price = builders.price(api, product_data={"name": HTML_INJECTION})
    builders.subscription(api, price, to=ann)
    all_features = {**CARDS, **HISTORY, **DETAILS}
    after = {
        "type": "hosted_confirmation",
        "hosted_confirmation": {"custom_message": HTML_INJECTION},
    }
    url = portal_url(
        api,
        ann,
        all_features,
        {"headline": HTML_INJECTION},
        return_url=f"http://{HTML_INJECTION}",
    )
    flow_url = portal_url(api, ann, all_features, flow_data=flow_data(after))

    for address in (
        url,
        f"{url}?done={HTML_INJECTION}",
        f"{flow_url}?done=add-card",
    ):
        assert "<script" not in fetch(address).text


def test_status_page_links_to_the_session(api, stripe_sandbox):
    ann = builders.customer(api)
    url = portal_url(api, ann, HISTORY)
    session = stripe_sandbox.app.store.scan("billing_portal.session")
    id = next(session)["id"]

    page = fetch(f"{stripe_sandbox.url}/?id={id}").text

    assert f'href="{url.removeprefix(stripe_sandbox.url)}"' in page


@pytest.mark.parametrize(
    ("body", "enabled"),
    [
        ({}, {"customer_update", "invoice_history", "payment_method_update"}),
        ({"features": {}}, set()),
        (
            {"features": {**HISTORY, **CARDS}},
            {"invoice_history", "payment_method_update"},
        ),
        (
            {"features": {"customer_update": {**ON, "allowed_updates": ["name"]}}},
            {"customer_update"},
        ),
    ],
)
def test_control_action_saves_the_default_configuration(api, act, body, enabled):
    status, response = act("portal", **body)

    features = response["features"]
    assert (status, response["is_default"]) == (200, True)
    assert {name for name in features if features[name]["enabled"]} == enabled
    session = api.v1.billing_portal.sessions.create(
        {"customer": builders.customer(api).id}
    )
    assert session.configuration == response["id"]


def test_saving_the_default_configuration_again_updates_it(api, act, stripe_sandbox):
    first = stripe_sandbox.save_portal()

    _, response = act(
        "portal",
        features={"customer_update": {"enabled": False, "allowed_updates": []}},
    )

    assert response["id"] == first["id"]
    assert response["features"]["customer_update"]["allowed_updates"] == []
    assert response["features"]["invoice_history"]["enabled"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"features": {"teleport": ON}}, "features[teleport]"),
        ({"features": []}, "features must be a JSON object"),
        ({"features": {"invoice_history": {"enabled": "yes"}}}, "Invalid boolean"),
        ({"features": {"invoice_history": {"enabled": None}}}, "Invalid boolean"),
        ({"features": {"customer_update": ON}}, "allowed_updates"),
        ({"card": "x"}, "unknown field: card"),
        ({"name": "x"}, "unknown field: name"),
    ],
)
def test_invalid_default_configuration_is_rejected(api, act, body, text):
    status, response = act("portal", **body)

    assert status == 400
    assert text in response["error"]
    assert api.v1.billing_portal.configurations.list().data == []
