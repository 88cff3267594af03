"""Django's page about an exception, without secrets."""

from typing import Any

from django.views.debug import SafeExceptionReporterFilter

from caravel.core.redaction import redact


class RedactingFilter(SafeExceptionReporterFilter):
    """Filter that masks secrets by their value as well.

    Django masks a setting by its name, but not EMAIL_URL, REDIS_URL or ROBOT_WALLETS.
    """

    def cleanse_setting(self, key: str | int, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return redact(cleansed) if isinstance(cleansed, str) else cleansed
