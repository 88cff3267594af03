"""The billing portal: configurations, sessions, and what a person may do."""

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.context import NOWHERE
from sandbox.stripe.objects import addresses, portal, portal_configurations
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY

ON = {"enabled": True}
OFF = {"enabled": False}
REASONS = {"enabled": True, "options": ["unused", "other"]}


def configure(api, **features):
    return api.v1.billing_portal.configurations.create(
        {"features": features or {"invoice_history": ON}}
    )


def cancelling(api, **settings):
    """Return a configuration that lets people cancel."""
    return configure(api, subscription_cancel={"enabled": True, **settings})


def opened(api, configuration=None, payer=None, **params):
    given = {"customer": (payer or story.customer(api)).id, **params}
    if configuration:
        given["configuration"] = configuration.id
    return api.v1.billing_portal.sessions.create(given)


def token_of(session):
    return session.url.rsplit("/", 1)[1]


def record_of(sandbox, session):
    return sandbox.app.store.get("billing_portal.session", session.id)


def by_hand(sandbox, act, *args, **params):
    """Let a person do something, as the portal's pages do."""
    return sandbox.app.transact(lambda context: act(context, *args, **params))


def test_a_configuration_has_everything_off_but_what_is_switched_on(api):
    made = api.v1.billing_portal.configurations.create(
        {
            "features": {
                "customer_update": {"enabled": True, "allowed_updates": ["email"]},
                "invoice_history": ON,
                "payment_method_update": ON,
                "subscription_cancel": OFF,
                "subscription_pause": OFF,
            },
            "business_profile": {"headline": "Caravel"},
            "default_return_url": "https://caravel.example/",
            "metadata": {"a": "b"},
            "name": "Tenants",
        }
    )

    features = made.features
    assert features.customer_update.allowed_updates == ["email"]
    assert features.invoice_history.enabled and features.payment_method_update.enabled
    assert not features.subscription_cancel.enabled
    assert features.subscription_cancel.mode == "at_period_end"
    assert not features.subscription_update.enabled
    assert (made.active, made.is_default, made.name) == (True, False, "Tenants")
    assert made.business_profile.headline == "Caravel"
    assert made.login_page.url is None


def test_a_configuration_is_changed_switch_by_switch(api):
    made = cancelling(api, mode="immediately", cancellation_reason=REASONS)
    configurations = api.v1.billing_portal.configurations

    changed = configurations.update(
        made.id,
        {
            "features": {
                "subscription_cancel": {"proration_behavior": "create_prorations"},
                "invoice_history": ON,
            },
            "login_page": ON,
        },
    )
    closed = configurations.update(made.id, {"active": False, "login_page": OFF})

    cancel = changed.features.subscription_cancel
    assert (cancel.enabled, cancel.mode) == (True, "immediately")
    assert cancel.proration_behavior == "create_prorations"
    assert cancel.cancellation_reason.options == ["unused", "other"]
    assert "/p/login/" in changed.login_page.url
    assert (closed.active, closed.login_page.url) == (False, None)
    assert story.event_types(api)[-3:] == [
        "billing_portal.configuration.created",
        "billing_portal.configuration.updated",
        "billing_portal.configuration.updated",
    ]


CANCEL = "features[subscription_cancel]"
BAD_FEATURES = [
    ({"subscription_cancel": {"mode": "immediately"}}, f"{CANCEL}[enabled]"),
    (
        {"subscription_cancel": {**ON, "proration_behavior": "always_invoice"}},
        f"{CANCEL}[proration_behavior]",
    ),
    (
        {"subscription_cancel": {**ON, "proration_behavior": "create_prorations"}},
        f"{CANCEL}[proration_behavior]",
    ),
    ({"subscription_cancel": {**ON, "mode": "soon"}}, f"{CANCEL}[mode]"),
    ({"customer_update": ON}, "features[customer_update][allowed_updates]"),
    (
        {"subscription_update": {**ON, "default_allowed_updates": ["price"]}},
        "features[subscription_update][products]",
    ),
    ({"subscription_pause": ON}, "features[subscription_pause][enabled]"),
    ({"teleport": ON}, "features[teleport]"),
]


