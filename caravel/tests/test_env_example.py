import re
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
# Read for development and tests only; an operator never sets them.
OURS = {"CARAVEL_ENV", "CARAVEL_VAR", "CARAVEL_QUIET"}


def names_read():
    source = (ROOT / "caravel" / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|_server_url|boolean)\(\s*"([A-Z_]+)"', source))
    beats = (entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values())
    return read | {f"BEAT_{task.rsplit('.', 1)[1].upper()}" for task in beats}


def test_the_example_documents_just_what_is_read():
    text = (ROOT / ".env.example").read_text()
    documented = set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))

    assert documented == names_read()
    assert not documented & OURS


def test_the_example_defaults_are_the_real_ones():
    text = (ROOT / ".env.example").read_text()
    written = dict(re.findall(r"^([A-Z_]+)=(\d+)$", text, re.MULTILINE))
    source = (ROOT / "caravel" / "settings.py").read_text()
    real = dict(re.findall(r'env\.integer\(\s*"([A-Z_]+)", (\d+)', source))
    beats = settings.CELERY_BEAT_SCHEDULE.values()
    real |= {
        f"BEAT_{beat['task'].rsplit('.', 1)[1].upper()}": str(beat["schedule"])
        for beat in beats
    }

    assert written == real
