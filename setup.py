"""Packages: those below src, and the top-level `configs/` as the package `headwise.configs` (headwise/packaged.py)."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages("src"), "headwise.configs"],
    package_dir={"": "src", "headwise.configs": "configs"},
)
