"""The billing portal's pages over HTTP: what a person sees and does there."""

import re

import pytest

from sandbox.stripe.objects import portal
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_web import fetch, part, submit, words

HOSTILE = """"><script>alert('1')</script>&amp;"""
ON = {"enabled": True}
CARDS = {"payment_method_update": ON}
CANCEL = {"subscription_cancel": ON}
HISTORY = {"invoice_history": ON}
DETAILS = {"customer_update": {**ON, "allowed_updates": ["email", "name"]}}
RETURN = "https://caravel.example/account"


def opened(api, payer, features, profile=None, **params):
    """Return the address of a portal session with these features."""
    configuration = api.v1.billing_portal.configurations.create(
        {"features": features, "business_profile": profile or {}}
    )
    given = {"customer": payer.id, "configuration": configuration.id, **params}
    return api.v1.billing_portal.sessions.create(given).url


def cards_of(api, payer):
    """Return the customer's cards as `brand`, the default one in capitals."""
    customer = api.v1.customers.retrieve(payer.id)
    default = customer.invoice_settings.default_payment_method
    found = api.v1.payment_methods.list({"customer": payer.id}).data
    return [
        one.card.brand.upper() if one.id == default else one.card.brand for one in found
    ]


def test_the_portal_shows_only_what_the_configuration_offers(api):
    ann = story.customer(api, name="Ann Bee")
    story.open_invoice(api, ann)
    pages = {
        name: fetch(opened(api, ann, {name: features[name]})).text
        for features in (CARDS, CANCEL, HISTORY, DETAILS)
        for name in features
    }

    for name, section in (
        ("payment_method_update", 'id="payment-methods"'),
        ("subscription_cancel", "Cancel subscription"),
        ("invoice_history", 'id="invoices"'),
        ("customer_update", 'id="details"'),
    ):
        assert {one for one, page in pages.items() if section in page} == {name}
    for page in pages.values():
        assert "Your billing Ann Bee ann@example.com" in words(page)
        assert "1 × Relay (at $10.00 / month) active Renews on" in words(page)


def test_an_empty_portal_says_so(api):
    page = fetch(opened(api, story.customer(api), {**CARDS, **HISTORY})).text

    text = words(page)
    assert "There is no subscription." in text
    assert "There is no card on file." in text
    assert "There is no invoice yet." in text
    assert 'class="back"' not in page


def test_every_answer_is_guarded(api):
    answer = fetch(opened(api, story.customer(api), HISTORY))

    assert answer.headers["Cache-Control"] == "no-store"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "no money moves" in words(answer.text)


def test_the_business_and_the_way_back_are_shown(api):
    profile = {
        "headline": "Caravel hosts relays",
        "privacy_policy_url": "https://caravel.example/privacy",
        "terms_of_service_url": "https://caravel.example/terms",
    }
    url = opened(api, story.customer(api), HISTORY, profile, return_url=RETURN)

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
def test_an_address_that_is_no_web_page_is_not_linked(api, url):
    profile = {"privacy_policy_url": url, "terms_of_service_url": url}

    page = fetch(opened(api, story.customer(api), HISTORY, profile, return_url=url))

    assert url not in page.text
    assert page.status_code == 200


def test_cards_are_added_and_become_the_default(api):
    ann = story.customer(api)
    url = opened(api, ann, CARDS)

    first = submit(f"{url}/add-card", {"card": "pm_card_visa"})
    second = submit(f"{url}/add-card", {"card": "5555 5555 5555 4444"})

    assert first.history[0].status_code == 303
    assert "The card is saved. It is now the default." in words(first.text)
    text = words(part(second.text, "payment-methods"))
    assert re.search(r"Mastercard •••• 4444 default expires \d\d/20\d\d Remove", text)
    assert re.search(r"Visa •••• 4242 expires \d\d/20\d\d Make default Remove", text)
    assert cards_of(api, ann) == ["MASTERCARD", "visa"]


def test_a_card_that_its_issuer_refuses_is_not_saved(api):
    ann = story.customer(api)

    answer = submit(f"{opened(api, ann, CARDS)}/add-card", {"card": "4000000000000002"})

    assert answer.status_code == 402
    assert "Your card was declined." in words(answer.text)
    assert cards_of(api, ann) == []


