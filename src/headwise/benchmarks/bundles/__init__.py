"""Folders of benchmarks: checked, mended, and made from Hugging Face datasets."""
