"""The billing portal: configurations with only cards and invoices, and sessions."""

import pytest
import stripe

CONFIGURATION: stripe.params.billing_portal.ConfigurationCreateParams = {
    "features": {
        "customer_update": {"enabled": False},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": False},
        "subscription_update": {"enabled": False},
    },
}


def test_a_configuration_keeps_its_features(account):
    created = account.api.v1.billing_portal.configurations.create(CONFIGURATION)

    retrieved = account.api.v1.billing_portal.configurations.retrieve(created.id)
    features = retrieved.features
    assert features.payment_method_update.enabled
    assert features.invoice_history.enabled
    assert not features.subscription_cancel.enabled
    assert not features.subscription_update.enabled


def test_a_session_has_a_url_for_one_customer(account):
    payer = account.customer()
    configuration = account.api.v1.billing_portal.configurations.create(CONFIGURATION)

    session = account.api.v1.billing_portal.sessions.create(
        {
            "customer": payer.id,
            "configuration": configuration.id,
            "return_url": "https://example.com/back",
        }
    )

    assert session.customer == payer.id
    assert session.url.startswith("http")


def test_a_configuration_is_listed_with_its_metadata(account):
    api = account.api.v1.billing_portal.configurations
    created = api.create({**CONFIGURATION, "metadata": {"caravel": "contract"}})

    page = api.list({"limit": 100})
    metadata = {configuration.id: configuration.metadata for configuration in page.data}
    assert metadata[created.id]["caravel"] == "contract"


def test_a_configuration_can_be_deactivated_and_reactivated(account):
    api = account.api.v1.billing_portal.configurations
    created = api.create(CONFIGURATION)
    reactivation: stripe.params.billing_portal.ConfigurationUpdateParams = {
        "active": True,
        "features": {"invoice_history": {"enabled": False}},
    }

    assert not api.update(created.id, {"active": False}).active
    reactivated = api.update(created.id, reactivation)

    assert reactivated.active
    assert reactivated.features.payment_method_update.enabled
    assert not reactivated.features.invoice_history.enabled


@pytest.mark.parametrize("state", ["inactive", "unknown"])
def test_an_unusable_configuration_is_named_in_the_error(account, state):
    api = account.api.v1.billing_portal
    payer, id = account.customer(), "bpc_unknown"
    if state == "inactive":
        id = api.configurations.create(CONFIGURATION).id
        api.configurations.update(id, {"active": False})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.sessions.create({"customer": payer.id, "configuration": id})

    assert refused.value.param == "configuration"


def test_a_session_of_a_deleted_customer_is_refused(account):
    payer = account.customer()
    configuration = account.api.v1.billing_portal.configurations.create(CONFIGURATION)
    account.api.v1.customers.delete(payer.id)

    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.billing_portal.sessions.create(
            {"customer": payer.id, "configuration": configuration.id}
        )

    assert refused.value.param == "customer"


def test_a_session_with_a_flow_redirects_after_completion(account):
    payer = account.customer()
    configuration = account.api.v1.billing_portal.configurations.create(CONFIGURATION)

    session = account.api.v1.billing_portal.sessions.create(
        {
            "customer": payer.id,
            "configuration": configuration.id,
            "flow_data": {
                "type": "payment_method_update",
                "after_completion": {
                    "type": "redirect",
                    "redirect": {"return_url": "https://example.com/back"},
                },
            },
        }
    )

    assert session.flow.type == "payment_method_update"
    assert session.flow.after_completion.redirect.return_url.endswith("/back")
