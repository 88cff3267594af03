"""Django settings, read from environment variables; see `.env.example`."""

import logging
import os
import re
import sys
from email.utils import formataddr, parseaddr
from pathlib import Path
from urllib.parse import unquote, urlsplit

import django_stubs_ext
import environ
import structlog

from caravel import dev_defaults, embedded, logs
from caravel.environment import Environment, is_fernet_key, is_weak_secret
from caravel.nostr import is_secret_key

# Makes Django's generic classes subscriptable at run time.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("CARAVEL_VAR") or BASE_DIR / "var")

# A test run must never use an operator's real servers or keys.
TESTING = os.environ.get("CARAVEL_ENV") == "test"
if not TESTING:
    environ.Env.read_env(BASE_DIR / ".env")

DEBUG = Environment(os.environ, {}).boolean("DEBUG")
env = Environment(os.environ, dev_defaults.defaults(VAR) if DEBUG or TESTING else {})

# --- Django

SECRET_KEY = env.required("SECRET_KEY")
ALLOWED_HOSTS = env.required_list("ALLOWED_HOSTS")
APP_URL = env.http_url("APP_URL")
# No path: pages, forms and signed URLs are at the root of the host.
env.require_format("APP_URL", [APP_URL], r"https?://[^\s/?#@]+")

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "django_structlog",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "caravel",
    "tenants",
    "relays",
    "lightning",
    "billing",
    "api",
    "sandbox",
]

MIDDLEWARE = [
    "caravel.core.web.health.ProbeMiddleware",
    "caravel.core.web.body_limit.BodyLimitMiddleware",
    "billing.views.webhooks.StripeWebhookMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "caravel.core.web.admin_access.AdminHeadersMiddleware",
    "caravel.core.web.request_log.RequestLogMiddleware",
]

ROOT_URLCONF = "caravel.urls"
WSGI_APPLICATION = "caravel.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "caravel.core.seller.seller_context",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG or TESTING

# Maximum request body of every endpoint, in bytes; Stripe's events are far smaller.
MAX_BODY = DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
# No page takes files: those of a multipart body are skipped, not written to disk.
FILE_UPLOAD_HANDLERS: list[str] = []

SECURE_COOKIES = APP_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SECURE_SSL_REDIRECT = SECURE_COOKIES
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if SECURE_COOKIES else 0
# W005, W021: no HSTS for subdomains and no preload, as other services may use them.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
CSRF_TRUSTED_ORIGINS = [APP_URL] if APP_URL else []
# Where the admin's login leads if it was opened without `next`.
LOGIN_REDIRECT_URL = "admin:index"
CSRF_FAILURE_VIEW = "billing.views.payment_page.csrf_failure"

# --- The JSON API

#: Public keys, in hex, whose signed API requests have access to all tenants.
ADMIN_PUBKEYS = env.pubkeys("ADMIN_PUBKEYS")
#: Origins of web applications that may call the API from a browser.
CORS_ALLOWED_ORIGINS = env.optional_list("CORS_ALLOWED_ORIGINS", [])
env.require_format("CORS_ALLOWED_ORIGINS", CORS_ALLOWED_ORIGINS, r"https?://[^\s/]+")
CORS_URLS_REGEX = r"^/api/"
CORS_EXPOSE_HEADERS = ["Retry-After"]
#: Number of proxies in front of us whose X-Forwarded-For entries are trusted.
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", 1 if SECURE_COOKIES else 0)
API_RATE_PER_KEY = env.optional("API_RATE_PER_KEY", "120/minute")
API_RATE_PER_ADDRESS = env.optional("API_RATE_PER_ADDRESS", "300/minute")
#: Rate for requests that call a wallet, a price source, Stripe or zooid.
API_RATE_COSTLY = env.optional("API_RATE_COSTLY", "20/minute")
_RATE = r"[1-9]\d*/(second|minute|hour)"
env.require_format("API_RATE_PER_KEY", [API_RATE_PER_KEY], _RATE)
env.require_format("API_RATE_PER_ADDRESS", [API_RATE_PER_ADDRESS], _RATE)
env.require_format("API_RATE_COSTLY", [API_RATE_COSTLY], _RATE)
#: Maximum number of a web process's threads that wait for other services at once.
SLOW_REQUESTS = env.integer("SLOW_REQUESTS", 4, minimum=1)

