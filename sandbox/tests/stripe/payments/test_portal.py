"""The billing portal: configurations, sessions, and customer actions."""

import pytest
import stripe

from sandbox.stripe.api.context import DEFAULT_PUBLIC_URL
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal import (
    actions,
)
from sandbox.stripe.objects.portal import (
    configurations as portal_configurations,
)
from sandbox.tests.support.stripe import builders

ENABLED = {"enabled": True}
DISABLED = {"enabled": False}


def configure(api, **features):
    return api.v1.billing_portal.configurations.create(
        {"features": features or {"invoice_history": ENABLED}}
    )


def create_session(api, configuration=None, payer=None, **params):
    body = {"customer": (payer or builders.customer(api)).id, **params}
    if configuration:
        body["configuration"] = configuration.id
    return api.v1.billing_portal.sessions.create(body)


def token_of(session):
    return session.url.rsplit("/", 1)[1]


def record_of(sandbox, session):
    return sandbox.app.store.get("billing_portal.session", session.id)


def run(sandbox, action, *args, **params):
    """Run an action as the portal's pages do."""
    return sandbox.app.transact(lambda context: action(context, *args, **params))


def test_configuration_has_only_requested_features_enabled(api):
    configuration = api.v1.billing_portal.configurations.create(
        {
            "features": {
                "customer_update": {"enabled": True, "allowed_updates": ["email"]},
                "invoice_history": ENABLED,
                "payment_method_update": ENABLED,
                "subscription_cancel": DISABLED,
                "subscription_pause": DISABLED,
            },
            "business_profile": {"headline": "Caravel"},
            "default_return_url": "https://caravel.example/",
            "metadata": {"a": "b"},
            "name": "Tenants",
        }
    )

    features = configuration.features
    assert features.customer_update.allowed_updates == ["email"]
    assert features.invoice_history.enabled and features.payment_method_update.enabled
    assert not features.subscription_cancel.enabled
    assert features.subscription_cancel.mode == "at_period_end"
    assert not features.subscription_update.enabled
    assert (configuration.active, configuration.is_default, configuration.name) == (
        True,
        False,
        "Tenants",
    )
    assert configuration.business_profile.headline == "Caravel"
    assert configuration.login_page.url is None


def test_updating_configuration_keeps_other_settings(api):
    configuration = configure(
        api, customer_update={"enabled": True, "allowed_updates": ["email"]}
    )
    configurations = api.v1.billing_portal.configurations

    changed = configurations.update(
        configuration.id,
        {
            "features": {
                "customer_update": {"allowed_updates": ["email", "name"]},
                "invoice_history": ENABLED,
            },
            "login_page": ENABLED,
        },
    )
    deactivated = configurations.update(
        configuration.id, {"active": False, "login_page": DISABLED}
    )

    details = changed.features.customer_update
    assert (details.enabled, details.allowed_updates) == (True, ["email", "name"])
    assert "/p/login/" in changed.login_page.url
    assert (deactivated.active, deactivated.login_page.url) == (False, None)
    assert builders.event_types(api)[-3:] == [
        "billing_portal.configuration.created",
        "billing_portal.configuration.updated",
        "billing_portal.configuration.updated",
    ]


@pytest.mark.parametrize(
    ("features", "param"),
    [
        (
            {"subscription_cancel": {**ENABLED, "mode": "immediately"}},
            "features[subscription_cancel][mode]",
        ),
        ({"customer_update": ENABLED}, "features[customer_update][allowed_updates]"),
        ({"subscription_pause": ENABLED}, "features[subscription_pause][enabled]"),
        ({"subscription_update": ENABLED}, "features[subscription_update][enabled]"),
        ({"teleport": ENABLED}, "features[teleport]"),
    ],
)
def test_inconsistent_or_unsupported_features_are_refused(api, features, param):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        configure(api, **features)

    assert caught.value.param == param
    assert api.v1.billing_portal.configurations.list().data == []


def test_configurations_are_listed_and_retrieved(api, stripe_sandbox):
    first, second = configure(api), configure(api)
    default = run(stripe_sandbox, portal_configurations.save_default)
    configurations = api.v1.billing_portal.configurations
    configurations.update(first.id, {"active": False})

    def listed(**params):
        return [configuration.id for configuration in configurations.list(params).data]

    assert listed() == [default["id"], second.id, first.id]
    assert configurations.retrieve(first.id).active is False
    for request in (configurations.retrieve, configurations.update):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            request("bpc_x")
        assert caught.value.http_status == 404


