"""Sizes and limits of the benchmark of reconciliation."""

#: Seconds of each answer of Stripe.
LATENCY = 0.12
SIZES = (1_000, 10_000, 50_000, 200_000)
DRIFTED_EVERY = 100
#: How many times faster than the seed's way; larger sizes are not compared with it.
MIN_SPEEDUP = {1_000: 5.0, 10_000: 50.0}
#: Tenants measured in the seed's way, by the number of all.
SAMPLE = {1_000: 40, 10_000: 200}
#: How much more memory the most tenants may need than the fewest, in megabytes.
MAX_GROWTH = 64.0
#: Requests to Stripe per second in live mode, and those to one endpoint:
#: https://docs.stripe.com/rate-limits
RATE, ENDPOINT_RATE = 100, 25
#: Titles of the plots.
DURATION = "Duration, s, by tenants"
MEMORY = "Memory, MB, by tenants"
