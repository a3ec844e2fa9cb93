"""Operating-system services: text files, cache directory, locks, terminal, environment, provenance."""
