"""HTTP conventions that all Stripe endpoints share."""
