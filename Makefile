.PHONY: setup test lint bench

setup:
	python -m pip install -r requirements-dev.txt

test:
	python -m pytest

lint:
	ruff check src tests bench tools
	mypy
	PYTHONPATH=src lint-imports

bench:
	PYTHONPATH=src python bench/grid.py
	PYTHONPATH=src python bench/compare_scale.py
