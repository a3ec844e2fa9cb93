.PHONY: setup test slow lint docs bench tables

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

tables: # of the embedded study, and README's picture: about 25 minutes on two cores
	headwise evaluate --heads 8
	headwise compare --json --no-report > embedded-compare.json
	python tools/methods_table.py
	python tools/embedded_table.py embedded-compare.json --page docs/embedded-strategies.md
	rm embedded-compare.json
	python tools/embedded_figures.py docs/kept-tokens.png
