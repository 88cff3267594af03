"""The billing portal: a page for cards and invoices, with nothing else switched on."""

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


def test_a_configuration_keeps_its_switches(account):
    made = account.api.v1.billing_portal.configurations.create(CONFIGURATION)

    found = account.api.v1.billing_portal.configurations.retrieve(made.id)
    features = found.features
    assert features.payment_method_update.enabled
    assert features.invoice_history.enabled
    assert not features.subscription_cancel.enabled
    assert not features.subscription_update.enabled


def test_a_session_is_a_link_for_one_customer(account):
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