def test_session_without_configuration_needs_saved_default(api, stripe_sandbox):
    configure(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        create_session(api)
    default = run(stripe_sandbox, portal_configurations.save_default)

    assert caught.value.user_message.startswith(
        "No configuration provided and your test mode default configuration has not "
        "been created."
    )
    assert create_session(api).configuration == default["id"]


def test_saving_default_configuration_again_updates_it(api, stripe_sandbox):
    first = run(stripe_sandbox, portal_configurations.save_default)
    second = run(
        stripe_sandbox,
        portal_configurations.save_default,
        {"invoice_history": DISABLED},
    )

    assert second["id"] == first["id"]
    assert not second["features"]["invoice_history"]["enabled"]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.billing_portal.configurations.update(first["id"], {"active": False})
    assert caught.value.param == "active"


def test_session_url_is_page_of_sandbox(api, stripe_sandbox):
    configuration = configure(api)
    api.v1.billing_portal.configurations.update(
        configuration.id, {"default_return_url": "https://caravel.example/"}
    )
    payer = builders.customer(api)

    session = create_session(api, configuration, payer)
    with_return_url = create_session(
        api, configuration, payer, return_url="https://other.example/"
    )

    assert session.url == f"{stripe_sandbox.url}/p/session/{token_of(session)}"
    assert session.customer == payer.id
    assert session.return_url == "https://caravel.example/"
    assert with_return_url.return_url == "https://other.example/"
    assert token_of(session) != token_of(with_return_url)
    record = page_urls.find_session(stripe_sandbox.app.store, token_of(session))
    assert record and record["id"] == session.id
    assert builders.event_types(api)[-1] == "billing_portal.session.created"


def test_session_url_has_placeholder_host_in_process():
    api = in_process_client(StripeApp(seed=1))

    assert create_session(api, configure(api)).url.startswith(
        f"{DEFAULT_PUBLIC_URL}/p/session/"
    )


def test_session_needs_customer_and_active_configuration(api):
    configuration = configure(api)
    payer = builders.customer(api)
    api.v1.billing_portal.configurations.update(configuration.id, {"active": False})
    sessions = api.v1.billing_portal.sessions

    for params, param in (
        ({}, "customer"),
        ({"customer": "cus_x"}, "customer"),
        ({"customer": payer.id, "configuration": "bpc_x"}, "configuration"),
        ({"customer": payer.id, "configuration": configuration.id}, "configuration"),
        ({"customer": payer.id, "locale": "de"}, "locale"),
        ({"customer": payer.id, "on_behalf_of": "acct_x"}, "on_behalf_of"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sessions.create(params)
        assert caught.value.param == param


def test_session_keeps_its_flow(api):
    configuration = configure(api, payment_method_update=ENABLED)
    flow = {"type": "payment_method_update"}
    url = "https://caravel.example/bye"
    after = {"type": "redirect", "redirect": {"return_url": url}}

    plain = create_session(api, configuration, flow_data=flow)
    redirecting = create_session(
        api, configuration, flow_data={**flow, "after_completion": after}
    )

    assert plain.flow.type == "payment_method_update"
    assert plain.flow.after_completion.type == "portal_homepage"
    assert redirecting.flow.after_completion.redirect.return_url == url


@pytest.mark.parametrize(
    ("flow", "param"),
    [
        ({"type": "subscription_cancel"}, "flow_data[type]"),
        (
            {
                "type": "payment_method_update",
                "after_completion": {"type": "redirect"},
            },
            "flow_data[after_completion][redirect]",
        ),
    ],
)
def test_invalid_flow_is_refused(api, flow, param):
    configuration = configure(api, payment_method_update=ENABLED)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        create_session(api, configuration, flow_data=flow)

    assert caught.value.param == param


def test_flow_needs_its_feature(api):
    flow = {"type": "payment_method_update"}

    with pytest.raises(stripe.InvalidRequestError) as caught:
        create_session(api, configure(api), flow_data=flow)

    assert caught.value.param == "flow_data[type]"


def test_session_expires_unless_used(api, stripe_sandbox):
    configuration = configure(api)
    used, unused = (
        create_session(api, configuration),
        create_session(api, configuration),
    )

    def use_session(session):
        return run(stripe_sandbox, actions.use_session, token_of(session))

    stripe_sandbox.advance(actions.OPEN_TIMEOUT - 60)
    assert use_session(used)["id"] == used.id
    stripe_sandbox.advance(actions.IDLE_TIMEOUT - 60)
    assert use_session(used)["id"] == used.id
    with pytest.raises(actions.SessionExpired):
        use_session(unused)
    stripe_sandbox.advance(actions.IDLE_TIMEOUT + 5)
    with pytest.raises(actions.SessionExpired):
        use_session(used)
    with pytest.raises(actions.SessionExpired):
        run(stripe_sandbox, actions.use_session, "test_x")


def test_allowed_actions_follow_current_configuration(api, stripe_sandbox):
    configuration = configure(
        api,
        customer_update={"enabled": True, "allowed_updates": ["email"]},
        invoice_history=ENABLED,
    )
    session = record_of(stripe_sandbox, create_session(api, configuration))

    def is_enabled(feature):
        return run(stripe_sandbox, actions.is_enabled, session, feature)

    assert is_enabled("invoice_history") and not is_enabled("subscription_cancel")
    assert run(stripe_sandbox, actions.is_updatable, session, "email")
    assert not run(stripe_sandbox, actions.is_updatable, session, "name")
    api.v1.billing_portal.configurations.update(
        configuration.id,
        {"features": {"invoice_history": DISABLED, "customer_update": DISABLED}},
    )
    assert not is_enabled("invoice_history")
    assert not run(stripe_sandbox, actions.is_updatable, session, "email")


def test_sessions_and_configurations_survive_restart(tmp_path):
    state = tmp_path / "state.sqlite"
    app = StripeApp(state=state)
    api = in_process_client(app)
    session = create_session(api, configure(api))
    app.close()

    restarted = StripeApp(state=state)

    record = restarted.transact(
        lambda context: actions.use_session(context, token_of(session))
    )
    assert record["id"] == session.id
    restarted.close()
