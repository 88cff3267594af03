"""Discounts: redeemed coupons."""
