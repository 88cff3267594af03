import re
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
# Read for development and tests only; an operator never sets them.
COMPOSE = {"POSTGRES_PASSWORD"}
OURS = {"CARAVEL_ENV", "CARAVEL_VAR", "CARAVEL_QUIET"}


def names_read():
    source = (ROOT / "caravel" / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|_server_url|boolean)\(\s*"([A-Z_]+)"', source))
    return read | beats().keys()


def beats():
    """The period of each beat, by the name of its variable."""
    return {
        f"BEAT_{str(entry['task']).rsplit('.', 1)[1].upper()}": str(entry["schedule"])
        for entry in settings.CELERY_BEAT_SCHEDULE.values()
    }


def test_the_example_documents_just_what_is_read():
    text = (ROOT / ".env.example").read_text()
    documented = set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))

    assert documented == names_read() | COMPOSE
    assert not documented & OURS


def test_the_example_defaults_are_the_real_ones():
    text = (ROOT / ".env.example").read_text()
    written = dict(re.findall(r"^([A-Z_]+)=(\d+)$", text, re.MULTILINE))
    source = (ROOT / "caravel" / "settings.py").read_text()
    real = dict(re.findall(r'env\.integer\(\s*"([A-Z_]+)", (\d+)', source))

    assert written == real | beats()