REST_FRAMEWORK = {
    # Closed by default: a view that declares no permission denies all requests.
    "DEFAULT_PERMISSION_CLASSES": ["caravel.core.web.permissions.DenyAll"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["caravel.core.web.envelope.StrictJsonParser"],
    "EXCEPTION_HANDLER": "caravel.core.web.envelope.handle_exception",
    "UNAUTHENTICATED_USER": None,
}

# --- The admin

UNFOLD = {
    "SITE_TITLE": "Caravel",
    "SITE_HEADER": "Caravel",
    "SHOW_HISTORY": True,
    "LOGIN": {"form": "caravel.core.web.admin_access.LoginForm"},
}
# A working day, and no longer than the browser is open.
SESSION_COOKIE_AGE = 8 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
#: Rates of attempts to log in, right or wrong: each costs most of a second of CPU time.
LOGIN_RATE_PER_ADDRESS = env.optional("LOGIN_RATE_PER_ADDRESS", "10/minute")
LOGIN_RATE_PER_NAME = env.optional("LOGIN_RATE_PER_NAME", "10/minute")
env.require_format("LOGIN_RATE_PER_ADDRESS", [LOGIN_RATE_PER_ADDRESS], _RATE)
env.require_format("LOGIN_RATE_PER_NAME", [LOGIN_RATE_PER_NAME], _RATE)

# --- PostgreSQL

EMBEDDED_SERVERS = DEBUG and not (
    env.is_set("DATABASE_URL") and env.is_set("REDIS_URL")
)
_embedded = embedded.addresses(VAR) if EMBEDDED_SERVERS else None


def _server_url(name: str, embedded_url: str) -> str:
    return embedded_url if embedded_url and not env.is_set(name) else env.required(name)


DATABASE_URL = _server_url("DATABASE_URL", _embedded.database_url if _embedded else "")
if DATABASE_URL and not re.match(r"(postgres|postgresql|pgsql)://", DATABASE_URL):
    env.add_error(
        "DATABASE_URL must begin with postgres://; no other database is supported."
    )
    DATABASE_URL = ""
DATABASES = {
    "default": {
        **environ.Env.db_url_config(DATABASE_URL or "postgres://"),
        "ENGINE": "caravel.core.db.postgresql",
        "CONN_MAX_AGE": env.integer("DATABASE_CONN_MAX_AGE", 60),
        "CONN_HEALTH_CHECKS": True,
    }
}
DATABASES["default"].setdefault("OPTIONS", {}).update(
    connect_timeout=5,
    # A connection that is kept notices within a minute that its server is gone.
    keepalives_idle=30,
    keepalives_interval=10,
    keepalives_count=3,
    # With Django's time zone from the start: else it is set by a statement.
    options="-c lock_timeout=15s -c idle_in_transaction_session_timeout=60s "
    "-c TimeZone=UTC",
)
#: Maximum number of connections that a process's threads share; 0: one per thread.
DATABASE_POOL = env.integer("DATABASE_POOL", 0)
if DATABASE_POOL:
    # Django refuses persistent connections with a pool.
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 0,
        "max_size": DATABASE_POOL,
        "max_idle": 60.0,
        "timeout": 10.0,
    }

# --- Redis or Valkey, Celery

REDIS_URL = _server_url("REDIS_URL", _embedded.redis_url if _embedded else "")
env.require_format("REDIS_URL", [REDIS_URL], r"(rediss?|unix)://.*")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    # Shared by all processes; `caravel.core.cache` also works while it is down.
    "shared": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL or "redis://",
        "KEY_PREFIX": "caravel-cache",
        "OPTIONS": {
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "serializer": "caravel.core.cache.JsonSerializer",
        },
    },
}


def _broker_url(redis_url: str) -> str:
    """Convert redis-py's URL of a Unix socket to kombu's form."""
    return redis_url.replace("unix://", "redis+socket://", 1).replace(
        "?db=", "?virtual_host="
    )


