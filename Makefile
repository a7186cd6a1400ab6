# One door to everything: `make help`. The first target that needs it makes .venv and installs into
# it; after that nothing here touches the network until pyproject.toml or the constraints change.

BIN := .venv/bin
INSTALLED := .venv/installed
PINS := pyproject.toml deploy/constraints.txt
JOBS ?= 2

# Run every check and say all that fail, in order, whatever the caller's -j is.
MAKEFLAGS += --keep-going
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test soak mutants bench screenshots bundle lint ruff imports types pytest browser \
    constraints clean

help: ## say what there is
	@echo "Accord needs Python 3.11 or 3.12; PYTHON=/path/to/python chooses one."
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
	    printf '  make %-12s %s\n' "$$name" "$$what"; done

demo: $(INSTALLED) ## three institutions train one model here; ARGS='--format json' goes to accord demo
	@$(BIN)/accord demo $(ARGS)

test: lint pytest ## lint, then every test; the long ones as a sample with a fixed seed

soak: $(INSTALLED) browser ## the long suites in full; ARGS goes to pytest
	@$(BIN)/pytest -m soak --soak $(ARGS)

mutants: $(INSTALLED) ## change the code place by place, and see which tests notice; MODULE=name for one part
	@JOBS=$(JOBS) $(BIN)/python -m tests.mutants $(MODULE)

bench: $(INSTALLED) browser ## every benchmark, or BENCH=name: one JSON object a line on stdout
	@$(BIN)/python -m tests.benchmarks $(BENCH)

screenshots: $(INSTALLED) browser ## photograph every page in every language into deploy/screenshots
	@$(BIN)/pytest -m soak --soak --screenshots deploy/screenshots tests/web/test_screenshots.py

bundle: $(INSTALLED) ## wheels, hashes, SBOM, signature for machines without a network; KEY=ed25519.pem
	@$(BIN)/python -m deploy.bundle.build --key $(or $(KEY),$(error make bundle KEY=bundle.key; \
	    openssl genpkey -algorithm ed25519 -out bundle.key makes one)) $(ARGS)

lint: ruff imports types ## style, dependency rule and types

ruff: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

imports: $(INSTALLED)
	@$(BIN)/lint-imports

types: $(INSTALLED)
	@$(BIN)/mypy

# A file's tests share servers and fixtures, so a file stays with one worker; tests/conftest.py says
# which files come first. Tests start hundreds of processes, and none should compile what changed.
pytest: export PYTHONDONTWRITEBYTECODE =
pytest: $(INSTALLED) browser
	@$(BIN)/python -m compileall -q common client server tests
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The pages' tests drive the system's browser. Where it is missing and apt can bring it, it does;
# where it cannot, the tests that need one fail and say what helps.
browser:
	@exec >&2; \
	for name in chromium chromium-browser google-chrome; do \
	    if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium for the pages' tests ..."; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core fonts-noto-cjk \
	        || echo "apt could not install Chromium; the pages' tests will fail."; \
	fi

constraints: $(INSTALLED) ## pin again after pyproject.toml changed; ARGS='--upgrade-package x' moves one
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    --prerelease disallow --no-annotate --strip-extras --quiet \
	    --custom-compile-command 'make constraints' --output-file deploy/constraints.txt $(ARGS) >/dev/null

clean: ## remove the environment, caches and the demo's data
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .bench .accord-demo
	@find common client server tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp keeps what was installed, so a checkout that only touches the files installs nothing.
# Everything said here goes to stderr: stdout belongs to the target that was asked for.
$(INSTALLED): $(PINS)
	@exec >&2; set -eu; \
	if cat $(PINS) | cmp -s - $@; then touch $@; exit 0; fi; \
	for python in $${PYTHON:-python3.11 python3.12 python3}; do \
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    case $$version in 3.11|3.12) found=$$python; break;; esac; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "Accord needs Python 3.11 or 3.12; $${PYTHON:-python3} is not one. Name one: make PYTHON=/path/to/python3.11"; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "Python $$version cannot make a virtual environment here. This helps:"; \
	    echo "apt install python$$version-venv"; exit 1; \
	fi; \
	if [ "$$(.venv/bin/python -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$$version" ]; then \
	    echo "Making .venv with Python $$version ..."; \
	    "$$found" -m venv --clear .venv; \
	fi; \
	echo "Installing Accord and its pinned dependencies into .venv (once; a few minutes) ..."; \
	$(BIN)/python -m pip install --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'; \
	$(BIN)/python -m compileall -q common client server; \
	cat $(PINS) > $@; \
	echo "Installed."
