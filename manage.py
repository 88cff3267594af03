#!/usr/bin/env python
"""Django's command line. Starts the embedded servers unless others are configured."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from caravel import dev_defaults
from caravel.embedded import EmbeddedError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")
    if sys.argv[1:2] == ["sandbox"]:
        # The sandbox needs no servers, and no settings beyond the defaults.
        os.environ.setdefault("DEBUG", "true")
        os.environ.setdefault("CARAVEL_QUIET", "true")
        execute_from_command_line(sys.argv)
        return
    try:
        dev_defaults.start_embedded_servers()
    except (ImproperlyConfigured, EmbeddedError) as exc:
        sys.exit(str(exc))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
