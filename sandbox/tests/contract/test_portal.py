"""The billing portal: a page for cards and invoices, with nothing else switched on."""

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


def test_a_configuration_is_found_by_its_metadata(account):
    api = account.api.v1.billing_portal.configurations
    made = api.create({**CONFIGURATION, "metadata": {"caravel": "contract"}})

    found = {each.id: each.metadata for each in api.list({"limit": 100}).data}
    assert found[made.id]["caravel"] == "contract"


def test_a_configuration_is_switched_off_and_on_again(account):
    api = account.api.v1.billing_portal.configurations
    made = api.create(CONFIGURATION)
    on: stripe.params.billing_portal.ConfigurationUpdateParams = {
        "active": True,
        "features": {"invoice_history": {"enabled": False}},
    }

    assert not api.update(made.id, {"active": False}).active
    again = api.update(made.id, on)

    assert again.active
    assert again.features.payment_method_update.enabled
    assert not again.features.invoice_history.enabled


@pytest.mark.parametrize("wrong", ["inactive", "unknown"])
def test_a_configuration_of_no_use_is_named_by_the_refusal(account, wrong):
    api = account.api.v1.billing_portal
    payer, chosen = account.customer(), "bpc_unknown"
    if wrong == "inactive":
        chosen = api.configurations.create(CONFIGURATION).id
        api.configurations.update(chosen, {"active": False})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.sessions.create({"customer": payer.id, "configuration": chosen})

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


def test_a_session_for_one_thing_leads_back_when_it_is_done(account):
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
