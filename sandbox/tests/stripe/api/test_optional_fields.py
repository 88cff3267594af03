"""The list of optional fields fits stripe-python, and the checks use it."""

import pytest
import stripe

from sandbox.stripe import API_VERSION
from sandbox.tests.support.stripe import optional_fields
from sandbox.tests.support.stripe.optional_fields.generate import sent_classes
from sandbox.tests.support.stripe.types import problems, resolved

ISSUER = stripe.Invoice.Issuer
TRANSITIONS = stripe.InvoicePayment.StatusTransitions
INVOICE_LINE = stripe.InvoiceLineItem.Pricing


def test_the_list_is_of_the_pinned_api_version():
    assert optional_fields.api_version() == API_VERSION


def test_each_field_of_the_list_is_optional_in_stripe_python():
    classes = {optional_fields.key(cls): cls for cls in sent_classes()}

    wrong = [
        f"{name}.{field}"
        for name, fields in optional_fields.read().items()
        for field in fields
        if not optional_fields.is_optional(resolved(classes[name]).get(field))
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("cls", "value", "expected"),
    [
        (ISSUER, {"type": "self"}, []),
        (ISSUER, {"type": "self", "account": None}, ["x.account: null"]),
        (ISSUER, {}, ["x.type: absent"]),
        (TRANSITIONS, {"canceled_at": None, "paid_at": None}, []),
        (TRANSITIONS, {"canceled_at": None}, ["x.paid_at: absent"]),
        (
            INVOICE_LINE,
            {"type": None},
            ["x.type: null", "x.unit_amount_decimal: absent"],
        ),
    ],
)
def test_absent_and_null_fields_are_told_apart(cls, value, expected):
    assert problems(cls, value, "x") == expected
