import msgspec

class PlainBodies:
    """Reads transactions for one ledger in the name of one caller."""

    def __init__(self, ledger: str, actor: str, request_id: str) -> None: ...
    def read(self, raw: bytes | msgspec.Raw) -> bytes | None:
        """The command's msgpack, or None where the transaction is not plain. `raw`: its JSON."""
