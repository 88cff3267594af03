"""Memory that processes share: they load modules before they fork."""

import subprocess
import sys

import pytest

WORKER = """
from celery.signals import worker_init
from caravel.celery import app
app.loader.import_default_modules()
worker_init.send(sender=None)
"""
WEB = "import caravel.wsgi"
SHOW = """
import gc, sys
print("caravel.urls" in sys.modules, gc.get_freeze_count() > 100_000)
print("fpdf" in sys.modules)
"""


@pytest.mark.django_db
@pytest.mark.parametrize("script", [WORKER, WEB], ids=["worker", "web"])
def test_process_loads_views_but_no_fonts_and_freezes_its_memory(script):
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script + SHOW],
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown.stdout.splitlines()[-2:] == ["True True", "False"]
