"""Fixtures for the tests of wallets."""

from sandbox.tests.support.nostr_fixtures import alice, platform, relay, wallets

__all__ = ["alice", "platform", "relay", "wallets"]
