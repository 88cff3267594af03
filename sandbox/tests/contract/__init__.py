"""What we rely on of Stripe, as tests that any Stripe must pass.

They run against the sandbox always, and against a real test account when
STRIPE_TEST_SECRET_KEY is set: `make contract`. docs/stripe.md lists them.
"""