def test_another_card_becomes_the_default(api):
    ann, visa = story.paying_customer(api)
    story.card(api, ann.id, "pm_card_mastercard")
    url = opened(api, ann, CARDS)

    answer = submit(f"{url}/default-card", {"payment_method": visa.id})

    assert "The default card is changed." in words(answer.text)
    assert cards_of(api, ann) == ["mastercard", "VISA"]
    assert story.event_types(api)[-1] == "customer.updated"


def test_a_card_is_removed(api):
    ann, visa = story.paying_customer(api)
    url = opened(api, ann, CARDS)

    answer = submit(f"{url}/remove-card", {"payment_method": visa.id})

    assert "The card is removed." in words(answer.text)
    assert cards_of(api, ann) == []
    assert "payment_method.detached" in story.event_types(api)


def test_a_subscription_that_is_charged_keeps_a_card(api):
    ann, visa = story.paying_customer(api)
    story.automatic(api, to=ann)
    url = opened(api, ann, CARDS)
    only = fetch(url).text

    refused = submit(f"{url}/remove-card", {"payment_method": visa.id})
    submit(f"{url}/add-card", {"card": "pm_card_mastercard"})
    submit(f"{url}/remove-card", {"payment_method": visa.id})

    assert "pays a subscription" in words(only)
    assert refused.status_code == 403
    assert "add another one first" in words(refused.text)
    assert cards_of(api, ann) == ["MASTERCARD"]


def test_a_card_of_its_own_lets_a_subscription_go_without_the_default(api):
    ann, visa = story.paying_customer(api)
    story.automatic(api, to=ann, default_payment_method=visa.id)
    other = story.card(api, ann.id, "pm_card_mastercard")
    url = opened(api, ann, CARDS)

    submit(f"{url}/remove-card", {"payment_method": other.id})
    refused = submit(f"{url}/remove-card", {"payment_method": visa.id})

    assert refused.status_code == 403
    assert cards_of(api, ann) == ["visa"]