@pytest.mark.parametrize(("features", "param"), BAD_FEATURES)
def test_switches_that_do_not_go_together_are_refused(api, features, param):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        configure(api, **features)

    assert caught.value.param == param
    assert api.v1.billing_portal.configurations.list().data == []


def test_changing_plans_is_a_switch_with_its_products(api):
    price = story.price(api)
    products = [{"product": price.product, "prices": [price.id]}]

    made = configure(
        api,
        subscription_update={
            "enabled": True,
            "default_allowed_updates": ["quantity"],
            "products": products,
        },
    )

    (product,) = made.features.subscription_update.products
    assert (product.product, product.prices) == (price.product, [price.id])
    assert not product.adjustable_quantity.enabled


def test_configurations_are_listed_and_found(api, stripe_sandbox):
    first, second = configure(api), configure(api)
    default = by_hand(stripe_sandbox, portal_configurations.save_default)
    configurations = api.v1.billing_portal.configurations
    configurations.update(first.id, {"active": False})

    def listed(**params):
        return [one.id for one in configurations.list(params).data]

    assert listed() == [default["id"], second.id, first.id]
    assert listed(active=False) == [first.id]
    assert listed(is_default=True) == [default["id"]]
    assert configurations.retrieve(first.id).active is False
    for act in (configurations.retrieve, configurations.update):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            act("bpc_x")
        assert caught.value.http_status == 404


