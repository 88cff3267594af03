"""The account's time and the timers that depend on it."""
