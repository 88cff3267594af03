"""Messages to a person whose relays and library are foreign."""

import json

import pytest

from caravel.nostr.keys import generate_secret_key, pubkey_of
from caravel.nostr.private_messages import GIFT_WRAP, wrap_message
from caravel.nostr.relay_lists import MESSAGE_RELAYS
from caravel.nostr.relays.pool import close_pool
from interop.tests.support.counterparts import RELAYS
from interop.tests.support.known_faults import UNTESTABLE
from interop.tests.support.scripts import running_script
from tenants.services.direct_messages import send_message

WORKING = [each for each in RELAYS if str(each) not in UNTESTABLE]
pytestmark = [
    pytest.mark.interop,
    pytest.mark.django_db,
    pytest.mark.counterparts(WORKING),
]


@pytest.fixture
def robot(relay, settings):
    """The robot's key; the relay is the only one that is asked for lists."""
    settings.NOSTR_ALLOW_PRIVATE_RELAYS = True
    settings.ROBOT_INDEXER_RELAYS = settings.ROBOT_OUTBOX_RELAYS = [relay.url]
    settings.ROBOT_SECRET = generate_secret_key()
    yield settings.ROBOT_SECRET
    close_pool()


def test_message_reaches_the_relay_of_the_persons_list(relay, robot):
    person, library = generate_secret_key(), running_script("nostr_tools.mjs")
    library.call(
        "publish",
        secret=person,
        relay=relay.url,
        kind=MESSAGE_RELAYS,
        content="",
        tags=[["relay", relay.url]],
    )
    wrap = wrap_message(robot, pubkey_of(person), "Caravel")

    report = send_message(
        json.loads(wrap.to_json()),
        pubkey_of(person),
        failures=0,
        is_wanted=lambda: True,
    )

    received = library.call(
        "fetch",
        secret=person,
        relay=relay.url,
        filter={"kinds": [GIFT_WRAP], "#p": [pubkey_of(person)]},
    )
    (message,) = [
        library.call("open_message", secret=person, wrap=each) for each in received
    ]
    assert message["content"] == "Caravel"
    assert report is not None
    assert report.note == ""
