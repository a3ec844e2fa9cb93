"""Benchmark bundles: checking, repairing, and building them from Hugging Face datasets."""
