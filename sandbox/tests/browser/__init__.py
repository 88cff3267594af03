"""Tests of the sandbox's pages in a real browser."""
