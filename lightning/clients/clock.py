"""The tolerated difference between our clock and that of a wallet."""

from datetime import timedelta

#: Either may be ahead. For all that a wallet dates, or compares with its clock.
CLOCK_TOLERANCE = timedelta(seconds=120)
