"""The only code that talks to Stripe: calls, timeouts, retries, error translation.

Returns frozen dataclasses; knows no models and decides nothing about billing.
"""
