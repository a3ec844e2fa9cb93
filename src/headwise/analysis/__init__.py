"""From finished cells to what is known: comparison, findings, tables, recommendation, evidence. Numbers only."""