def _every(task: str, seconds: int) -> dict[str, object]:
    name = task.rsplit(".", 1)[1].upper()
    period = env.integer(f"BEAT_{name}", seconds, minimum=1)
    # A message that waited a whole period is redundant: the next one does its work.
    return {"task": task, "schedule": period, "options": {"expires": period}}


#: Seconds from one reconciliation to the next, however often beat or a worker starts.
RECONCILIATION_PERIOD = env.integer("BEAT_RECONCILE_SUBSCRIPTIONS", 3600, minimum=1)
CELERY_BEAT_SCHEDULE = {
    "reconcile-subscriptions": _every(
        "billing.tasks.reconcile_subscriptions", RECONCILIATION_PERIOD
    ),
    "sweep-reconciliations": _every("billing.tasks.sweep_reconciliations", 60),
    "pull-stripe-events": _every("billing.tasks.pull_stripe_events", 300),
    "check-prices": _every("billing.tasks.check_prices", 3600),
    "sweep-stale-tenants": _every("billing.tasks.sweep_stale_tenants", 60),
    "sweep-stripe-events": _every("billing.tasks.sweep_stripe_events", 60),
    "sweep-collections": _every("billing.tasks.sweep_collections", 60),
    "sweep-credits": _every("billing.tasks.sweep_credits", 60),
    "review-dunning": _every("billing.tasks.review_dunning", 600),
    "check-wallets": _every("billing.tasks.check_wallets", 600),
    "watch-invoices": _every("lightning.tasks.watch_invoices", 15),
    "resolve-payments": _every("lightning.tasks.resolve_payments", 60),
    "check-decided-invoices": _every("lightning.tasks.check_decided_invoices", 3_600),
    "prove-wallets": _every("lightning.tasks.prove_wallets", 60),
    "sweep-notices": _every("tenants.tasks.sweep_notices", 60),
    "sweep-confirmations": _every("tenants.tasks.sweep_confirmations", 60),
    "publish-identity": _every("tenants.tasks.publish_identity", 86400),
    "sweep-auth-events": _every("tenants.tasks.sweep_auth_events", 600),
    "look-up-names": _every("tenants.tasks.look_up_names", 86400),
    "sweep-relay-syncs": _every("relays.tasks.sweep_relay_syncs", 60),
    "probe-relays": _every("relays.tasks.probe_relays", 60),
    "count-people": _every("relays.tasks.count_people", 3600),
    "review-suspended-relays": _every("relays.tasks.review_suspended_relays", 3600),
    "sweep-relay-exports": _every("relays.tasks.sweep_relay_exports", 60),
}
#: All settings of Celery, which gets no others.
CELERY = {
    "broker_url": _broker_url(REDIS_URL),
    "broker_transport_options": {
        # Longer than any task and any countdown, or a running task is delivered again.
        "visibility_timeout": env.integer("CELERY_VISIBILITY_TIMEOUT", 600, minimum=1),
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
    },
    # Without it, kombu does not verify the certificate of a rediss:// URL.
    "broker_use_ssl": {"ssl_cert_reqs": "required"}
    if REDIS_URL.startswith("rediss:")
    else None,
    "broker_connection_retry_on_startup": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # It obeys everyone who can write to the broker, and shows them the configuration.
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "worker_prefetch_multiplier": 1,
    # Publishing never waits for a broker that is down: a sweep sends the message later.
    "task_publish_retry_policy": {"max_retries": 0},
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "result_expires": None,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_soft_time_limit": 270,
    "task_time_limit": 300,
    "task_default_queue": "default",
    "task_queues": {
        name: {"exchange": name, "routing_key": name}
        for name in ("default", "stripe", "lightning", "nostr", "zooid")
    },
    "task_create_missing_queues": False,
    "timezone": "UTC",
    "beat_scheduler": "caravel.beat:Scheduler",
    "beat_schedule": CELERY_BEAT_SCHEDULE,
}
#: Seconds after which a task message counts as lost and a sweep sends another.
ENQUEUED_TIMEOUT = env.integer("ENQUEUED_TIMEOUT", 300, minimum=1)

# --- Secrets at rest

ENCRYPTION_KEYS = env.required_list("ENCRYPTION_KEYS")
if not all(map(is_fernet_key, ENCRYPTION_KEYS)):
    env.add_error("ENCRYPTION_KEYS contains a value that is not a Fernet key.")

