"""Private messages (NIP-17), opened and wrapped by nostr-tools and NDK."""

import json

import pytest
from nostr_sdk import Event as SdkEvent
from nostr_sdk import Keys, UnwrappedGift

from caravel.nostr.encryption import Scheme, decrypt
from caravel.nostr.events import parse_event
from caravel.nostr.keys import generate_secret_key, pubkey_of
from caravel.nostr.private_messages import GIFT_WRAP, MESSAGE, SEAL, wrap_message
from interop.tests.support.scripts import ScriptError, running_script

pytestmark = pytest.mark.interop

ROBOT, TENANT = generate_secret_key(), generate_secret_key()
TEXT = 'Two lines,\n"quoted" — ₿ \\ 🙂 \u2028 \x00 </script>'


@pytest.fixture(params=["nostr_tools.mjs", "ndk_messages.mjs"])
def library(request):
    return running_script(request.param)


def test_message_of_ours_is_opened(library):
    wrap = wrap_message(ROBOT, pubkey_of(TENANT), TEXT)

    message = library.call("open_message", secret=TENANT, wrap=wrap.to_dict())

    assert message["content"] == TEXT
    assert message["pubkey"] == pubkey_of(ROBOT)
    assert message["kind"] == MESSAGE
    assert message["tags"] == [["p", pubkey_of(TENANT)]]


def test_message_to_another_is_not_opened(library):
    wrap = wrap_message(ROBOT, pubkey_of(generate_secret_key()), TEXT)

    with pytest.raises(ScriptError, match=r"MAC|unwrapping"):
        library.call("open_message", secret=TENANT, wrap=wrap.to_dict())


def test_message_of_the_library_has_the_form_of_ours(library):
    wrap = library.call(
        "wrap_message", secret=TENANT, pubkey=pubkey_of(ROBOT), text=TEXT
    )

    event = parse_event(wrap)
    seal = parse_event(
        json.loads(decrypt(Scheme.NIP44, ROBOT, event.pubkey, event.content))
    )
    message = json.loads(decrypt(Scheme.NIP44, ROBOT, seal.pubkey, seal.content))
    assert (event.kind, seal.kind, message["kind"]) == (GIFT_WRAP, SEAL, MESSAGE)
    assert event.values("p") == [pubkey_of(ROBOT)]
    assert (seal.pubkey, message["pubkey"]) == (pubkey_of(TENANT),) * 2
    assert message["content"] == TEXT
    gift = UnwrappedGift.from_gift_wrap(
        Keys.parse(ROBOT), SdkEvent.from_json(event.to_json())
    )
    assert gift.rumor().content() == TEXT
