import re
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_VARIABLES = {"POSTGRES_PASSWORD", "VALKEY_PASSWORD"}
# For development and tests only, not for operators.
INTERNAL_VARIABLES = {"CARAVEL_ENV", "CARAVEL_VAR", "CARAVEL_QUIET"}


def names_in_settings():
    source = (ROOT / "caravel" / "settings.py").read_text()
    names = set(re.findall(r'(?:env\.\w+|_server_url|boolean)\(\s*"([A-Z_]+)"', source))
    return names | beat_periods().keys()


def beat_periods():
    """Return the default period of each periodic task by variable name."""
    return {
        f"BEAT_{str(entry['task']).rsplit('.', 1)[1].upper()}": str(entry["schedule"])
        for entry in settings.CELERY_BEAT_SCHEDULE.values()
    }


def test_example_documents_exactly_the_variables_in_settings():
    text = (ROOT / ".env.example").read_text()
    documented = set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))

    assert documented == names_in_settings() | COMPOSE_VARIABLES
    assert not documented & INTERNAL_VARIABLES


def test_integer_defaults_in_example_match_settings():
    text = (ROOT / ".env.example").read_text()
    written = dict(re.findall(r"^([A-Z_]+)=(\d+)$", text, re.MULTILINE))
    source = (ROOT / "caravel" / "settings.py").read_text()
    real = dict(re.findall(r'env\.integer\(\s*"([A-Z_]+)", (\d+)', source))

    assert written == real | beat_periods()
