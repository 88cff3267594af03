"""Formatting of times, counts and statuses; filters of all templates."""

from datetime import UTC, datetime

from markupsafe import Markup

# The last second of year 9999; `datetime` accepts no later one.
MAX_TIMESTAMP = 253_402_300_799
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
NOTHING = Markup('<span class="nothing">–</span>')
# Colour of a status by how much attention it needs.
TONES = {
    "good": ("active", "paid", "succeeded", "enabled", "trialing"),
    "warn": ("open", "incomplete"),
    "bad": ("past_due", "unpaid", "uncollectible"),
}


def moment(at: int | None) -> Markup:
    """Return a time in UTC, to the second."""
    if at is None:
        return NOTHING
    if not is_date(at):
        return Markup("<span>{}</span>").format(at)
    when = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        when.isoformat(), f"{when:%Y-%m-%d %H:%M:%S}"
    )


def day(at: int) -> Markup:
    """Return the date of a time: `3 Feb 2027`."""
    if not is_date(at):
        return Markup("<span>{}</span>").format(at)
    when = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{when:%Y-%m-%d}", f"{when.day} {when:%b %Y}"
    )


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


def badge(word: str) -> Markup:
    """Return a coloured status."""
    tone = next((tone for tone in TONES if word in TONES[tone]), "plain")
    html = Markup('<span class="badge {}">{}</span>')
    return html.format(tone, word.replace("_", " "))


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 line`, `2 lines`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