@pytest.mark.parametrize("features", [CARDS, HISTORY])
@pytest.mark.parametrize("deed", ["default-card", "remove-card"])
def test_only_cards_of_the_customer_are_changed_where_that_is_offered(
    api, features, deed
):
    ann, visa = story.paying_customer(api)
    _, foreign = story.paying_customer(api)
    url = opened(api, ann, features)
    mine = visa.id if features is HISTORY else foreign.id
    before = story.event_types(api)

    answers = [
        submit(f"{url}/{deed}", form)
        for form in ({"payment_method": mine}, {"payment_method": "pm_x"}, {})
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert story.event_types(api) == before


def test_nothing_is_added_where_that_is_not_offered(api):
    ann = story.customer(api)

    answer = submit(f"{opened(api, ann, HISTORY)}/add-card", {"card": "pm_card_visa"})

    assert answer.status_code == 403
    assert "The portal does not change payment methods." in words(answer.text)
    assert cards_of(api, ann) == []


def test_the_invoices_lead_to_their_pages(api):
    ann = story.customer(api)
    paid = story.open_invoice(api, ann)
    api.v1.invoices.pay(paid.id, {"paid_out_of_band": True})
    still_open = story.open_invoice(api, ann)
    story.subscription(api, to=ann)
    foreign = story.open_invoice(api)

    page = fetch(opened(api, ann, HISTORY)).text

    text = words(part(page, "invoices"))
    assert re.search(
        rf"{still_open.number} open \$10\.00 \d+ \w+ \d+ {paid.number} paid \$10\.00",
        text,
    )
    assert text.count("$10.00") == 2
    assert str(foreign.number) not in page
    link = re.search(rf'href="([^"]+)">{paid.number}', page)
    assert link and str(paid.hosted_invoice_url).endswith(link[1])


def test_details_are_changed(api):
    ann = story.customer(api, name="Ann")
    url = opened(api, ann, DETAILS)

    answer = submit(f"{url}/details", {"email": "bee@example.com", "name": ""})

    customer = api.v1.customers.retrieve(ann.id)
    assert "Your details are saved." in words(answer.text)
    assert 'value="bee@example.com"' in answer.text
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
def test_details_that_are_not_offered_stay(api, form, status):
    ann = story.customer(api)
    url = opened(api, ann, DETAILS)

    answer = submit(f"{url}/details", form)

    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert api.v1.customers.retrieve(ann.id).email == "ann@example.com"
    assert "customer.updated" not in story.event_types(api)


def test_a_person_cancels_with_a_reason_and_thinks_again(api):
    ann = story.customer(api)
    subscribed = story.subscription(api, to=ann)
    asked = {**ON, "options": ["unused", "other"]}
    url = opened(
        api, ann, {"subscription_cancel": {**ON, "cancellation_reason": asked}}
    )
    form = {"subscription": subscribed.id}

    step = fetch(f"{url}?cancel={subscribed.id}").text
    done = submit(f"{url}/cancel", {**form, "feedback": "unused", "comment": "Moving "})
    scheduled = api.v1.subscriptions.retrieve(subscribed.id)
    kept = submit(f"{url}/renew", form)

    text = words(part(step, "cancel"))
    assert "You can use it until" in text
    assert "I no longer need it Another reason Anything you would like to add" in text
    assert "It is too expensive" not in text
    text = words(done.text)
    assert "The cancellation is confirmed." in text
    assert "Ends on" in text
    details = scheduled.cancellation_details
    assert scheduled.cancel_at_period_end
    assert (details.feedback, details.comment) == ("unused", "Moving")
    assert "The subscription goes on" in words(kept.text)
    assert api.v1.subscriptions.retrieve(subscribed.id).cancel_at is None


def test_a_subscription_ends_at_once_where_that_is_the_mode(api):
    ann = story.customer(api)
    subscribed = story.subscription(api, to=ann)
    url = opened(api, ann, {"subscription_cancel": {**ON, "mode": "immediately"}})

    step = words(fetch(f"{url}?cancel={subscribed.id}").text)
    answer = submit(f"{url}/cancel", {"subscription": subscribed.id})

    assert "It ends at once." in step
    assert "Why do you cancel?" not in step
    assert "There is no subscription." in words(answer.text)
    assert story.status_of(api, subscribed) == "canceled"


@pytest.mark.parametrize(
    ("features", "form"),
    [
        (HISTORY, {}),
        (CANCEL, {"subscription": "sub_x"}),
        (CANCEL, {"feedback": "unused"}),
    ],
)
def test_what_is_not_offered_is_not_cancelled(api, features, form):
    ann = story.customer(api)
    subscribed = story.subscription(api, to=ann)
    url = opened(api, ann, features)

    answer = submit(f"{url}/cancel", {"subscription": subscribed.id, **form})

    assert answer.status_code == 403
    assert 'role="alert"' in answer.text
    assert api.v1.subscriptions.retrieve(subscribed.id).cancel_at is None


def test_the_step_is_only_for_what_can_be_cancelled(api):
    ann = story.customer(api)
    foreign = story.subscription(api)
    ending = story.subscription(api, to=ann, cancel_at_period_end=True)
    url, off = opened(api, ann, CANCEL), opened(api, ann, HISTORY)
    mine = story.subscription(api, to=ann)

    def asks(address, subscribed):
        page = fetch(f"{address}?cancel={subscribed.id}").text
        return 'id="cancel"' in page

    assert asks(url, mine)
    assert not asks(url, foreign)
    assert not asks(url, ending)
    assert not asks(off, mine)


def flow(type, after=None, **more):
    return {"type": type, **({"after_completion": after} if after else {}), **more}


def redirect(url):
    return {"type": "redirect", "redirect": {"return_url": url}}


def test_a_flow_shows_one_thing_to_do(api):
    ann = story.customer(api)
    subscribed = story.subscription(api, to=ann)
    features = {**CARDS, **CANCEL, **HISTORY}

    card = fetch(
        opened(api, ann, features, flow_data=flow("payment_method_update"))
    ).text
    end = fetch(
        opened(
            api,
            ann,
            features,
            flow_data=flow(
                "subscription_cancel",
                subscription_cancel={"subscription": subscribed.id},
            ),
        )
    ).text

    assert "Add a payment method" in words(card)
    assert "Cancel your subscription?" in words(end)
    assert "Go back" not in words(end)
    for page in (card, end):
        assert 'id="invoices"' not in page
        assert 'id="subscriptions"' not in page


def test_a_flow_ends_in_the_portal_unless_something_else_is_said(api):
    ann = story.customer(api)
    features = {**CARDS, **HISTORY}
    url = opened(api, ann, features, flow_data=flow("payment_method_update"))

    page = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert "The card is saved." in words(page)
    assert 'id="invoices"' in page


def test_a_flow_that_ends_in_a_message_shows_it(api):
    after = {
        "type": "hosted_confirmation",
        "hosted_confirmation": {"custom_message": "Until next time"},
    }
    url = opened(
        api,
        story.customer(api),
        CARDS,
        flow_data=flow("payment_method_update", after),
        return_url=RETURN,
    )

    refused = submit(f"{url}/add-card", {"card": "4000000000000002"}).text
    page = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert "Your card was declined." in words(refused)
    assert "Add a payment method" in words(refused)
    assert "The card is saved. It is now the default. Until next time" in words(page)
    assert f'href="{RETURN}"' in page
    assert 'id="payment-methods"' not in page


def test_a_flow_that_ends_elsewhere_leads_there(api):
    ann = story.customer(api)
    subscribed = story.subscription(api, to=ann)
    there = "http://127.0.0.1:8000/bye?a=1&b=2"
    url = opened(
        api,
        ann,
        CANCEL,
        flow_data=flow(
            "subscription_cancel",
            redirect(there),
            subscription_cancel={"subscription": subscribed.id},
        ),
    )

    before = fetch(url).text
    after = submit(f"{url}/cancel", {"subscription": subscribed.id}).text

    escaped = there.replace("&", "&amp;")
    assert "refresh" not in before
    assert f'<meta http-equiv="refresh" content="0;url={escaped}">' in after
    assert f'<a href="{escaped}">Go on to 127.0.0.1:8000</a>' in after
    assert api.v1.subscriptions.retrieve(subscribed.id).cancel_at_period_end


def test_a_flow_does_not_end_at_what_is_no_web_page(api):
    url = opened(
        api,
        story.customer(api),
        CARDS,
        flow_data=flow("payment_method_update", redirect("javascript:alert(1)")),
    )

    page = submit(f"{url}/add-card", {"card": "pm_card_visa"}).text

    assert "The card is saved." in words(page)
    assert "javascript" not in page
    assert "refresh" not in page


def test_a_flow_whose_subscription_ends_anyway_shows_the_portal(api):
    ann = story.customer(api)
    subscribed = story.subscription(api, to=ann)
    url = opened(
        api,
        ann,
        CANCEL,
        flow_data=flow(
            "subscription_cancel", subscription_cancel={"subscription": subscribed.id}
        ),
    )
    api.v1.subscriptions.update(subscribed.id, {"cancel_at_period_end": True})

    assert "Keep subscription" in words(fetch(url).text)


def test_an_expired_session_says_so_and_does_nothing(api, stripe_sandbox):
    ann = story.customer(api)
    url = opened(api, ann, CARDS, return_url=RETURN)
    stripe_sandbox.advance(portal.OPEN_TIMEOUT + 5)

    shown = fetch(url)
    posted = submit(f"{url}/add-card", {"card": "pm_card_visa"})

    for answer in (shown, posted):
        assert answer.status_code == 410
        assert "This session has expired" in words(answer.text)
        assert f'href="{RETURN}"' in answer.text
    assert cards_of(api, ann) == []


def test_a_page_that_is_looked_at_stays_open(api, stripe_sandbox):
    url = opened(api, story.customer(api), HISTORY)
    fetch(url)
    stripe_sandbox.advance(portal.IDLE_TIMEOUT - 5)

    assert fetch(url).status_code == 200


def test_the_portal_of_a_deleted_customer_is_closed(api):
    ann = story.customer(api)
    url = opened(api, ann, {**CARDS, **DETAILS})
    api.v1.customers.delete(ann.id)

    for answer in (
        fetch(url),
        submit(f"{url}/add-card", {"card": "pm_card_visa"}),
        submit(f"{url}/details", {"name": "Ann"}),
    ):
        assert answer.status_code == 410
        assert "This customer has been deleted" in words(answer.text)


def test_what_is_due_happens_before_the_page_is_shown(api, stripe_sandbox):
    ann = story.customer(api)
    story.subscription(api, to=ann)
    url = opened(api, ann, HISTORY)
    fetch(url)
    stripe_sandbox.app.clock.advance(3_500)

    assert "There is no invoice yet." in words(fetch(url).text)
    stripe_sandbox.app.clock.advance(3_500)
    assert "open $10.00" in words(fetch(url).text)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/p/session/test_x", "There is no such session"),
        ("/p/session/", "There is no such session"),
        ("/p/login/test_x", "There is no login here"),
    ],
)
def test_what_is_not_there_is_a_404(stripe_sandbox, path, says):
    answer = fetch(f"{stripe_sandbox.url}{path}")

    assert answer.status_code == 404
    assert says in words(answer.text)


