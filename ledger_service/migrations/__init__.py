"""The ledger's database, one numbered step at a time; run as the owner, before the services start."""
