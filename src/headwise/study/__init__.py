"""Definition of a study: cells, names, token budgets, digests, versions, and the registry of plug-ins."""
