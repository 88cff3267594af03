"""Customer balance transactions."""