def test_without_a_default_configuration_a_session_needs_one(api, stripe_sandbox):
    configure(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        opened(api)
    default = by_hand(stripe_sandbox, portal_configurations.save_default)

    assert caught.value.user_message.startswith(
        "No configuration provided and your test mode default configuration has not "
        "been created."
    )
    assert opened(api).configuration == default["id"]


def test_the_default_configuration_is_saved_anew_and_stays(api, stripe_sandbox):
    first = by_hand(stripe_sandbox, portal_configurations.save_default)
    again = by_hand(
        stripe_sandbox, portal_configurations.save_default, {"invoice_history": OFF}
    )

    assert again["id"] == first["id"]
    assert not again["features"]["invoice_history"]["enabled"]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.billing_portal.configurations.update(first["id"], {"active": False})
    assert caught.value.param == "active"


def test_a_session_has_a_page_of_the_sandbox(api, stripe_sandbox):
    made = configure(api)
    api.v1.billing_portal.configurations.update(
        made.id, {"default_return_url": "https://caravel.example/"}
    )
    payer = story.customer(api)

    session = opened(api, made, payer, locale="de")
    elsewhere = opened(api, made, payer, return_url="https://other.example/")

    assert session.url == f"{stripe_sandbox.url}/p/session/{token_of(session)}"
    assert (session.customer, session.locale) == (payer.id, "de")
    assert session.return_url == "https://caravel.example/"
    assert elsewhere.return_url == "https://other.example/"
    assert token_of(session) != token_of(elsewhere)
    found = addresses.find_session(stripe_sandbox.app.store, token_of(session))
    assert found and found["id"] == session.id
    assert story.event_types(api)[-1] == "billing_portal.session.created"


def test_in_process_the_page_is_nowhere():
    api = in_process_client(StripeApp(seed=1))

    assert opened(api, configure(api)).url.startswith(f"{NOWHERE}/p/session/")


def test_a_session_needs_a_customer_and_an_active_configuration(api):
    made = configure(api)
    payer = story.customer(api)
    api.v1.billing_portal.configurations.update(made.id, {"active": False})
    sessions = api.v1.billing_portal.sessions

    for params, param in (
        ({}, "customer"),
        ({"customer": "cus_x"}, "customer"),
        ({"customer": payer.id, "configuration": "bpc_x"}, "configuration"),
        ({"customer": payer.id, "configuration": made.id}, "configuration"),
        ({"customer": payer.id, "locale": "tlh"}, "locale"),
        ({"customer": payer.id, "on_behalf_of": "acct_x"}, "on_behalf_of"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sessions.create(params)
        assert caught.value.param == param


def test_a_session_may_lead_straight_to_one_thing(api):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    made = configure(api, subscription_cancel=ON, payment_method_update=ON)

    card = opened(api, made, payer, flow_data={"type": "payment_method_update"})
    end = opened(
        api,
        made,
        payer,
        flow_data={
            "type": "subscription_cancel",
            "subscription_cancel": {"subscription": subscribed.id},
            "after_completion": {
                "type": "redirect",
                "redirect": {"return_url": "https://caravel.example/bye"},
            },
        },
    )

    assert card.flow.type == "payment_method_update"
    assert card.flow.after_completion.type == "portal_homepage"
    assert end.flow.subscription_cancel.subscription == subscribed.id
    assert end.flow.after_completion.redirect.return_url.endswith("/bye")


@pytest.mark.parametrize(
    ("flow", "param"),
    [
        (lambda sub: {"type": "payment_method_update"}, "flow_data[type]"),
        (lambda sub: {"type": "subscription_pause"}, "flow_data[type]"),
        (
            lambda sub: {"type": "subscription_cancel"},
            "flow_data[subscription_cancel][subscription]",
        ),
        (
            lambda sub: {
                "type": "subscription_cancel",
                "subscription_cancel": {"subscription": "sub_x"},
            },
            "flow_data[subscription_cancel][subscription]",
        ),
        (
            lambda sub: {
                "type": "subscription_cancel",
                "subscription_cancel": {"subscription": sub},
            },
            "flow_data[subscription_cancel][subscription]",
        ),
        (
            lambda sub: {
                "type": "subscription_cancel",
                "subscription_cancel": {"subscription": sub},
                "after_completion": {"type": "redirect"},
            },
            "flow_data[subscription_cancel][subscription]",
        ),
    ],
)
def test_a_flow_that_leads_nowhere_is_refused(api, flow, param):
    """The subscription of another customer is nowhere too."""
    foreign = story.subscription(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        opened(api, cancelling(api), flow_data=flow(foreign.id))

    assert caught.value.param == param


def test_a_redirect_needs_its_address_and_a_cancellation_something_to_cancel(api):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    flow = {
        "type": "subscription_cancel",
        "subscription_cancel": {"subscription": subscribed.id},
    }
    made = cancelling(api)

    with pytest.raises(stripe.InvalidRequestError) as lost:
        opened(
            api,
            made,
            payer,
            flow_data={**flow, "after_completion": {"type": "redirect"}},
        )
    api.v1.subscriptions.update(subscribed.id, {"cancel_at_period_end": True})
    with pytest.raises(stripe.InvalidRequestError, match="already canceled"):
        opened(api, made, payer, flow_data=flow)

    assert lost.value.param == "flow_data[after_completion][redirect]"


def test_a_session_expires_unless_it_is_used(api, stripe_sandbox):
    made = configure(api)
    used, unused = opened(api, made), opened(api, made)

    def visit(session):
        return by_hand(stripe_sandbox, portal.use_session, token_of(session))

    stripe_sandbox.advance(portal.OPEN_TIMEOUT - 5)
    assert visit(used)["id"] == used.id
    stripe_sandbox.advance(portal.IDLE_TIMEOUT - 5)
    assert visit(used)["id"] == used.id
    with pytest.raises(portal.SessionExpired):
        visit(unused)
    stripe_sandbox.advance(portal.IDLE_TIMEOUT + 5)
    with pytest.raises(portal.SessionExpired):
        visit(used)
    with pytest.raises(portal.SessionExpired):
        by_hand(stripe_sandbox, portal.use_session, "test_x")


def test_what_a_person_may_do_follows_the_configuration(api, stripe_sandbox):
    made = configure(
        api,
        customer_update={"enabled": True, "allowed_updates": ["email"]},
        invoice_history=ON,
    )
    session = record_of(stripe_sandbox, opened(api, made))

    def may(feature):
        return by_hand(stripe_sandbox, portal.is_enabled, session, feature)

    assert may("invoice_history") and not may("subscription_cancel")
    assert by_hand(stripe_sandbox, portal.is_updatable, session, "email")
    assert not by_hand(stripe_sandbox, portal.is_updatable, session, "name")
    api.v1.billing_portal.configurations.update(
        made.id,
        {"features": {"invoice_history": OFF, "customer_update": OFF}},
    )
    assert not may("invoice_history")
    assert not by_hand(stripe_sandbox, portal.is_updatable, session, "email")


def test_a_person_cancels_at_the_end_of_the_period_and_thinks_again(
    api, stripe_sandbox
):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    made = cancelling(api, cancellation_reason=REASONS)
    session = record_of(stripe_sandbox, opened(api, made, payer))

    asked = by_hand(stripe_sandbox, portal.cancellation_reasons, session)
    by_hand(
        stripe_sandbox,
        portal.cancel,
        session,
        subscribed.id,
        feedback="unused",
        comment="Moving",
    )
    scheduled = api.v1.subscriptions.retrieve(subscribed.id)
    by_hand(stripe_sandbox, portal.undo_cancellation, session, subscribed.id)
    kept = api.v1.subscriptions.retrieve(subscribed.id)

    assert asked == ["unused", "other"]
    assert (scheduled.status, scheduled.cancel_at_period_end) == ("active", True)
    details = scheduled.cancellation_details
    assert (details.reason, details.feedback, details.comment) == (
        "cancellation_requested",
        "unused",
        "Moving",
    )
    assert (kept.cancel_at, kept.cancellation_details.feedback) == (None, None)
    event = api.v1.events.list().data[0]
    assert event.type == "customer.subscription.updated"
    assert event.request.id is None


@pytest.mark.parametrize(
    ("behavior", "pending"), [("none", 0), ("create_prorations", 1)]
)
def test_a_person_cancels_at_once_where_that_is_the_mode(
    api, stripe_sandbox, behavior, pending
):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    made = cancelling(api, mode="immediately", proration_behavior=behavior)
    session = record_of(stripe_sandbox, opened(api, made, payer))
    stripe_sandbox.advance(10 * DAY)

    by_hand(stripe_sandbox, portal.cancel, session, subscribed.id, immediately=True)

    ended = api.v1.subscriptions.retrieve(subscribed.id)
    assert ended.status == "canceled"
    assert ended.cancellation_details.reason == "cancellation_requested"
    assert len(api.v1.invoice_items.list({"pending": True}).data) == pending
    assert "customer.subscription.deleted" in story.event_types(api)


def test_what_the_configuration_does_not_offer_is_not_done(api, stripe_sandbox):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    foreign = story.subscription(api)
    ended = story.subscription(api, to=payer)
    api.v1.subscriptions.cancel(ended.id)
    off = record_of(stripe_sandbox, opened(api, configure(api), payer))
    on = record_of(stripe_sandbox, opened(api, cancelling(api), payer))

    def refused(session, id, act=portal.cancel, **params):
        with pytest.raises(portal.NotAllowed):
            by_hand(stripe_sandbox, act, session, id, **params)

    refused(off, subscribed.id)
    refused(off, subscribed.id, portal.undo_cancellation)
    refused(on, foreign.id)
    refused(on, ended.id)
    refused(on, "sub_x")
    refused(on, subscribed.id, immediately=True)
    refused(on, subscribed.id, feedback="unused")
    assert api.v1.subscriptions.retrieve(subscribed.id).cancel_at is None


def test_sessions_and_configurations_survive_a_restart(tmp_path):
    state = tmp_path / "state.sqlite"
    app = StripeApp(state=state)
    api = in_process_client(app)
    session = opened(api, configure(api))
    app.close()

    again = StripeApp(state=state)

    found = again.transact(
        lambda context: portal.use_session(context, token_of(session))
    )
    assert found["id"] == session.id
    again.close()
