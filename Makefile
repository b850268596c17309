.DEFAULT_GOAL := help
.PHONY: help setup check format test slow smoke all ui pin

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup:  ## Install the exact versions of everything into .venv
	uv sync

check:  ## Lint, format check, types, import directions
	uv run ruff check
	uv run ruff format --check
	uv run pyright
	uv run lint-imports

format:  ## Format the code and sort its imports
	uv run ruff check --fix-only --select I
	uv run ruff format

test:  ## The tests that everybody runs
	uv run pytest

slow:  ## The tests that train until something is learned
	uv run pytest -m slow

smoke:  ## One tiny experiment from data to summary
	uv run python run.py task=maze algo=ilql experiment=smoke

all:  ## Everything the continuous integration does
	.ci/run

ui:  ## Browse runs, episodes and pictures
	@echo 'Open http://localhost:5000/#/experiments?workflowType=machine_learning'
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false uv run mlflow ui --workers 1 --backend-store-uri sqlite:///mlflow.db

pin:  ## Move to the newest versions that fit together
	uv run python scripts/pin.py
