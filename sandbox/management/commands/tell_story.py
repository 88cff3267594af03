import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sandbox import story
from sandbox.readiness import NotReady, answers, wait_until


class Command(BaseCommand):
    help = (
        "The demo: change relays of several tenants, see that Stripe follows, be paid."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            self._tell()
        except NotReady as exc:
            raise CommandError(str(exc)) from exc
        self._judge(list(story.compare_all()), story.tally())
        self.stdout.write(f"All agree, after {time.monotonic() - started:.1f} s.")

    def _tell(self) -> None:
        ready = f"{settings.APP_URL}/readyz"
        wait_until(lambda: answers(ready), seconds=60, what="the web's first answer")
        self._act("Six tenants arrive, with ten relays between them", story.create_cast)
        self._act("Alice moves up from Basic to Growth", lambda: story.upgrade("Alice"))
        self._act("Carol switches her relay off", lambda: story.switch_off("Carol"))
        self._act(
            "Frank changes his mind 50 times in a burst",
            lambda: story.change_a_lot("Frank"),
        )
        story.connect_wallet_of("Dave")
        self._pay("Dave's wallet is asked for $5", lambda: story.ask_wallet_of("Dave"))

    def _act(self, sentence: str, act: Callable[[], object]) -> None:
        self._time(sentence, act, story.is_quiet, "in step")

    def _pay(self, sentence: str, act: Callable[[], object]) -> None:
        self._time(sentence, act, story.wallets_have_answered, "settled")

    def _time(
        self,
        sentence: str,
        act: Callable[[], object],
        is_done: Callable[[], bool],
        outcome: str,
    ) -> None:
        self.stdout.write(f"{sentence}…", ending=" ")
        self.stdout.flush()
        started = time.monotonic()
        act()
        wait_until(is_done, seconds=60, what=f"“{outcome}”")
        self.stdout.write(f"{outcome} after {time.monotonic() - started:.1f} s")

    def _judge(self, rows: list[story.Row], tally: story.Tally) -> None:
        self._table(rows)
        prices = {plan for row in rows for plan in row.here}
        self.stdout.write(
            f"{len(rows)} tenants, {len(prices)} prices, {tally.events} events "
            f"({tally.handled} of a kind that we act on), {tally.upgrades} upgrades, "
            f"{tally.cancellations} cancellations, {tally.payments} Lightning payments"
        )
        wanted = (
            ("tenants", len(rows), 5),
            ("prices", len(prices), 2),
            ("events", tally.events, 20),
            ("upgrades", tally.upgrades, 1),
            ("cancellations", tally.cancellations, 1),
            ("Lightning payments", tally.payments, 1),
        )
        faults = [f"{row.name} differs from Stripe" for row in rows if not row.agrees]
        faults += [
            f"{found} {what} where {least} are wanted"
            for what, found, least in wanted
            if found < least
        ]
        if faults:
            raise CommandError("; ".join(faults))

    def _table(self, rows: Iterable[story.Row]) -> None:
        layout = "  {:<7} {:<39} {:<17} {:>6}  {}"
        head = layout.format("tenant", "relays here", "items in Stripe", "events", "")
        self.stdout.write(f"\n{head}")
        for row in rows:
            items = " and ".join(map(_counts, row.at_stripe)) or "–"
            verdict = "ok" if row.agrees else "DIFFERS"
            relays = _counts(row.relays)
            self.stdout.write(
                layout.format(row.name, relays, items, row.events, verdict)
            )
        self.stdout.write("")


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(counted.items())) or "–"
