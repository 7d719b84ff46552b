# Two commands are enough: `make demo` to see it work, `make test` to check it. Both make .venv when it is not ready.
PYTHON ?= python3
BIN := .venv/bin
NEEDED = Python >= 3.11 is needed and $(PYTHON)
OTHER = name another, as in make PYTHON=python3.12 $(MAKECMDGOALS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test bench sync docs
help:  ## What can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.ready  ## Compare both losses on synthetic clusters and handwritten digits, and write a report
	@$(BIN)/dmc_compare

test: .venv/.ready  ## Run every notebook's tests and the project's checks
	@$(BIN)/python .ci/check.py

bench: .venv/.ready  ## Measure every hot path against pytorch-metric-learning and plain PyTorch (some minutes)
	@$(BIN)/python .ci/bench/bench.py --out nbs/results

sync: .venv/.ready  ## After editing notebooks: clean them, export the modules, write README.md
	@$(BIN)/nbdev_clean && $(BIN)/nbdev_export && $(BIN)/python .ci/readme.py

docs: .venv/.ready  ## Build the site into _docs (needs Quarto)
	@command -v quarto >/dev/null || { echo "make docs needs Quarto, which is not installed here;" \
		"every other command works without it" >&2; exit 1; }
	@touch README.md && $(BIN)/nbdev_docs

# A set-up that was cut short is made again over itself. A package whose record is missing was cut in half, though pip
# takes it for installed: its metadata goes first, so that it is installed anew.
.venv/.ready: settings.ini setup.py
	@command -v $(PYTHON) >/dev/null || { echo "$(NEEDED) was not found: $(OTHER)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or \
		sys.exit("$(NEEDED) is %d.%d: $(OTHER)" % sys.version_info[:2])'
	@echo "Setting up .venv (some minutes, once)"
	@$(PYTHON) -m venv .venv
	@find .venv/lib -maxdepth 3 -name '*.dist-info' ! -exec test -e '{}/RECORD' \; -exec rm -r '{}' +
	@$(BIN)/python -m pip install -qq -e '.[dev]'
	@touch $@
