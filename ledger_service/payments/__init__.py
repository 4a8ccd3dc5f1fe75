"""Payments and reversals: workflows on Temporal that only drive; the tables are the truth."""
