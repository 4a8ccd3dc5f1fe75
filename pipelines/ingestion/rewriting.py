"""What has landed, typed or landed once more: after a fix of the code, or of a topic.

Each is one commit of the manifest, and notes that rows came behind the `seq` that marts were built
up to (`LandedSource.rewritten`), so that the next build takes them up. Equal contents come of it as
of a landing that had been right from the beginning: a row's place is its `seq`, not when it came.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec

from pipelines.ingestion import quarantine
from pipelines.ingestion.manifest import LandedSource, Landing, LandingManifest
from pipelines.ingestion.topic_reader import TopicReader
from pipelines.ingestion.typed import Converter, chunks, present_form


class UnknownSourceError(LookupError):
    """No such ledger or stream has landed; the message names those that have."""


class TopicNotWholeError(RuntimeError):
    """The topic holds less than the landing: to land from it anew would lose events."""


@dataclasses.dataclass(frozen=True)
class Requeued:
    """What became of quarantined events that were tried again."""

    tried: int
    typed: int
    """Good now, and in the typed landing."""


def source_named(manifest: LandingManifest, name: str) -> LandedSource:
    """The source of that name. Errors: `UnknownSourceError`."""
    if name not in manifest.sources:
        landed = ", ".join(sorted(manifest.sources)) or "nothing"
        raise UnknownSourceError(f"{name} has not landed; there is: {landed}.")
    return manifest.sources[name]


def requeue(
    landing: Landing,
    converter: Converter,
    name: str,
    wanted: Callable[[quarantine.Poison], bool] = lambda _: True,
) -> Requeued:
    """Read the wanted events of a source's quarantine by the present contract.

    Those that are good now get their rows, the others stay with the reason of today. An event
    without a `seq` of its own is not in the raw landing and stays: see `reland`.
    Errors: `UnknownSourceError`, `LandingTakenError`.
    """
    manifest = landing.read()
    source = source_named(manifest, name)
    waiting = list(quarantine.waiting(landing, source))
    tried = {one.seq for one in waiting if one.offset is None and wanted(one)}
    if not tried:
        return Requeued(0, 0)
    left = [one for one in waiting if one.offset is not None or one.seq not in tried]
    source = _rewritten(manifest, source, quarantine=[])
    for first, last in chunks(min(tried), max(tried)):
        only = sorted(seq for seq in tried if first <= seq <= last)
        if only:
            source, poisons = converter.convert_range(name, source, only[0], only[-1], only)
            left += poisons
    for kind in (True, False):  # those without a seq have a file of their own, by offset
        some = sorted(
            (one for one in left if (one.offset is None) is kind),
            key=lambda one: (one.seq, one.offset or 0),
        )
        if some:
            source = quarantine.add(landing, name, source, some)
    landing.commit(manifest.with_source(name, source))
    still = sum(one.offset is None and one.seq in tried for one in left)
    return Requeued(len(tried), len(tried) - still)


def outdated(manifest: LandingManifest) -> dict[str, str]:
    """The sources that were typed in another form than today's, each with what to do, in words."""
    return {
        name: f"{name} was typed in form {source.typed_form or 'unknown'}, the models read "
        f"{present_form()}: run `tally pipeline retype {name}`, or `tally pipeline rebuild`"
        for name, source in sorted(manifest.sources.items())
        if source.typed_seq and source.typed_form != present_form()
    }


def retype(landing: Landing, converter: Converter, name: str) -> int:
    """Make a source's typed landing and quarantine anew from the raw landing; gives its events.

    Errors: `UnknownSourceError`, `LandingTakenError`.
    """
    manifest = landing.read()
    source = source_named(manifest, name)
    without_seq = [one for one in quarantine.waiting(landing, source) if one.offset is not None]
    source = _rewritten(manifest, source, typed={}, quarantine=[], typed_form=present_form())
    if without_seq:
        source = quarantine.add(landing, name, source, without_seq)
    for first, last in chunks(1, source.typed_seq):
        source, poisons = converter.convert_range(name, source, first, last)
        if poisons:
            source = quarantine.add(landing, name, source, poisons)
    landing.commit(manifest.with_source(name, source))
    return source.typed_seq


def reland(landing: Landing, reader: TopicReader, name: str) -> None:
    """Forget what has landed of a source, so that the next landing reads its topic from the start.

    For a topic that was published anew because its records were wrong. Errors:
    `UnknownSourceError`, `LandingTakenError`; `TopicNotWholeError` where the topic does not hold
    all that has landed, and then nothing is forgotten.
    """
    manifest = landing.read()
    source = source_named(manifest, name)
    if not reader.holds_all(source):
        raise TopicNotWholeError(
            f"{source.topic} does not hold everything up to seq {source.seq}, which has landed. "
            f"Publish it from the journal first: stop the relay, delete the topic, start the relay."
        )
    empty = LandedSource(topic=source.topic, topic_id=source.topic_id)
    landing.commit(manifest.with_source(name, _rewritten(manifest, empty)))
    reader.leave_all()


def _rewritten(manifest: LandingManifest, source: LandedSource, **changes: object) -> LandedSource:
    return msgspec.structs.replace(source, rewritten=manifest.version + 1, **changes)
