"""Many tenants in sync, at Stripe and here, and the ways to compare them."""