# --- Stripe

STRIPE_SECRET_KEY = env.required("STRIPE_SECRET_KEY")
#: Without one the web process does not start; `stripe_setup` prints the first.
STRIPE_WEBHOOK_SECRETS = env.optional_list("STRIPE_WEBHOOK_SECRET", [])
env.require_format("STRIPE_SECRET_KEY", [STRIPE_SECRET_KEY], r"[sr]k_(test|live)_\w+")
env.require_format("STRIPE_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRETS, r"whsec_\S+")
# If STRIPE_SECRET_KEY is set, the default is the real Stripe, never the sandbox.
STRIPE_API_BASE = (
    env.http_url("STRIPE_API_BASE")
    if env.is_set("STRIPE_API_BASE") or "STRIPE_SECRET_KEY" in env.defaulted
    else "https://api.stripe.com"
)
#: Requests per second over all processes, a fifth of them for people who wait. Stripe
#: allows 100 with a live key, but only 25 to one endpoint, and 25 with a test key:
#: https://docs.stripe.com/rate-limits. At most about half of ours are of one kind.
STRIPE_MAX_REQUESTS_PER_SECOND = env.integer(
    "STRIPE_MAX_REQUESTS_PER_SECOND",
    40 if STRIPE_SECRET_KEY[3:].startswith("live_") else 20,
    minimum=1,
)

# --- Billing and relays

BILLING_EMAIL_DOMAIN = env.required("BILLING_EMAIL_DOMAIN")
BILLING_GRACE_DAYS = env.integer("BILLING_GRACE_DAYS", 7, minimum=1)
#: Days after finalization beyond which staff cannot extend a grace period.
BILLING_MAX_GRACE_DAYS = env.integer("BILLING_MAX_GRACE_DAYS", 60, minimum=1)
#: Seconds to collect a tenant's changes before one sync applies them all.
BILLING_SYNC_DELAY = env.integer("BILLING_SYNC_DELAY", 1)
#: Maximum numbers of a tenant's relays, on or off; staff can add more in the admin.
QUOTA_FREE_RELAYS = env.integer("QUOTA_FREE_RELAYS", 5)
#: Those on paid plans until the tenant has paid for a month, and their monthly price.
QUOTA_UNPAID_RELAYS = env.integer("QUOTA_UNPAID_RELAYS", 5)
QUOTA_UNPAID_CENTS = env.integer("QUOTA_UNPAID_CENTS", 10000)
#: Rate at which the callers at one address may open accounts.
NEW_TENANT_RATE = env.optional("NEW_TENANT_RATE", "20/hour")
env.require_format("NEW_TENANT_RATE", [NEW_TENANT_RATE], _RATE)
#: Bill a paid relay from the first proof that it runs, not from its creation.
BILLING_SERVED_RELAYS_ONLY = env.boolean("BILLING_SERVED_RELAYS_ONLY", True)
RELAY_DOMAIN = env.required("RELAY_DOMAIN")
#: The management API of zooid, the server that hosts the relays.
ZOOID_API_URL = env.http_url("ZOOID_API_URL")
#: Where zooid serves the relays, for a Caravel that cannot reach their public names:
#: requests go there, with the relay's name as their Host.
ZOOID_RELAYS_URL = env.optional("ZOOID_RELAYS_URL")
#: Days after a suspension when the owner is offered an export, and when the relay is
#: deleted. Dates that were announced do not become earlier.
RELAY_EXPORT_DAYS = env.integer("RELAY_EXPORT_DAYS", 30, minimum=1)
RELAY_DELETE_DAYS = env.integer("RELAY_DELETE_DAYS", 60, minimum=2)
#: Size of the compressed export of a relay, in MiB, from which on it is given up.
RELAY_EXPORT_MAX_MB = env.integer("RELAY_EXPORT_MAX_MB", 1024, minimum=1)
#: Delete relays that stay suspended.
RELAY_DELETION = env.boolean("RELAY_DELETION", True)
#: Prompt in a relay's public description while an invoice needs a manual payment.
RELAY_PAYMENT_PROMPT = env.boolean("RELAY_PAYMENT_PROMPT", False)
#: LiveKit server of relays with voice rooms; without it, no relay gets any.
LIVEKIT_URL = env.optional("LIVEKIT_URL")
LIVEKIT_API_KEY = env.optional("LIVEKIT_API_KEY")
LIVEKIT_API_SECRET = env.optional("LIVEKIT_API_SECRET")
env.require_format("BILLING_EMAIL_DOMAIN", [BILLING_EMAIL_DOMAIN], r"[\w-]+(\.[\w-]+)*")
env.require_format("RELAY_DOMAIN", [RELAY_DOMAIN], r"[\w-]+(\.[\w-]+)*(:\d+)?")
# No path: behind a path prefix zooid would see another URL than the one we sign.
env.require_format("ZOOID_API_URL", [ZOOID_API_URL], r"https?://[^\s/?#@]+")
env.require_format("ZOOID_RELAYS_URL", [ZOOID_RELAYS_URL], r"(https?://[^\s/?#@]+)?")
env.require_format("LIVEKIT_URL", [LIVEKIT_URL], r"((wss?|https?)://[^\s?#@]+)?")
if RELAY_DELETE_DAYS <= RELAY_EXPORT_DAYS:
    env.add_error("RELAY_DELETE_DAYS must be more than RELAY_EXPORT_DAYS.")

# --- Lightning

#: Sources of the bitcoin price; `lightning.clients.prices` explains the format.
BTC_PRICE_URLS = env.optional_list(
    "BTC_PRICE_URLS",
    [
        "https://api.coinbase.com/v2/prices/BTC-{CURRENCY}/spot#/data/amount",
        "https://api.kraken.com/0/public/Ticker?pair=XBT{CURRENCY}#/result/*/c/0",
        "https://www.bitstamp.net/api/v2/ticker/btc{currency}/#/last@/timestamp",
    ],
)
env.require_format(
    "BTC_PRICE_URLS",
    BTC_PRICE_URLS,
    r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1|\[::1\]))(:\d{1,5})?"
    r"/[^\s#]*\{(currency|CURRENCY)\}[^\s#]*#(/[^\s@]+)(@/\S+)?",
)
if len(set(BTC_PRICE_URLS)) < max(2, len(BTC_PRICE_URLS)):
    env.add_error("BTC_PRICE_URLS must name at least two sources, without duplicates.")

