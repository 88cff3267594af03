"""Formatting of times, amounts and ids."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sandbox.common.html.elements import Html, tag
from sandbox.stripe.money import currencies
from sandbox.stripe.pages.dashboard.query import View

# The last second of year 9999. The API accepts later timestamps, `datetime` does not.
MAX_TIMESTAMP = 253_402_300_799
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
NOTHING = tag("span", "–", class_="nothing")
# Colour of a status by how much attention it needs.
TONES = {
    "active": "good",
    "paid": "good",
    "succeeded": "good",
    "enabled": "good",
    "trialing": "good",
    "open": "warn",
    "incomplete": "warn",
    "past_due": "bad",
    "unpaid": "bad",
    "uncollectible": "bad",
}


def moment(at: int | None) -> Html:
    """Return a time in UTC, to the second."""
    if at is None:
        return NOTHING
    if not is_date(at):
        return tag("span", at)
    when = datetime.fromtimestamp(at, UTC)
    return tag("time", f"{when:%Y-%m-%d %H:%M:%S}", datetime=when.isoformat())


def day(at: int) -> Html:
    """Return the date of a time: `3 Feb 2027`."""
    if not is_date(at):
        return tag("span", at)
    when = datetime.fromtimestamp(at, UTC)
    return tag("time", f"{when.day} {when:%b %Y}", datetime=f"{when:%Y-%m-%d}")


def long_moment(at: int) -> str:
    """Return a time with its weekday: `Wed 3 Feb 2027, 14:05:00`."""
    if not is_date(at):
        return f"{at} seconds after 1970"
    when = datetime.fromtimestamp(at, UTC)
    return f"{when:%a} {when.day} {when:%b %Y, %H:%M:%S}"


def is_date(at: int) -> bool:
    """Return whether a timestamp is in the range of `datetime`."""
    return 0 <= at <= MAX_TIMESTAMP


def duration(seconds: int) -> str:
    """Return a duration in its two largest units: `31 days 2 hours`."""
    parts = []
    for name, size in UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return " ".join(parts[:2]) or "0 seconds"


def money(amount: int, currency: str | None) -> str:
    """Return an amount with a leading sign: `-$5.00`."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{currencies.text(abs(amount), currency or 'usd')}"


def balance(customer: Mapping[str, Any]) -> Html:
    """Return a customer balance as credit or debt; at Stripe credit is negative."""
    amount = customer["balance"]
    if amount == 0:
        return NOTHING
    word, tone = ("credit", "good") if amount < 0 else ("owes", "warn")
    return tag(
        "span", f"{word} {money(abs(amount), customer['currency'])}", class_=tone
    )


def badge(word: str) -> Html:
    """Return a coloured status."""
    return tag(
        "span", word.replace("_", " "), class_=f"badge {TONES.get(word, 'plain')}"
    )


def object_link(id: str, label: str | None = None) -> Html:
    """Return a link to an object's own page."""
    return tag("a", label or id, href=View(id=id).url(), class_=None if label else "id")


def metadata(pairs: Mapping[str, str]) -> Html:
    """Return metadata as a list of keys and values; CSS shortens long values."""
    if not pairs:
        return NOTHING
    items = [
        tag("li", tag("span", f"{key} ", class_="key"), tag("span", value, title=value))
        for key, value in pairs.items()
    ]
    return tag("ul", items, class_="metadata")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 line`, `2 lines`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
