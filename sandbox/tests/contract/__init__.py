"""Contract tests: the behaviour of Stripe that Caravel relies on.

They always run against the sandbox, and also against a real test account if
STRIPE_TEST_SECRET_KEY is set (`make contract`). docs/stripe.md lists them.
"""