def test_a_session_that_is_not_there_does_nothing(stripe_sandbox):
    url = f"{stripe_sandbox.url}/p/session/test_x/add-card"

    assert submit(url, {"card": "pm_card_visa"}).status_code == 404


def test_the_login_page_of_a_configuration_says_that_there_is_none(api):
    configuration = api.v1.billing_portal.configurations.create(
        {"features": HISTORY, "login_page": ON}
    )

    answer = fetch(configuration.login_page.url)

    assert answer.status_code == 404
    assert "The sandbox sends no mail" in words(answer.text)


def test_another_site_can_do_nothing(api):
    ann = story.customer(api)
    url = opened(api, ann, CARDS)

    answer = submit(
        f"{url}/add-card", {"card": "pm_card_visa"}, Origin="http://evil.example"
    )

    assert answer.status_code == 403
    assert cards_of(api, ann) == []


def test_hostile_text_is_only_text(api):
    ann = story.customer(api, name=HOSTILE, email=f"{HOSTILE}@x")
    price = story.price(api, product_data={"name": HOSTILE})
    subscribed = story.subscription(api, price, to=ann)
    every = {**CARDS, **CANCEL, **HISTORY, **DETAILS}
    after = {
        "type": "hosted_confirmation",
        "hosted_confirmation": {"custom_message": HOSTILE},
    }
    url = opened(api, ann, every, {"headline": HOSTILE}, return_url=f"http://{HOSTILE}")
    ends = opened(api, ann, every, flow_data=flow("payment_method_update", after))

    for address in (
        url,
        f"{url}?cancel={subscribed.id}",
        f"{url}?cancel={HOSTILE}",
        f"{url}?done={HOSTILE}",
        f"{ends}?done=add-card",
    ):
        assert "<script" not in fetch(address).text