#: NWC URIs (secret) of the wallets that receive payments. The first issues invoices,
#: all are polled.
# Some wallets separate their relays with commas, too.
ROBOT_WALLETS = env.required_list("ROBOT_WALLET", separator=r",(?=\s*nostr|\s*$)")
env.require_format("ROBOT_WALLET", ROBOT_WALLETS, r"nostr\+?walletconnect:\S+")
#: Let them issue invoices without a proof that they can tell an unpaid invoice from a
#: paid one, or on a test network.
ROBOT_WALLET_ALLOW_UNPROVEN = env.boolean(
    "ROBOT_WALLET_ALLOW_UNPROVEN", DEBUG or TESTING
)
#: Seconds until a Lightning invoice expires; its price is fixed until then.
LIGHTNING_EXPIRY = env.integer("LIGHTNING_EXPIRY", 900, minimum=120)
#: Seconds after expiry in which an invoice may still be paid: LDK accepts payments up
#: to two hours late.
LIGHTNING_MARGIN = env.integer("LIGHTNING_MARGIN", 9000, minimum=1)
#: Seconds after a wallet's refusal in which our own wallet must not see the payment
#: arrive: some wallets answer INSUFFICIENT_BALANCE to a lost connection, then pay.
LIGHTNING_REFUSAL_PAUSE = env.integer("LIGHTNING_REFUSAL_PAUSE", 60, minimum=0)
#: Requests that one of our own wallets may get in a minute; some services allow 60. A
#: third is kept for people who wait.
ROBOT_WALLET_REQUESTS_PER_MINUTE = env.integer(
    "ROBOT_WALLET_REQUESTS_PER_MINUTE", 60, minimum=3
)
#: Seconds to wait for a tenant's wallet to pay before the outcome is unknown.
NWC_TIMEOUT = env.integer("NWC_TIMEOUT", 60, minimum=1)
#: Allow relays of tenants' wallets on private addresses of our network.
NWC_ALLOW_PRIVATE_RELAYS = env.boolean("NWC_ALLOW_PRIVATE_RELAYS", DEBUG)

