"""Bank statements: BAI2 and camt.053 read, written and imported."""
