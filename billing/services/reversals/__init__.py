"""Money that was taken back: refunds, disputes and early fraud warnings (ADR 19).

Decides how much of a dispute the tenant owes again, which cards are not charged any
more, and when support is alerted. Reversals are read from Stripe by charge, and
recorded by one module.
"""
