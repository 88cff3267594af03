"""Fixtures: relays and a mail server on real sockets, and a Nostr user."""

from collections.abc import Iterator

import pytest

from caravel.nostr.relays.pool import close_pool
from sandbox.nostr import SandboxRelay, running_relay
from tenants.tests.support.mail_server import MailServer, running_mail_server
from tenants.tests.support.nostr_users import NostrUser


@pytest.fixture
def indexer(settings) -> Iterator[SandboxRelay]:
    """Relay where relay lists and profiles are looked up."""
    with running_relay() as relay:
        settings.ROBOT_INDEXER_RELAYS = [relay.url]
        settings.NOSTR_ALLOW_PRIVATE_RELAYS = True
        yield relay
        close_pool()


@pytest.fixture
def outbox(settings) -> Iterator[SandboxRelay]:
    """The robot's write relay."""
    with running_relay() as relay:
        settings.ROBOT_OUTBOX_RELAYS = [relay.url]
        settings.ROBOT_MESSAGING_RELAYS = [relay.url]
        yield relay
        close_pool()


@pytest.fixture
def inbox() -> Iterator[SandboxRelay]:
    """Relay where `ann` receives messages."""
    with running_relay() as relay:
        yield relay
        close_pool()


@pytest.fixture
def ann(indexer, outbox, inbox) -> NostrUser:
    """A Nostr user whose message relays (kind 10050) the indexer has."""
    ann = NostrUser()
    ann.reads_messages_at(inbox, announced_at=indexer)
    return ann


@pytest.fixture
def mail_server(settings) -> Iterator[MailServer]:
    with running_mail_server() as server:
        settings.EMAIL_ENABLED = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        yield server
