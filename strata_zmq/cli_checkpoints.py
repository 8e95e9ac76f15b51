"""`strata checkpoints`: list, look at, verify, keep, clear and export checkpoints; all it knows is options and output.

Exit code 0: done; 1: damage was found, or it failed; 2: the command was not understood.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry

__all__ = ["app"]

app = typer.Typer(
    help="Look at checkpoints, verify, keep, clear and export them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

T = TypeVar("T")
EXIT_DAMAGED = 1
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

_Place = Annotated[
    str,
    typer.Argument(
        metavar="[PLACE]",
        help="The folder that holds HEAD, or s3://bucket/prefix; by default where the environment says.",
        show_default=False,
    ),
]
_Which = Annotated[str, typer.Argument(metavar="[CHECKPOINT]", help='An id, a step, or "latest".', show_default=True)]
_Ids = Annotated[list[str], typer.Argument(metavar="CHECKPOINT...", help='Ids, steps, or "latest".')]
_Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("ls")
def list_checkpoints(place: _Place = "", as_json: _Json = False) -> None:
    """List the committed checkpoints, oldest first."""

    async def look(store: CheckpointStore) -> None:
        head = await store.head()
        rows = [
            {
                "checkpoint_id": entry.checkpoint_id,
                "step": entry.step,
                "epoch": entry.epoch,
                "kind": entry.kind,
                "world_size": entry.world_size,
                "size_bytes": entry.size_bytes,
                "created_at": entry.created_at,
                "metrics": dict(entry.metrics),
                "pinned": entry.checkpoint_id in head.pins,
                "verified": entry.checkpoint_id == head.verified,
            }
            for entry in head.retained
        ]
        if as_json:
            _print_json(rows)
            return
        table = [("CHECKPOINT", "STEP", "EPOCH", "KIND", "RANKS", "SIZE", "SAVED (UTC)", "METRICS", "")]
        table += [
            (
                str(row["checkpoint_id"]),
                str(row["step"]),
                str(row["epoch"]),
                str(row["kind"]),
                str(row["world_size"]),
                _size(entry.size_bytes),
                _moment(entry.created_at),
                _metrics(entry.metrics),
                " ".join(word for word in ("pinned", "verified") if row[word]),
            )
            for row, entry in zip(rows, head.retained, strict=True)
        ]
        if not rows:
            typer.echo(f"no checkpoint is committed in {store.storage.url}", err=True)
            return
        _print_table(table)

    _with_store(place, look)


@app.command()
def show(place: _Place = "", checkpoint: _Which = "latest", as_json: _Json = False) -> None:
    """Show what a checkpoint holds: ranks, arrays, metadata."""

    async def look(store: CheckpointStore) -> None:
        from strata_zmq.checkpoint.gathering import read_indexes

        entry = await _one(store, checkpoint)
        manifest = await store.read_manifest(entry)
        indexes = await read_indexes(store, manifest)
        found = {
            "checkpoint_id": manifest.checkpoint_id,
            "path": store.path(manifest.checkpoint_id).rstrip("/"),
            "step": manifest.step,
            "epoch": manifest.epoch,
            "term": manifest.term,
            "generation": manifest.generation,
            "kind": manifest.kind,
            "created_at": manifest.created_at,
            "size_bytes": manifest.size_bytes,
            "metadata": dict(manifest.metadata),
            "metrics": dict(manifest.metrics),
            "parent": manifest.parent,
            "refers_to": list(manifest.refs),
            "ranks": [asdict(rank) for rank in manifest.ranks],
            "arrays": [
                {
                    "rank": index.rank,
                    "path": tensor.path,
                    "dtype": tensor.dtype,
                    "shape": tensor.shape,
                    "tag": tensor.tag,
                    "global_shape": tensor.global_shape,
                    "global_offsets": tensor.global_offsets,
                    "nbytes": tensor.nbytes,
                }
                for index in indexes
                for tensor in index.tensors
            ],
        }
        if as_json:
            _print_json(found)
            return
        typer.echo(f"{manifest.checkpoint_id}  step {manifest.step}, epoch {manifest.epoch}, {manifest.kind}")
        typer.echo(f"{_size(manifest.size_bytes)} of {manifest.world_size} ranks, saved {_moment(manifest.created_at)}")
        typer.echo(str(found["path"]))
        for name, value in (*manifest.metadata.items(), *manifest.metrics.items()):
            typer.echo(f"  {name}: {value}")
        if manifest.refs:
            typer.echo(f"refers to bytes of {', '.join(manifest.refs)}")
        for index in indexes:
            entry_of_rank = manifest.ranks[index.rank]
            typer.echo(f"rank {index.rank} ({entry_of_rank.worker_id}): {_size(entry_of_rank.size_bytes)}")
            _print_table(
                [
                    (
                        f"  {tensor.path}",
                        tensor.tag if ":" in tensor.tag else tensor.dtype,
                        "x".join(map(str, tensor.shape)) or "()",
                        "" if tensor.global_shape is None else f"at {tensor.global_offsets} of {tensor.global_shape}",
                    )
                    for tensor in index.tensors
                ]
            )

    _with_store(place, look)


@app.command()
def verify(
    place: _Place = "",
    checkpoint: Annotated[
        str, typer.Argument(metavar="[CHECKPOINT]", help='An id, a step, "latest" or "all".')
    ] = "latest",
    sample: Annotated[float, typer.Option(help="Read this share of the chunks, chosen by chance.")] = 1.0,
    as_json: _Json = False,
) -> int:
    """Read a checkpoint and compare everything with its digests; the exit code is 1 where anything is damaged."""

    async def look(store: CheckpointStore) -> int:
        from strata_zmq.checkpoint.verify import verify as verify_one

        entries = await store.entries() if checkpoint == "all" else [await _one(store, checkpoint)]
        reports = []
        for entry in entries:
            began = time.perf_counter()
            report = await verify_one(store, entry, sample=sample)
            took = time.perf_counter() - began
            reports.append({**asdict(report), "ok": report.ok, "seconds": took})
            if as_json:
                continue
            read = f"{_size(report.bytes)} in {report.objects} objects, {took:.1f} s"
            part = "" if report.complete else ", a part of it"
            typer.echo(f"{report.checkpoint_id}: {'good' if report.ok else 'DAMAGED'} ({read}{part})")
            for key, reason in report.damaged:
                typer.echo(f"  {reason if key in reason else f'{key}: {reason}'}")
        if as_json:
            _print_json(reports)
        return 0 if all(report["ok"] for report in reports) else EXIT_DAMAGED

    return _with_store(place, look)


@app.command()
def gc(
    place: _Place = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also what may still be written by somebody who cannot be looked at from here."),
    ] = False,
    as_json: _Json = False,
) -> None:
    """Delete what aborted saves left behind. Committed checkpoints, and what they refer to, are never touched."""

    async def clear(store: CheckpointStore) -> None:
        from strata_zmq.checkpoint.garbage import is_past
        from strata_zmq.checkpoint.owner import writer_is_gone

        head = await store.head()
        found = await store.unreachable()
        dead = {
            checkpoint_id
            for checkpoint_id, note in found.items()
            if everything
            or is_past(head, checkpoint_id)
            or checkpoint_id in head.retired
            or (note is not None and writer_is_gone(note))
        }
        spared = sorted(set(found) - dead)
        gone = sorted(dead)
        if not dry_run:
            # Buried, none of them can be committed any more by somebody who was taken for dead.
            gone = await store.bury(gone)
            for checkpoint_id in gone:
                await store.discard(checkpoint_id)
            await store.sweep()
        if as_json:
            _print_json({"deleted": [] if dry_run else gone, "would_delete": gone if dry_run else [], "spared": spared})
            return
        for checkpoint_id in gone:
            typer.echo(f"{'would delete' if dry_run else 'deleted'} {checkpoint_id}")
        for checkpoint_id in spared:
            typer.echo(f"left {checkpoint_id}: it may be a save under way (--all deletes it, too)")
        if not gone and not spared:
            typer.echo("nothing to delete")

    _with_store(place, clear)


@app.command()
def pin(place: _Place, checkpoints: _Ids) -> None:
    """Keep checkpoints, whatever the retention says."""

    async def keep(store: CheckpointStore) -> None:
        names = [(await _one(store, one)).checkpoint_id for one in checkpoints]
        head = await store.set_pins(add=names)
        typer.echo(f"pinned: {', '.join(head.pins)}")

    _with_store(place, keep)


@app.command()
def unpin(place: _Place, checkpoints: _Ids) -> None:
    """Leave checkpoints to the retention again; nothing is deleted before the next save."""

    async def let_go(store: CheckpointStore) -> None:
        pins = (await store.head()).pins
        names = [one if one in pins else (await _one(store, one)).checkpoint_id for one in checkpoints]
        head = await store.set_pins(remove=names)
        typer.echo(f"pinned: {', '.join(head.pins) or 'none'}")

    _with_store(place, let_go)


@app.command()
def export(
    place: _Place,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help='An id, a step, or "latest".')],
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
    file_format: Annotated[Literal["safetensors"], typer.Option("--format", help="Of the file.")] = "safetensors",
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A pattern such as model.*, as often as needed; none: all.", show_default=False),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="This rank's own arrays; else those of all ranks, joined.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a checkpoint's arrays into one file for other programs."""

    async def write(store: CheckpointStore) -> None:
        from strata_zmq.checkpoint.export import export_safetensors

        entry = await _one(store, checkpoint)
        report = await export_safetensors(store, entry, output, rank=rank, names=name, overwrite=overwrite)
        typer.echo(f"{report.path}: {report.arrays} arrays, {_size(report.bytes)}, {file_format}")
        if report.left_out:
            typer.echo(f"left out, being byte strings: {', '.join(report.left_out)}", err=True)

    _with_store(place, write)


def _with_store(place: str, work: Callable[[CheckpointStore], Coroutine[Any, Any, T]]) -> T:
    import asyncio

    from strata_zmq.checkpoint.tiers import open_store
    from strata_zmq.errors import InvalidArgumentError
    from strata_zmq.storage import default_place

    where = place or default_place()
    if where is None:
        raise InvalidArgumentError(
            "PLACE is missing: give a folder, s3://bucket/prefix or NEAR,FAR, or set STRATA_CHECKPOINT_PATH"
        )

    async def run() -> T:
        store = open_store(where)
        try:
            return await work(store)
        finally:
            await store.storage.close()

    return asyncio.run(run())


async def _one(store: CheckpointStore, which: str) -> HeadEntry:
    from strata_zmq.checkpoint.choosing import Choice, choose

    # An id of digits alone is one that nobody's save is given.
    return (await choose(store, Choice(int(which) if which.isdecimal() else which)))[0]


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _size(nbytes: float) -> str:
    for unit in _UNITS:
        if nbytes < 1024 or unit == _UNITS[-1]:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    raise AssertionError


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _metrics(metrics: Any) -> str:
    return " ".join(f"{name}={value:g}" for name, value in metrics.items())
