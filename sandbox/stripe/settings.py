"""Account settings: those of Stripe's dashboard, and the sandbox's own.

Stored as one record, so restarts and snapshots preserve them.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from sandbox.common.fields import BadField
from sandbox.stripe.store.records import Store

KIND = "_settings"
Outcome = Literal["past_due", "unpaid", "canceled"]


class BadSetting(BadField):
    """A setting is unknown or has an invalid value."""


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Settings of the account.

    `overdue_after_days` stands for an Automation in Stripe's dashboard: without one
    (None) Stripe sends no `invoice.overdue` event.
    """

    #: Status of a subscription after the last failed payment attempt.
    after_last_retry: Outcome = "past_due"
    #: Days between a failed automatic charge and the next attempt.
    retry_after_days: tuple[int, ...] = (3, 5, 7)
    overdue_after_days: int | None = None
    #: Real seconds by which every API response is delayed.
    latency: float = 0
    #: Maximum API requests per real second, above it 429; None: no limit.
    rate_limit: int | None = None
    #: Maximum number of events and of idempotent responses, the newest ones. Stripe has
    #: no such limit; it bounds memory while the clock does not move.
    keep_events: int = 10_000
    keep_answers: int = 10_000


DEFAULTS = AccountSettings()


def read(store: Store) -> AccountSettings:
    """Return the current settings."""
    record = store.get(KIND, KIND)
    if record is None:
        return DEFAULTS
    values = record["settings"]
    # A state file or snapshot has a list, since JSON has no tuples.
    retry_after_days = tuple(values["retry_after_days"])
    return AccountSettings(**{**values, "retry_after_days": retry_after_days})


def change(store: Store, changes: Mapping[str, Any]) -> AccountSettings:
    """Change some settings and return all. Raises BadSetting."""
    changed = _validated({**asdict(read(store)), **changes})
    record = {"id": KIND, "object": KIND, "created": 0, "settings": asdict(changed)}
    store.put(KIND, record)
    return changed


def _validated(values: Mapping[str, Any]) -> AccountSettings:
    unknown = sorted(values.keys() - {field.name for field in fields(AccountSettings)})
    if unknown:
        raise BadSetting(f"no such setting: {', '.join(unknown)}")
    settings = replace(AccountSettings(), **values)
    settings = replace(settings, retry_after_days=_days(settings.retry_after_days))
    for name, accepts in RULES.items():
        if not accepts(getattr(settings, name)):
            raise BadSetting(f"{name} cannot be {getattr(settings, name)!r}")
    return settings


def _days(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(map(_is_positive, value)):
        raise BadSetting("retry_after_days must be a list of whole numbers from 1")
    return tuple(value)


def _is_positive(value: Any) -> bool:
    return type(value) is int and value >= 1


RULES: Mapping[str, Callable[[Any], bool]] = {
    "after_last_retry": lambda value: value in ("past_due", "unpaid", "canceled"),
    "overdue_after_days": lambda value: value is None or _is_positive(value),
    "latency": lambda value: type(value) in (int, float) and value >= 0,
    "rate_limit": lambda value: value is None or _is_positive(value),
    "keep_events": _is_positive,
    "keep_answers": _is_positive,
}
