# Everything that a newcomer, a developer and continuous integration do; `make help` lists it.
#
# What is set up lies in .venv and web/node_modules, and is set up again when what decides it has changed. Only
# what a system package must bring (Debian's python3-venv; for the tests gcc, dnsmasq and Chromium) is installed outside,
# and only where that needs no password: see tests/setup/.

PORT := 8080

PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check install --quiet
PAGE := $(PYTHON) web/build_page.py
STAMPS := .venv/stamps
# Goes with the folder when npm makes it anew for the page's build alone, without what the tests need.
NPM := web/node_modules/.with-development-packages

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# A virtual environment whose Python is gone is made anew, so what its stamps say is no longer true.
$(shell [ -e $(PYTHON) ] || rm -rf $(STAMPS))

.PHONY: run
run: page $(STAMPS)/run ## set everything up and run the demo (PORT=8080): a hub, this machine, simulated nodes
	@exec .venv/bin/gpumon demo --port $(PORT)

.PHONY: test
test: lint page-test ## set everything up and run all checks and tests (ARGS='...' goes to pytest)
	@tests/setup/run-tests $(PYTHON) $(ARGS)

.PHONY: lint
lint: $(STAMPS)/dev ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

.PHONY: page-test
page-test: $(NPM) ## the page's types and unit tests
	$(PAGE) npm run check
	$(PAGE) npm test

.PHONY: page web
page: $(STAMPS)/node ## build the hub's page, if its sources have changed
	@$(PAGE)
web: page

.PHONY: page-dev
page-dev: $(NPM) $(STAMPS)/run ## the page at http://localhost:5173, anew as you type, before a demo hub on port 8080
	@.venv/bin/gpumon demo --port 8080 & hub=$$!; trap "kill $$hub; wait $$hub" EXIT; trap "exit 0" INT TERM; \
	$(PAGE) npm run dev

.PHONY: bench
bench: $(STAMPS)/dev ## every benchmark, one after the other (ARGS=--long for longer ones)
	@$(PYTHON) -m benchmarks $(ARGS)

.PHONY: picture
picture: $(STAMPS)/dev ## the picture in the README, anew from a browser test
	@tests/setup/run-tests $(PYTHON) tests/browser/test_picture.py
	cp tests/artifacts/readme.png docs/page.png

.PHONY: docs
docs: $(STAMPS)/dev man ## the references in docs/ and the manual page, anew from the code
	@$(PYTHON) -m reference

.PHONY: release-check
release-check: $(STAMPS)/release ## all that must hold before a release (ARGS='--only packages'; see docs/release.md)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PYTHON) -m release $(ARGS)

.PHONY: man
man: $(STAMPS)/run ## the manual page, anew from the options
	.venv/bin/gpumon man >docs/gpumon.1

.PHONY: dist
dist: $(STAMPS)/dev ## wheel and sdist, with the page in them, into dist/
	rm -rf dist
	$(PYTHON) -m hatchling build

.PHONY: frozen
frozen: $(STAMPS)/dev
	packaging/frozen/build build/frozen

.PHONY: single-file
single-file: frozen ## gpumon as one file for machines of this processor, into dist/
	@mkdir -p dist
	install build/frozen/gpumon "dist/$$(build/frozen/gpumon --version | sed 's/.* /gpumon-/')-linux-$$(uname -m)"
	install -m 644 build/frozen/licences-file dist/licences

.PHONY: deb
deb: frozen ## the Debian package for machines of this processor, into dist/
	packaging/deb/build build/frozen dist

.PHONY: images
images: ## images of agent and hub, by podman or docker
	for target in agent hub; do \
	    $$(command -v podman || command -v docker) build \
	        --file packaging/oci/Containerfile --target $$target --tag gpumon-$$target . || exit 1; \
	done

.PHONY: clean
clean: ## remove everything that was set up or built
	rm -rf .venv web/node_modules gpumon/hub/page dist build tests/.build tests/artifacts
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(PYTHON):
	@tests/setup/make-venv .venv

# The system's Node if it is new enough, else one as a Python package.
$(STAMPS)/node: web/build_page.py web/package.json | $(PYTHON)
	@$(PAGE) missing | xargs --no-run-if-empty --verbose --delimiter='\n' $(PIP)
	@mkdir -p $(@D) && touch $@

$(NPM): web/package.json web/package-lock.json | $(STAMPS)/node
	$(PAGE) npm ci --ignore-scripts
	@touch $@

# The page comes first: the build of the package then finds it, and needs no Node of its own.
$(STAMPS)/run: pyproject.toml | page
	$(PIP) --editable .
	@mkdir -p $(@D) && touch $@

$(STAMPS)/dev: pyproject.toml | $(NPM) page
	$(PIP) --editable '.[dev]'
	@mkdir -p $(@D) && touch $@ $(STAMPS)/run

$(STAMPS)/release: pyproject.toml | $(STAMPS)/dev
	$(PIP) --editable '.[release]'
	@touch $@