# --- The robot: Caravel's identity on Nostr

ROBOT_SECRET = env.required("ROBOT_SECRET")
if ROBOT_SECRET and not is_secret_key(ROBOT_SECRET):
    env.add_error("ROBOT_SECRET must be a secret key of 64 lower-case hex digits.")
ROBOT_NAME = env.optional("ROBOT_NAME", "Caravel")
ROBOT_DESCRIPTION = env.optional("ROBOT_DESCRIPTION")
ROBOT_PICTURE = env.optional("ROBOT_PICTURE")
env.require_format("ROBOT_PICTURE", [ROBOT_PICTURE], r"https?://\S+")
#: Who tenants pay, as named on pages, messages and receipts.
SELLER_NAME = env.optional("SELLER_NAME", ROBOT_NAME)
SELLER_ADDRESS = env.optional("SELLER_ADDRESS")
SELLER_TAX_ID = env.optional("SELLER_TAX_ID")
SELLER_CONTACT = env.optional("SELLER_CONTACT")
#: Relays where we publish, and fallback for recipients without relays for messages.
ROBOT_OUTBOX_RELAYS = env.required_list("ROBOT_OUTBOX_RELAYS")
#: Relays where users' relay lists and profiles are looked up.
ROBOT_INDEXER_RELAYS = env.optional_list(
    "ROBOT_INDEXER_RELAYS", ["wss://purplepages.es", "wss://relay.damus.io"]
)
#: Relays that we announce for messages to us.
ROBOT_MESSAGING_RELAYS = env.optional_list(
    "ROBOT_MESSAGING_RELAYS", ROBOT_OUTBOX_RELAYS
)
_PORT = r":\d{1,4}|:[1-5]\d{4}|:6[0-4]\d{3}|:65[0-4]\d\d"
_RELAY = rf"wss?://([\w.-]+|\[[0-9A-Fa-f:.]+\])({_PORT})?(/[^\s#]*)?"
env.require_format("ROBOT_OUTBOX_RELAYS", ROBOT_OUTBOX_RELAYS, _RELAY)
env.require_format("ROBOT_INDEXER_RELAYS", ROBOT_INDEXER_RELAYS, _RELAY)
env.require_format("ROBOT_MESSAGING_RELAYS", ROBOT_MESSAGING_RELAYS, _RELAY)
#: Allow tenants' relays for messages on private addresses of our network.
NOSTR_ALLOW_PRIVATE_RELAYS = env.boolean("NOSTR_ALLOW_PRIVATE_RELAYS", DEBUG)

# --- OpenAPI description

SPECTACULAR_SETTINGS = {
    "TITLE": "Caravel",
    "VERSION": "1",
    "DESCRIPTION": "For tenants: manage relays, read and pay invoices.",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SCHEMA_PATH_PREFIX": "/api",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "SERVERS": [{"url": APP_URL}],
    "TAGS": [
        {"name": "identity", "description": "The key that signs the requests."},
        {"name": "plans", "description": "What is sold; public."},
        {"name": "tenants", "description": "Accounts, their settings and histories."},
        {"name": "relays", "description": "Relays and their members."},
        {"name": "invoices", "description": "Invoices, Lightning and receipts."},
    ],
    "PREPROCESSING_HOOKS": ["api.schema.exclude_non_api"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "api.schema.describe_empty_strings",
        "api.schema.add_signing_guide",
    ],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Ok": ["ok"],
        "ActivityType": "tenants.models.Activity.Type",
        "CollectionState": "billing.models.InvoiceCollection.State",
        "InvoiceStatus": "billing.models.InvoiceCollection.Status",
        "PaidBy": "billing.models.InvoiceCollection.PaidBy",
        "RelayStatus": "relays.models.Relay.Status",
    },
}

# --- E-mail

