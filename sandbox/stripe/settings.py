"""What the account is set to: the dashboard's switches, and the sandbox's own.

Kept as one record, so a restart keeps it, a snapshot holds it and a handler reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from sandbox.stripe.store import Store

KIND = "_settings"
Outcome = Literal["past_due", "unpaid", "canceled"]


class BadSetting(ValueError):
    """A setting that does not exist, or a value it cannot have."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`overdue_after_days` stands for the Automation without which Stripe never says
    that an invoice is overdue; None is no Automation.
    """

    #: What becomes of a subscription whose invoice failed for the last time.
    after_last_retry: Outcome = "past_due"
    #: When a failed automatic charge is tried again, in days after the one before.
    retry_after_days: tuple[int, ...] = (3, 5, 7)
    overdue_after_days: int | None = None
    #: Real seconds by which each answer of the API comes later.
    latency: float = 0
    #: API requests a (real) second that are not answered with a 429; None: all.
    rate_limit: int | None = None
    #: How many events and answers of idempotency keys are kept at most, the newest, so
    #: that memory is bounded though the clock stands still. Stripe has no such bound.
    keep_events: int = 10_000
    keep_answers: int = 10_000


DEFAULTS = Settings()


def read(store: Store) -> Settings:
    """Return the settings in force."""
    record = store.get(KIND, KIND)
    return Settings(**_from_json(record["settings"])) if record else DEFAULTS


def change(store: Store, changes: Mapping[str, Any]) -> Settings:
    """Change some settings; return all. Raises BadSetting."""
    changed = _settings({**asdict(read(store)), **changes})
    record = {"id": KIND, "object": KIND, "created": 0, "settings": asdict(changed)}
    store.put(KIND, record)
    return changed


def _from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "retry_after_days": tuple(values["retry_after_days"])}


def _settings(values: Mapping[str, Any]) -> Settings:
    unknown = sorted(values.keys() - {field.name for field in fields(Settings)})
    if unknown:
        raise BadSetting(f"no such setting: {', '.join(unknown)}")
    settings = replace(Settings(), **values)
    settings = replace(settings, retry_after_days=_days(settings.retry_after_days))
    for name, accepts in RULES.items():
        if not accepts(getattr(settings, name)):
            raise BadSetting(f"{name} cannot be {getattr(settings, name)!r}")
    return settings


def _days(given: Any) -> tuple[int, ...]:
    if not isinstance(given, list | tuple) or not all(_whole(day) for day in given):
        raise BadSetting("retry_after_days is a list of whole numbers from 1")
    return tuple(given)


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


RULES: Mapping[str, Callable[[Any], bool]] = {
    "after_last_retry": lambda value: value in ("past_due", "unpaid", "canceled"),
    "overdue_after_days": lambda value: value is None or _whole(value),
    "latency": lambda value: type(value) in (int, float) and value >= 0,
    "rate_limit": lambda value: value is None or _whole(value),
    "keep_events": lambda value: _whole(value),
    "keep_answers": lambda value: _whole(value),
}
