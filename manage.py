#!/usr/bin/env python
"""Django's command line, on the embedded servers where no others are named."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from caravel import development
from caravel.embedded import EmbeddedError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")
    try:
        development.start_embedded_servers()
    except (ImproperlyConfigured, EmbeddedError) as exc:
        sys.exit(str(exc))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