EMAIL_URL = env.optional("EMAIL_URL", "consolemail://" if DEBUG else "")
_SCHEMES = "|".join(map(re.escape, environ.Env.EMAIL_SCHEMES))
_EMAIL_URL = rf"({_SCHEMES})://([^\s\[\]/?#]+@)?[\w.-]*({_PORT})?([/?]\S*)?"
env.require_format("EMAIL_URL", [EMAIL_URL], _EMAIL_URL)
#: Without a mail server, notices are sent over Nostr only.
EMAIL_ENABLED = bool(re.fullmatch(_EMAIL_URL, EMAIL_URL))
if EMAIL_ENABLED:
    vars().update(environ.Env.email_url_config(EMAIL_URL))
EMAIL_TIMEOUT = 20
EMAIL_FROM = env.optional("EMAIL_FROM")
_FROM = parseaddr(EMAIL_FROM)
_ADDRESS = r"[^@\s]+@[\w-]+(\.[\w-]+)*"
env.require_format("EMAIL_FROM", [_FROM[1] or EMAIL_FROM], _ADDRESS)
#: Address for alerts; without it, or without a mail server, they are only logged.
SUPPORT_EMAIL = env.optional("SUPPORT_EMAIL")
env.require_format("SUPPORT_EMAIL", [SUPPORT_EMAIL], _ADDRESS)

# --- Logs

LOG_LEVEL = env.optional("LOG_LEVEL", "INFO").upper()
env.require_format("LOG_LEVEL", [LOG_LEVEL], "DEBUG|INFO|WARNING|ERROR|CRITICAL")

# --- Values that are not safe, alone or together

_IS_LIVE = STRIPE_SECRET_KEY[3:].startswith("live_")
for _is_unsafe, _message in (
    (is_weak_secret(SECRET_KEY), "SECRET_KEY must be 50 random characters or more."),
    ("*" in ALLOWED_HOSTS, "ALLOWED_HOSTS must name hosts: * allows forged links."),
    (
        DEBUG and _IS_LIVE,
        "DEBUG=true shows secrets on pages: not with a live STRIPE_SECRET_KEY.",
    ),
    (
        DEBUG and SECURE_COOKIES,
        "DEBUG=true shows secrets on pages: not with an https APP_URL.",
    ),
    (
        _IS_LIVE and not SECURE_COOKIES,
        "APP_URL must be https with a live STRIPE_SECRET_KEY.",
    ),
    (
        _IS_LIVE and not STRIPE_API_BASE.startswith("https://"),
        "STRIPE_API_BASE must be https with a live STRIPE_SECRET_KEY.",
    ),
    (
        _IS_LIVE and ROBOT_WALLET_ALLOW_UNPROVEN,
        "ROBOT_WALLET_ALLOW_UNPROVEN must be false with a live STRIPE_SECRET_KEY.",
    ),
):
    if _is_unsafe:
        env.add_error(_message)

env.check()

DEFAULT_FROM_EMAIL = formataddr(
    _FROM if EMAIL_FROM else (ROBOT_NAME, f"billing@{BILLING_EMAIL_DOMAIN}")
)
#: Settings that use a development default; printed at the start.
DEVELOPMENT_DEFAULTS = env.defaulted
if DEVELOPMENT_DEFAULTS and DEBUG and os.environ.get("CARAVEL_QUIET") != "true":
    names = ", ".join(DEVELOPMENT_DEFAULTS)
    sys.stderr.write(f"caravel: development defaults in use for {names}\n")

LOGGING_CONFIG = None
DEFAULT_EXCEPTION_REPORTER_FILTER = "caravel.core.web.debug.RedactingFilter"
# Percent-encoded, as in the URL.
_encoded_password = urlsplit(EMAIL_URL).password or ""
logs.configure(
    level=LOG_LEVEL,
    as_json=not DEBUG,
    secrets=[
        SECRET_KEY,
        *ENCRYPTION_KEYS,
        STRIPE_SECRET_KEY,
        *STRIPE_WEBHOOK_SECRETS,
        *ROBOT_WALLETS,
        ROBOT_SECRET,
        LIVEKIT_API_SECRET,
        _encoded_password,
        unquote(_encoded_password),
    ],
)
DJANGO_STRUCTLOG_CELERY_ENABLED = True
# The start of a task or a request is logged at DEBUG only; its end says more.
DJANGO_STRUCTLOG_CELERY_TASK_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_CELERY_TASK_SUCCESS_LOG_LEVEL = logging.INFO
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
structlog.contextvars.clear_contextvars()
