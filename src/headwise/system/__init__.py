"""The machine around a study: text files, cache directory, locks, terminal, environment, provenance."""
