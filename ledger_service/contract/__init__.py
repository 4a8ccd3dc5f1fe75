"""What others may rely on: money, identifiers, events, topics, permissions, settings, snapshots.

This package imports nothing of ours. `pipelines` and `monitoring` know of the ledger only this.
"""
