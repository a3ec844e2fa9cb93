"""Scoring: answers → verdicts and scorecards. Never imports torch."""
