.PHONY: setup test slow lint docs bench

setup:
	python -m pip install -r requirements-dev.txt -e .

test:
	python -m pytest --durations=10

lint:
	ruff check src tests bench tools
	ruff format --check src tests bench tools
	mypy
	lint-imports

docs:
	mkdocs build --strict

bench:
	python bench/grid.py
	python bench/compare_scale.py
