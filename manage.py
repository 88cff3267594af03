#!/usr/bin/env python
"""Django's command line, on the embedded servers where no others are named."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")
    from django.core.management import execute_from_command_line

    from caravel import development

    development.start_embedded_servers()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
