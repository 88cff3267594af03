"""Random edits at both ends, debts and payments: nobody's words are overwritten."""

import random
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from caravel.tests.support.search import IS_LARGE, examples
from relays.models import Relay
from relays.services.lifecycle import (
    mark_relay_delinquent,
    reactivate_relay,
    update_relay,
)
from relays.services.provisioning.configuration import WORDS
from relays.services.provisioning.payment_prompt import (
    count_prompts,
    is_due,
    remove_prompts,
)
from relays.services.provisioning.sync import SyncOutcome
from relays.tests.support.owner import edit, served_relay, set_past_due

pytestmark = [pytest.mark.search, pytest.mark.django_db]

SEEDS = [
    random.SystemRandom().getrandbits(32) if IS_LARGE else seed
    for seed in range(examples(6))
]
STEPS = 25


class History:
    """Random steps on one relay, and who has changed which word since the last sync."""

    def __init__(self, provisioning, relay, seed) -> None:
        self.provisioning = provisioning
        self.pk = relay.pk
        self.random = random.Random(seed)
        self.now = timezone.now()
        self.changed_here: set[str] = set()
        self.count = 0

    @property
    def relay(self) -> Relay:
        found: Relay = Relay.objects.select_related("tenant", "plan").get(pk=self.pk)
        return found

    def run(self) -> None:
        steps = [
            *([self.edit_at_relay] * 3),
            *([self.sync] * 3),
            *(self.edit_here, self.fall_due, self.pay, self.probe, self.suspend),
        ]
        for _ in range(STEPS):
            self.at_next_moment(self.random.choice(steps))
        self.at_next_moment(self.pay)
        for _ in range(2):
            self.at_next_moment(self.sync)
        assert self.words_at_relay()["description"] == self.shown().description

    def at_next_moment(self, step) -> None:
        self.now += timedelta(minutes=20)
        with time_machine.travel(self.now):
            step()
        assert "relay-payment" not in self.relay.description

    def text(self, field) -> str:
        """Return a new text; at a relay some are longer than a row can hold."""
        self.count += 1
        length = self.random.choice([0, 0, 0, 120, 1_500])
        text = f"{field} {self.count}{' and more' * (length // 9)}"
        return f"https://x.example/{self.count}" if field == "icon" else text

    def edit_here(self) -> None:
        field = self.random.choice(WORDS)
        limit = {"name": 100, "description": 1000}.get(field, 500)
        update_relay(relay_id=self.pk, **{field: self.text(field)[:limit].strip()})
        self.changed_here.add(field)

    def edit_at_relay(self) -> None:
        if self.shown() is None:
            return
        field = self.random.choice([*WORDS, "description"])
        text = self.text(field)
        if field == "description":
            text = self.around_prompt(text)
        edit(self.provisioning, self.relay, field, text)

    def around_prompt(self, text) -> str:
        """Return a description as the owner may leave it while there is a prompt."""
        before = self.shown().description
        relay = self.relay
        prompt = before.removeprefix(remove_prompts(before, relay)).strip()
        forms = [text, f"{text}\n\n{prompt}", f"{prompt} {text}"]
        forms.append(f"{text}\n{prompt}\n\n{prompt}")
        return str(
            self.random.choice(forms if count_prompts(before, relay) else [text])
        )

    def fall_due(self) -> None:
        if self.relay.tenant.past_due_at is None:
            set_past_due(self.relay, timezone.now())

    def pay(self) -> None:
        set_past_due(self.relay, None)
        if self.relay.status == Relay.Status.DELINQUENT:
            reactivate_relay(relay_id=self.pk)

    def suspend(self) -> None:
        if self.relay.tenant.past_due_at and self.relay.status == Relay.Status.ACTIVE:
            mark_relay_delinquent(relay_id=self.pk)

    def probe(self) -> None:
        before = self.words_at_relay()
        self.provisioning.probe(self.relay)
        assert self.words_at_relay() == before

    def sync(self) -> None:
        before = self.words_at_relay()
        outcome = self.provisioning.sync(self.relay)
        if outcome == SyncOutcome.NOT_DUE:
            return
        assert outcome == SyncOutcome.IN_SYNC
        after = self.words_at_relay()
        if before and after:
            for word in {*WORDS} - self.changed_here:
                assert after[word] == before[word]
        if after:
            relay = self.relay
            prompts = count_prompts(self.shown().description, relay)
            assert prompts == is_due(relay)
            for word in self.changed_here:
                assert after[word] == getattr(relay, word)
        self.changed_here.clear()

    def shown(self):
        return self.provisioning.document(self.relay)

    def words_at_relay(self) -> dict[str, str]:
        """Return the words at the relay without the prompt; none if it is dark."""
        document = self.shown()
        if document is None:
            return {}
        shown = {word: getattr(document, word) for word in WORDS}
        words = remove_prompts(document.description, self.relay)
        return shown | {"description": words}


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_words_are_overwritten_only_by_later_ones_of_ours(provisioning, settings, seed):
    settings.RELAY_PAYMENT_PROMPT = True
    History(provisioning, served_relay(provisioning), seed).run()
