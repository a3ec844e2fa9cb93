.PHONY: setup test slow lint docs bench

setup:
	python -m pip install -r requirements-dev.txt -e .

test:
	OMP_NUM_THREADS=1 python -m pytest -n auto --durations=10 -m "not slow"

slow:
	python -m pytest --durations=10 -m slow || [ $$? -eq 5 ] # 5: none is marked

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
