FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CARAVEL_VAR=/tmp/caravel
WORKDIR /app
COPY requirements.txt .
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && pip install --no-cache-dir --require-hashes -r requirements.txt \
    && apt-get purge -y --auto-remove gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# The settings require these variables; none of the values stays in the image.
RUN SECRET_KEY=only-to-collect-static-files_signs-nothing_0123456789 ALLOWED_HOSTS=build APP_URL=https://build.example \
    DATABASE_URL=postgres://build REDIS_URL=redis://build \
    ENCRYPTION_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= \
    STRIPE_SECRET_KEY=sk_test_build \
    BILLING_EMAIL_DOMAIN=build.example RELAY_DOMAIN=build.example \
    ZOOID_API_URL=https://build.example \
    ROBOT_WALLET=nostr+walletconnect://build ROBOT_OUTBOX_RELAYS=wss://build.example \
    ROBOT_SECRET=0000000000000000000000000000000000000000000000000000000000000001 \
    python manage.py collectstatic --noinput
RUN useradd --create-home caravel
USER caravel
CMD ["gunicorn", "caravel.wsgi", "--preload", "--bind", "0.0.0.0:8000", "--worker-class", "caravel.web_server.Worker", "--threads", "8"]
