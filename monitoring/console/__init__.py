"""The web console: server-rendered pages over published marts, the ledger API and the alerts."""
