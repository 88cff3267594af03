import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from caravel import dev_defaults
from caravel.environment import Environment

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "SECRET_KEY": "only-for-tests-" * 4,
    "ALLOWED_HOSTS": "caravel.example",
    "APP_URL": "https://caravel.example",
    "DATABASE_URL": "postgres://caravel:pw@db.example/caravel",
    "REDIS_URL": "redis://redis.example/0",
    "ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "STRIPE_SECRET_KEY": "sk_test_example",
    "BILLING_EMAIL_DOMAIN": "mail.example",
    "RELAY_DOMAIN": "relays.example",
    "ZOOID_API_URL": "https://zooid.example",
    "ROBOT_WALLET": "nostr+walletconnect://pubkey?relay=wss://r.example&secret=ab",
    "ROBOT_SECRET": "0" * 63 + "1",
    "ROBOT_OUTBOX_RELAYS": "wss://relay.example",
}

#: The first has two relays in one parameter.
WALLETS = [
    "nostr+walletconnect://a?relay=wss://r.example,wss://s.example&secret=ab",
    "nostrwalletconnect:b?relay=wss://r.example&secret=cd",
]

#: Name, value, and a part of the error message.
MALFORMED = [
    ("DATABASE_URL", "sqlite:///x.db", "DATABASE_URL must begin with postgres://"),
    ("APP_URL", "caravel.example", "APP_URL must be an http(s) URL"),
    ("APP_URL", "https://caravel.example/app", "APP_URL is malformed"),
    ("STRIPE_SECRET_KEY", "pk_test_1", "STRIPE_SECRET_KEY is malformed"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_a,b", "STRIPE_WEBHOOK_SECRET is malformed"),
    ("REDIS_URL", "http://x", "REDIS_URL is malformed"),
    ("RELAY_DOMAIN", "https://x.example", "RELAY_DOMAIN is malformed"),
    ("BILLING_EMAIL_DOMAIN", "a@b.example", "BILLING_EMAIL_DOMAIN is malformed"),
    ("ZOOID_API_URL", "zooid", "ZOOID_API_URL must be an http(s) URL"),
    ("ZOOID_API_URL", "https://a.example/b", "ZOOID_API_URL is malformed"),
    ("ZOOID_API_URL", "https://a@b.example", "ZOOID_API_URL is malformed"),
    ("LOG_LEVEL", "loud", "LOG_LEVEL is malformed"),
    ("ENCRYPTION_KEYS", "no-key", "ENCRYPTION_KEYS contains a value that is not"),
    ("BTC_PRICE_URLS", "https://a.example/#/p", "BTC_PRICE_URLS is malformed"),
    (
        "BTC_PRICE_URLS",
        "https://a.example/{currency}#/p,http://b.example/{currency}#/p",
        "BTC_PRICE_URLS is malformed",
    ),
    (
        "BTC_PRICE_URLS",
        "https://a.example/{currency}#/p,https://b.example/{currency}",
        "BTC_PRICE_URLS is malformed",
    ),
    (
        "BTC_PRICE_URLS",
        "https://a.example/{currency}#/p",
        "BTC_PRICE_URLS must name at least two sources",
    ),
    (
        "BTC_PRICE_URLS",
        "https://a.example/{currency}#/p,https://a.example/{currency}#/p",
        "without duplicates",
    ),
    ("ROBOT_SECRET", "0" * 64, "ROBOT_SECRET must be a secret key"),
    ("ROBOT_SECRET", "nsec1", "ROBOT_SECRET must be a secret key"),
    ("ROBOT_PICTURE", "me.png", "ROBOT_PICTURE is malformed"),
    ("ROBOT_OUTBOX_RELAYS", "relay.example", "ROBOT_OUTBOX_RELAYS is malformed"),
    ("ROBOT_INDEXER_RELAYS", "https://a", "ROBOT_INDEXER_RELAYS is malformed"),
    ("ROBOT_MESSAGING_RELAYS", "wss://", "ROBOT_MESSAGING_RELAYS is malformed"),
    ("EMAIL_URL", "mail.example", "EMAIL_URL is malformed"),
    ("EMAIL_URL", "pigeon://mail.example", "EMAIL_URL is malformed"),
    ("EMAIL_URL", "smtp://mail.example:99999", "EMAIL_URL is malformed"),
    ("EMAIL_URL", "smtp://me:hunter2/x@mail.example", "EMAIL_URL is malformed"),
    ("EMAIL_URL", "smtp://me:hunter2#x@mail.example", "EMAIL_URL is malformed"),
    ("EMAIL_FROM", "nobody", "EMAIL_FROM is malformed"),
    ("EMAIL_FROM", "Bills, Inc <a@b.example>", "EMAIL_FROM is malformed"),
    ("BILLING_EMAIL_DOMAIN", "münchen.de", "BILLING_EMAIL_DOMAIN is malformed"),
    ("ROBOT_OUTBOX_RELAYS", "wss://a:99999", "ROBOT_OUTBOX_RELAYS is malformed"),
    ("ROBOT_OUTBOX_RELAYS", "wss://[::1", "ROBOT_OUTBOX_RELAYS is malformed"),
    ("BILLING_GRACE_DAYS", "soon", "BILLING_GRACE_DAYS must be a whole number"),
    ("BILLING_GRACE_DAYS", "0", "BILLING_GRACE_DAYS must be a whole number"),
]

LIVE = {"STRIPE_SECRET_KEY": "sk_live_example"}

#: Changes to PRODUCTION, and a part of the error message.
UNSAFE = [
    ({"SECRET_KEY": "short"}, "SECRET_KEY must be 50 random characters"),
    ({"SECRET_KEY": "k" * 60}, "SECRET_KEY must be 50 random characters"),
    ({"SECRET_KEY": f"django-insecure-{'a1b2c3' * 9}"}, "SECRET_KEY must be"),
    ({"ALLOWED_HOSTS": "caravel.example,*"}, "ALLOWED_HOSTS must name hosts"),
    ({"DEBUG": "true"}, "not with an https APP_URL"),
    (
        {"DEBUG": "true", "APP_URL": "http://localhost", **LIVE},
        "not with a live STRIPE_SECRET_KEY",
    ),
    (
        {"DEBUG": "true", "STRIPE_SECRET_KEY": "rk_live_example"},
        "not with a live STRIPE_SECRET_KEY",
    ),
    ({**LIVE, "APP_URL": "http://caravel.example"}, "APP_URL must be https"),
    (
        {**LIVE, "STRIPE_API_BASE": "http://api.stripe.com"},
        "STRIPE_API_BASE must be https",
    ),
    ({**LIVE, "ROBOT_WALLET_ALLOW_UNPROVEN": "true"}, "UNPROVEN must be false"),
]
SAFE = [
    LIVE,
    {"STRIPE_API_BASE": "http://127.0.0.1:12111"},
    {"APP_URL": "http://127.0.0.1:8000"},
    {"DEBUG": "true", "APP_URL": "http://127.0.0.1:8000"},
    {"ROBOT_WALLET_ALLOW_UNPROVEN": "true"},
]

PRINT_DEBUG = (
    "from django.conf import settings; settings.DATABASES; print(settings.DEBUG)"
)

# Reads named environments, and prints the traceback or some settings of each.
LOAD_SETTINGS_REPEATEDLY = """
import json, os, runpy, sys, traceback

def load(environment):
    os.environ.clear()
    os.environ.update(environment)
    try:
        loaded = runpy.run_path("caravel/settings.py")
    except Exception:
        return {"error": traceback.format_exc()}
    names = "DEBUG", "BTC_PRICE_URLS", "STRIPE_API_BASE", "ROBOT_WALLETS", "CELERY"
    return {name: loaded[name] for name in names}

print(json.dumps({name: load(env) for name, env in json.load(sys.stdin).items()}))
"""


def start(environment, tmp_path):
    """Import the settings in another process; return (exit status, output)."""
    process = subprocess.run(
        [sys.executable, "-c", PRINT_DEBUG],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "caravel.settings",
            "CARAVEL_VAR": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    return process.returncode, process.stdout + process.stderr


def environment_of_docker_build():
    dockerfile = (ROOT / "Dockerfile").read_text()
    _, command = dockerfile.split("RUN SECRET_KEY", 1)
    words = shlex.split(f"SECRET_KEY{command.split('python manage.py')[0]}")
    return dict(word.split("=", 1) for word in words if word.strip())


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Settings or the error by name of an environment, all from one process."""
    blank = dict.fromkeys(PRODUCTION, "  ")
    sandbox = {"DEBUG": "true", "STRIPE_SECRET_KEY": "sk_test_example"}
    environments = {
        "production": PRODUCTION,
        "docker build": environment_of_docker_build(),
        "nothing": {},
        "blank": {**blank, "ENCRYPTION_KEYS": ","},
        "key of the environment": sandbox,
        "wallets": {**PRODUCTION, "ROBOT_WALLET": ",\n ".join(WALLETS) + ","},
    }
    for changes in [*SAFE, *(changes for changes, _ in UNSAFE)]:
        environments[str(changes)] = {**PRODUCTION, **changes}
    for url in ("redis://h", "rediss://h"):
        environments[url] = {**PRODUCTION, "REDIS_URL": url}
    environments |= {
        f"{name}={value}": {**PRODUCTION, name: value} for name, value, _ in MALFORMED
    }
    var = str(tmp_path_factory.mktemp("var"))
    process = subprocess.run(
        [sys.executable, "-c", LOAD_SETTINGS_REPEATEDLY],
        cwd=ROOT,
        input=json.dumps(
            {name: {**each, "CARAVEL_VAR": var} for name, each in environments.items()}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(process.stdout)


def test_production_starts_with_every_required_variable(tmp_path):
    assert start(PRODUCTION, tmp_path) == (0, "False\n")


def test_docker_image_is_built_with_every_required_variable(loaded):
    assert environment_of_docker_build().keys() >= PRODUCTION.keys()
    assert loaded["docker build"]["DEBUG"] is False


@pytest.mark.parametrize("environment", ["nothing", "blank"])
def test_error_names_every_missing_or_blank_variable(loaded, environment):
    error = loaded[environment]["error"]

    assert "ImproperlyConfigured" in error
    for name in PRODUCTION:
        assert f"{name} is missing or blank." in error


def test_manage_py_prints_missing_variables_without_traceback(tmp_path):
    process = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "CARAVEL_VAR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode == 1
    assert "SECRET_KEY is missing or blank." in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("name", sorted(PRODUCTION))
def test_error_names_only_the_missing_variable(name):
    environment = Environment({**PRODUCTION, name: " "}, {})

    for variable in PRODUCTION:
        environment.required(variable)

    with pytest.raises(ImproperlyConfigured) as caught:
        environment.check()
    assert str(caught.value).count("missing") == 1
    assert name in str(caught.value)


@pytest.mark.parametrize(("name", "value", "message"), MALFORMED)
def test_malformed_variable_is_refused_with_its_name(loaded, name, value, message):
    error = loaded[f"{name}={value}"]["error"]

    assert "ImproperlyConfigured" in error
    assert message in error
    assert "hunter2" not in error


@pytest.mark.parametrize(("changes", "message"), UNSAFE, ids=str)
def test_unsafe_values_are_refused(loaded, changes, message):
    assert message in loaded[str(changes)]["error"]


@pytest.mark.parametrize("changes", SAFE, ids=str)
def test_similar_but_safe_values_are_accepted(loaded, changes):
    assert "error" not in loaded[str(changes)]


def test_malformed_variable_stops_start(tmp_path):
    malformed = {"EMAIL_URL": "smtp://me:hunter2/x@mail.example"}

    status, output = start({**PRODUCTION, **malformed}, tmp_path)

    assert status != 0
    assert "EMAIL_URL is malformed" in output
    assert "hunter2" not in output


def test_development_start_prints_used_defaults_and_keeps_secrets(tmp_path):
    first = dev_defaults.defaults(tmp_path)
    status, output = start({"DEBUG": "true"}, tmp_path)

    assert status == 0
    assert "development defaults in use for SECRET_KEY" in output
    assert (
        first["ENCRYPTION_KEYS"] == dev_defaults.defaults(tmp_path)["ENCRYPTION_KEYS"]
    )
    assert (tmp_path / "development.env").stat().st_mode & 0o077 == 0


def test_each_checkout_has_different_development_secrets(tmp_path):
    one, other = (dev_defaults.defaults(tmp_path / name) for name in "ab")

    assert one["SECRET_KEY"] != other["SECRET_KEY"]


def test_default_price_sources_match_example(loaded):
    sources = ",".join(loaded["production"]["BTC_PRICE_URLS"])
    example = (ROOT / ".env.example").read_text().splitlines()

    assert f"BTC_PRICE_URLS={sources}" in example


def test_comma_between_relays_does_not_separate_wallets(loaded):
    assert loaded["wallets"]["ROBOT_WALLETS"] == WALLETS


def test_stripe_key_from_environment_is_never_used_with_sandbox(loaded):
    settings = loaded["key of the environment"]

    assert settings["STRIPE_API_BASE"] == "https://api.stripe.com"


def test_certificate_of_broker_is_verified(loaded):
    """Without the setting, kombu does not verify it: `kombu/connection.py`."""
    encrypted = loaded["rediss://h"]["CELERY"]["broker_use_ssl"]

    assert encrypted == {"ssl_cert_reqs": "required"}
    assert loaded["redis://h"]["CELERY"]["broker_use_ssl"] is None
