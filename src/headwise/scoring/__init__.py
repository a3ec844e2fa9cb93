"""From answers to verdicts and scores. Never imports torch."""
