"""Account settings: those of Stripe's dashboard, and the sandbox's own.

Stored as one record, so restarts and snapshots preserve them.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
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

    #: Status of a subscription after a failed automatic charge, as there are no
    #: retries, or 30 days after the due date.
    after_last_retry: Outcome = "past_due"
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
    return AccountSettings(**record["settings"]) if record else DEFAULTS


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
    settings = AccountSettings(**values)
    for name, accepts in RULES.items():
        if not accepts(getattr(settings, name)):
            raise BadSetting(f"{name} cannot be {getattr(settings, name)!r}")
    return settings


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
