"""Playing of one composed cell, and its record whatever happened."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from benchmark import clock
from benchmark.errors import Diverged, GauntletError
from runners.config import brought
from runners.config.build import build, locate
from runners.config.compose import ComposedCell
from runners.config.identity import SINGLE
from runners.store.cache import Cache
from runners.store.gate import Gate
from runners.store.records import FINISHED, Record, StoreError, finite
from runners.sweep import devices, environment
from runners.sweep.process import give_back_memory, prepare_torch
from runners.sweep.time_limit import play_within

if TYPE_CHECKING:
    from benchmark.cell import Cell
    from benchmark.outcome import Outcome

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which nothing above does

OUT_OF_MEMORY = "out of memory"
"""Beginning of the reason of a cell that failed for it."""
LESS_MEMORY = "lower the batch size, restarts or victims, or run fewer cells at once"
SECTIONS = ("utility", "risk", "cost", "diagnostics", "curves")


@dataclass(frozen=True)
class Played:
    """A record, and what the artifact cache did for it (which is not part of it: it depends on who came first).

    Attributes:
        device_lost: the GPU answers this process no more; it can only end.
    """

    record: Record
    hits: int = 0
    misses: int = 0
    device_lost: bool = False


def execute(composed: ComposedCell, *, refuse: bool) -> Played:
    """Build and play the cell, in a process of its own where it has a time limit.

    Args:
        refuse: let a user's mistake (:class:`GauntletError`) out instead of recording it as a failed cell.
    """
    if composed.options.time_limit is None:
        return play_here(composed, refuse=refuse)
    return play_within(composed, refuse=refuse)


def play_here(
    composed: ComposedCell, *, refuse: bool, waiting: Callable[[], AbstractContextManager[None]] | None = None
) -> Played:
    """Build and play the cell in this process, whatever its time limit; see :func:`execute`.

    Args:
        waiting: entered while the cell waits for another process; None: other threads may run then.
    """
    started, began = datetime.now(UTC), clock.read()
    attempt = _Attempt(composed, waiting)
    status, reason = "ok", ""
    try:
        reason = attempt.play()
    except Diverged as error:
        status, reason = "diverged", str(error)
    except StoreError:  # a full disk is not the cell's failure, and its record could not be written either
        raise
    except GauntletError as error:
        if refuse:
            raise
        status, reason = "failed", str(error)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they hold memory, whose lack may have failed the cell
        status, reason = "failed", _explained(error)
        give_back_memory()  # so that the next cell has it
    record = _record(
        composed,
        status,
        reason,
        clock.read() - began,
        facts=attempt.facts,
        started=started,
        peak_memory_mb=attempt.peak_memory(),
        device=attempt.device_name,
        **attempt.measured,
    )
    if record.status in FINISHED and (fault := Gate().fault(asdict(record), record.key)):
        # A component has measured what cannot be; the record says so and holds no such number.
        bare: dict[str, Any] = {
            name: {} for name in ("utility", "risk", "cost", "diagnostics", "curves", "media", "captions")
        }
        record = replace(record, status="failed", reason=fault, **bare)
    hits, misses = (attempt.cache.hits, attempt.cache.misses) if attempt.cache else (0, 0)
    return Played(record, hits, misses, device_lost=not _free(attempt.device))


def lost(composed: ComposedCell, seconds: float) -> Record:
    """Return the record of a cell that took its process down with it."""
    reason = (
        f"its worker process died, twice, the second time with no other cell beside it; if the system killed it "
        f"for want of memory, {LESS_MEMORY}"
    )
    return unplayed(composed, "failed", reason, seconds)


def unplayed(composed: ComposedCell, status: str, reason: str, seconds: float) -> Record:
    """Return the record of a cell whose process ended before the cell did, ``seconds`` after its start."""
    return _record(
        composed,
        status,
        reason,
        seconds,
        facts=threat_facts(composed),
        started=datetime.now(UTC) - timedelta(seconds=seconds),
        peak_memory_mb=None,
        device=composed.options.device,
        data=None,
    )


def _record(
    composed: ComposedCell,
    status: str,
    reason: str,
    seconds: float,
    *,
    facts: dict[str, Any],
    started: datetime,
    **found: Any,
) -> Record:
    """Return a record with what is known of every cell, and with what was ``found`` of this one."""
    return Record(
        key=composed.key,
        sweep=composed.options.sweep,
        status=status,
        reason=reason,
        config=composed.config,
        facts=facts | brought.facts(composed.nodes["dataset"]),
        seed=composed.config["seed"],
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        versions=environment.versions(composed.targets()),
        **found,
    )


def import_all() -> None:
    """Import what every cell needs."""
    for name in ("benchmark.cell", "runners.report.charts", "runners.report.pictures"):
        importlib.import_module(name)


class _Attempt:
    """Facts known of a cell while it plays, so that a record can be made wherever it stops.

    Attributes:
        facts: facts of the threat.
        measured: the fields of a record that come from the outcome.
    """

    def __init__(self, composed: ComposedCell, waiting: Callable[[], AbstractContextManager[None]] | None) -> None:
        self.composed, self.waiting = composed, waiting
        self.device = self.device_name = composed.options.device
        self.memory: environment.PeakMemory | None = None
        self.cache: Cache | None = None
        self.facts: dict[str, Any] = {}
        self.measured: dict[str, Any] = {"data": None}

    def play(self) -> str:
        """Build and play the cell; return a text on numbers that were lost for not being finite."""
        from benchmark.cell import play
        from benchmark.rendezvous import aside
        from benchmark.settings.base import no_cache
        from runners.report import charts, pictures

        composed, options = self.composed, self.composed.options
        self.facts = threat_facts(composed)
        self.device = devices.assign(options.device)
        self.device_name = environment.device_name(self.device)
        prepare_torch(options.threads, self.device)
        self.memory = environment.PeakMemory(self.device)
        cell = build_cell(composed)
        self.facts = threat_facts(composed, cell.threat, cell.dataset)
        if options.cache:
            self.cache = Cache(options.store, composed.config, self.device, composed.targets(), self.waiting or aside)
        try:
            outcome, data = play(cell, root=options.data_root, device=self.device, cache=self.cache or no_cache)
            if self.cache:
                outcome.diagnostics["shared_seconds"] = self.cache.seconds
        finally:
            self.facts = threat_facts(composed, cell.threat, cell.dataset)  # whose kind may be known now
        sections, lost = _sections(outcome)
        media = pictures.save(outcome, options.store, composed.key[:16])
        media |= charts.save(sections["curves"], outcome.captions, options.store, composed.key[:16])
        self.measured = {**sections, "captions": outcome.captions, "media": media, "data": data}
        return "; ".join(lost)

    def peak_memory(self) -> float | None:
        """Return the peak in MB, or None where nothing tells."""
        with suppress(RuntimeError):  # of a GPU that answers no more
            return self.memory.read() if self.memory else None
        return None


def build_cell(composed: ComposedCell) -> Cell:
    """Instantiate every component of the cell.

    Raises:
        ConfigError: see :func:`runners.config.build.build`.
    """
    from benchmark.cell import Cell

    nodes, trusted = composed.nodes, composed.options.trusted
    parts = {group: build(nodes[group], group, trusted) for group in SINGLE}
    return Cell(
        dataset=parts["dataset"],
        architecture=parts["model"],
        setting=parts["setting"],
        threat=parts["threat"],
        defenses=[build(node, f"defense.{name}", trusted) for name, node in nodes["defense"].items()],
        seed=composed.config["seed"],
        precision=composed.precision,
    )


def threat_facts(composed: ComposedCell, threat: Any = None, dataset: Any = None) -> dict[str, Any]:
    """Return the facts of the threat that leaderboards need; on the kind of data depends what it is judged by.

    Args:
        threat, dataset: the objects; None, before they are built: their classes.
    """
    from benchmark.settings.threat import judged

    trusted, node = composed.options.trusted, composed.nodes["threat"]
    source = threat or locate(node["_target_"], "threat", trusted)
    kind = (dataset or locate(composed.nodes["dataset"]["_target_"], "dataset", trusted)).kind
    facts = {name: getattr(source, name, None) for name in ("family", "setting", "surface", "control")}
    facts["headline"], floor = judged(source, kind)
    facts["floor"] = None if floor is None else {"metric": floor.metric, "at_least": floor.at_least}
    facts["adaptive"] = bool(getattr(threat, "adaptive", node.get("adaptive", False)))
    return facts


def _sections(outcome: Outcome) -> tuple[dict[str, Any], list[str]]:
    fields, lost = {}, []
    for section in SECTIONS:
        fields[section], gone = finite(section, getattr(outcome, section))
        lost += gone
    return fields, lost


def _free(device: str) -> bool:
    """Give the GPU's memory back to whoever shares it; return whether the GPU still answers this process."""
    if device.startswith("cuda"):
        import gc

        import torch

        gc.collect()
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # an error of CUDA stays with the process: every later call raises it again
            return False
    return True


def _explained(error: Exception) -> str:
    """Return the traceback, headed by a remedy where there is one."""
    import torch

    trace = "".join(traceback.format_exception(error)).rstrip()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"{OUT_OF_MEMORY}: {LESS_MEMORY}\n{trace}"
    return trace
