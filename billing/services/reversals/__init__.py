"""Money that was taken back: refunds, disputes and early fraud warnings (ADR 19).

Decides what of a dispute the tenant owes again, which cards are not charged any more,
and what support is told. It is read from Stripe by charge, and recorded in one place.
"""
