from collections.abc import Sequence
from typing import overload

import msgspec

from ledger_service.domain.commands import Command

class Commands(Sequence[Command]):
    """The commands of one request, from msgpack of each."""

    are_plain: bool
    """Whether all are plain postings."""
    def __init__(self, raws: list[msgspec.Raw]) -> None: ...
    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Command]: ...
    def __len__(self) -> int: ...