def test_the_state_page_leads_to_a_session(api, stripe_sandbox):
    ann = story.customer(api)
    url = opened(api, ann, HISTORY)
    session = stripe_sandbox.app.store.scan("billing_portal.session")
    id = next(session)["id"]

    page = fetch(f"{stripe_sandbox.url}/?id={id}").text

    assert f'href="{url.removeprefix(stripe_sandbox.url)}"' in page


@pytest.mark.parametrize(
    ("body", "on"),
    [
        ({}, {"customer_update", "invoice_history", "payment_method_update"}),
        ({"features": {}}, set()),
        (
            {"features": {**HISTORY, "subscription_cancel": ON}},
            {"invoice_history", "subscription_cancel"},
        ),
        (
            {"features": {"customer_update": {**ON, "allowed_updates": ["name"]}}},
            {"customer_update"},
        ),
    ],
)
def test_the_dashboard_saves_the_default_configuration(api, act, body, on):
    status, answer = act("portal", **body)

    features = answer["features"]
    assert (status, answer["is_default"]) == (200, True)
    assert {name for name in features if features[name]["enabled"]} == on
    session = api.v1.billing_portal.sessions.create(
        {"customer": story.customer(api).id}
    )
    assert session.configuration == answer["id"]


def test_saving_again_changes_the_same_configuration(api, act, stripe_sandbox):
    first = stripe_sandbox.save_portal()

    _, answer = act(
        "portal",
        features={"customer_update": {"enabled": False, "allowed_updates": []}},
    )

    assert answer["id"] == first["id"]
    assert answer["features"]["customer_update"]["allowed_updates"] == []
    assert answer["features"]["invoice_history"]["enabled"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"features": {"teleport": ON}}, "features[teleport]"),
        ({"features": []}, "Invalid object"),
        ({"features": {"invoice_history": {"enabled": "yes"}}}, "Invalid boolean"),
        ({"features": {"invoice_history": {"enabled": None}}}, "Invalid boolean"),
        ({"features": {"customer_update": ON}}, "allowed_updates"),
        ({"card": "x"}, "unknown parameter"),
        ({"name": "x"}, "there is no name here"),
    ],
)
def test_a_default_configuration_that_cannot_be_is_refused(api, act, body, says):
    status, answer = act("portal", **body)

    assert status == 400
    assert says in answer["error"]
    assert api.v1.billing_portal.configurations.list().data == []
