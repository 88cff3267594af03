"""Test helpers: a mail server and Nostr users."""
