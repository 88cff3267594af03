"""Coupons (docs: API reference, Coupons)."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders


def test_a_coupon_is_created_listed_and_deleted(api):
    coupon = builders.coupon(api, id="HALF", name="Half", metadata={"a": "b"})

    listed = api.v1.coupons.list().data
    deleted = api.v1.coupons.delete("HALF")

    assert [entry.id for entry in listed] == ["HALF"]
    assert (coupon.percent_off, coupon.amount_off, coupon.valid) == (50, None, True)
    assert deleted.deleted
    assert api.v1.coupons.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such coupon"):
        api.v1.coupons.retrieve("HALF")
    assert builders.event_types(api) == ["coupon.created", "coupon.deleted"]


def test_the_name_of_a_coupon_can_change(api):
    coupon = builders.coupon(api)

    renamed = api.v1.coupons.update(coupon.id, {"name": "Friends"})

    assert renamed.name == "Friends"
    assert builders.event_types(api)[-1] == "coupon.updated"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"percent_off": 10, "amount_off": 100, "currency": "usd"},
        {"amount_off": 100},
        {"percent_off": 0},
        {"percent_off": 100.5},
        {"percent_off": 10, "duration": "repeating"},
        {"percent_off": 10, "duration": "once", "duration_in_months": 2},
    ],
)
def test_contradictory_coupons_are_refused(api, params):
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.coupons.create(params)


def test_an_id_is_used_once(api):
    builders.coupon(api, id="HALF")

    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        builders.coupon(api, id="HALF")


def test_a_used_up_coupon_is_refused(api):
    coupon = builders.coupon(api, max_redemptions=1)
    builders.subscription(api, discounts=[{"coupon": coupon.id}])

    used_up = api.v1.coupons.retrieve(coupon.id)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        builders.subscription(api, discounts=[{"coupon": coupon.id}])

    assert (used_up.times_redeemed, used_up.valid) == (1, False)
    assert caught.value.code == "coupon_expired"


def test_a_coupon_cannot_be_redeemed_after_its_date(api, stripe_sandbox):
    coupon = builders.coupon(api, redeem_by=stripe_sandbox.now() + 60)
    stripe_sandbox.advance(61)

    with pytest.raises(stripe.InvalidRequestError, match="expired"):
        builders.subscription(api, discounts=[{"coupon": coupon.id}])


def test_a_coupon_in_another_currency_is_refused(api):
    coupon = builders.coupon(api, amount_off=100, currency="eur")

    with pytest.raises(stripe.InvalidRequestError, match="eur"):
        builders.subscription(api, discounts=[{"coupon": coupon.id}])


def test_the_discounts_of_a_deleted_coupon_go_on(api, stripe_sandbox):
    coupon = builders.coupon(api)
    subscription = builders.subscription(api, discounts=[{"coupon": coupon.id}])

    api.v1.coupons.delete(coupon.id)
    stripe_sandbox.advance(32 * builders.DAY)

    assert builders.newest_invoice(api, subscription).total == 500
