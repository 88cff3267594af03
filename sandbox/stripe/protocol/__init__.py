"""The HTTP conventions that every Stripe endpoint shares."""
