"""One cell: ``python -m runners.run threat=leakage_dlg defense=gradient_noise seed=1``. Also the job of every sweep."""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from benchmark.errors import ConfigError
from runners.cli.problems import CellsFailed, guarded, sentence
from runners.config import compose
from runners.config.compose import ComposedCell
from runners.config.gate import check_search_path
from runners.store.gate import visible
from runners.store.place import writable
from runners.store.records import Record, Store
from runners.sweep import tracking
from runners.sweep.execute import OUT_OF_MEMORY, execute
from runners.sweep.plan import deferred
from runners.sweep.process import end_process, keep_plugins, leave_out_of_collection
from runners.sweep.progress import saying_so
from runners.sweep.worker_lifetime import end_with_parent

compose.register()

LEARNED = 0.02
"""Accuracy by which a model that has learned something exceeds the share of the most frequent class."""


def task(config: DictConfig) -> dict[str, Any] | None:
    """Play one cell; Hydra calls this in whatever process its launcher chose.

    Returns:
        For a sweep, what :func:`job` says.
    """
    chosen = HydraConfig.get()
    if chosen.mode == RunMode.MULTIRUN:
        end_with_parent()
        keep_plugins()
        return job(compose.cell_of(config, chosen.runtime.choices))
    code = guarded(lambda: single(compose.cell_of(config, chosen.runtime.choices)))
    if code:
        sys.exit(code)  # without returning to Hydra, which would print an error of its own
    return None


def single(cell: ComposedCell) -> None:
    """Play the cell, whether or not it has a record, and print the measured numbers.

    Raises:
        GauntletError: the user's mistake, which leaves no record.
        CellsFailed: the cell did not give an outcome; its record says why.
    """
    store = Store(writable(cell.options.store))
    tracking.check(cell.options.logger)
    with store.claim(cell.key):
        with saying_so(cell.label):
            record = execute(cell, refuse=True).record
        if kept := store.keeps(record.key, record.status):
            raise CellsFailed(f"{cell.label}: {record.status}; {record.reason}\nThe earlier record, {kept}, was kept.")
        path = store.write(record)
    tracking.log(cell.options.logger, store.root, path)
    print(f"{cell.label}: {record.status} in {record.seconds:.1f} s")
    if record.status != "ok":
        raise CellsFailed(f"{record.reason}\nRecorded in {path}")
    _print_numbers(record)
    if told := _judged(record):
        print(f"judged   {told}")
    if told := _untrained(record):
        print(f"note     {told}")
    if record.reason:  # numbers that are not finite and so are missing above
        print(f"note     {visible(record.reason)}")
    if notes := record.diagnostics.get("data_notes"):
        print(f"data     {visible(str(notes))}")
    for picture in record.media.values():
        print(f"picture  {store.root / picture}")
    print(f"record   {path}")


def job(cell: ComposedCell) -> dict[str, Any]:
    """Play the cell for a sweep unless it was finished meanwhile; never raises, so that any launcher goes on.

    Returns:
        ``key``, ``status``, whether it ran ``short`` of memory, and the artifact cache's ``hits`` and ``misses``.
    """
    store = Store(cell.options.store)
    try:
        with store.claim(cell.key):
            if store.finished(cell.key):
                return {"key": cell.key, "status": "finished", "hits": 0, "misses": 0}
            played = execute(cell, refuse=False)
            path = store.write(played.record)
        leave_out_of_collection()
        tracking.log(cell.options.logger, store.root, path)
        if played.device_lost:
            end_process(f"{cell.options.device}: the GPU reported an error that stays with the process, which ends.")
        short = played.record.reason.startswith(OUT_OF_MEMORY)
        return {
            "key": cell.key,
            "status": played.record.status,
            "short": short,
            "hits": played.hits,
            "misses": played.misses,
        }
    except Exception as error:  # the record itself could not be made or written: the sweep reports it as missing
        return {"key": cell.key, "status": "unrecorded", "reason": sentence(error) or repr(error)}


def _print_numbers(record: Record) -> None:
    for section in ("utility", "risk", "cost"):
        for name, value in getattr(record, section).items():
            print(f"{section:8} {name:24} {'-' if value is None else format(value, '.4g')}")


def _judged(record: Record) -> str:
    """Return by which risk boards judge the threat, and whether it works here; empty for a threat that has none."""
    metric, floor = record.facts.get("headline"), record.facts.get("floor")
    if metric is None:
        return ""
    value = record.risk.get(metric)
    told = f"by {metric}, " + (f"{value:.4g}" if value is not None else "which has no value here")
    if floor is None:
        return told
    reached, least = record.risk.get(floor["metric"]), floor["at_least"]
    told += f"; an attack counts from {floor['metric']} {least:g}"
    if [part["name"] for part in record.config["defense"]] == ["none"] and (reached is None or reached < least):
        told += ". It does not work here without a defense, so that it shows nothing, of the data or of a defense"
    return told


def _untrained(record: Record) -> str:
    """Return that the model has learned nothing, where its accuracy is that of the most frequent class."""
    accuracy, majority = record.utility.get("test_accuracy"), record.diagnostics.get("majority_share")
    if accuracy is None or not isinstance(majority, float) or accuracy > majority + LEARNED:
        return ""
    return (
        f"The model learned nothing: the most frequent class is {majority:.4g} of the test part. What it leaks or "
        "withstands says little; train longer (setting.local_steps, setting.epochs) or in other steps (setting.lr)."
    )


def application(config_name: str) -> int:
    """Run the Hydra application on ``conf/<config_name>.yaml`` and return the exit code."""

    def start() -> None:
        check_search_path(sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv):
            sys.argv[1:] = deferred(sys.argv[1:])
        begun = False

        @wraps(task)
        def begin(config: DictConfig) -> dict[str, Any] | None:
            nonlocal begun
            begun = True
            return task(config)

        try:
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(begin)()
        except ValueError as error:
            if begun:
                raise
            raise ConfigError(f"{error}.") from error  # a flag of Hydra's that it cannot obey

    return guarded(start)


def main() -> int:
    """Run the command line and return the exit code."""
    return application("config")


if __name__ == "__main__":
    from runners.run import main as importable  # other processes cannot find the task of a module named __main__

    sys.exit(importable())
