"""The suite's Hydra launcher for one machine: Hydra's side of :func:`runners.sweep.pool.call_all`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Plays each job in one of several worker processes.

    Args:
        jobs: workers at a time; there are never more of them than jobs.
        together: cells that differ in the seed alone and are played as one batch, see :mod:`benchmark.rendezvous`.
    """

    def __init__(self, jobs: int = 2, together: int = 1) -> None:
        self.jobs, self.together = jobs, together

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Return a ``JobReturn`` for each job, or :class:`runners.sweep.pool.Lost` where its worker died."""
        from hydra.core.singleton import Singleton

        from runners.sweep.pool import Lost, call_all

        given = self.hydra_context, self.config, self.task_function, Singleton.get_state()
        batches = _batches(job_overrides, self.together)
        calls = [
            (_play_batch, ([(initial_job_idx + i, list(job_overrides[i])) for i in batch], *given)) for batch in batches
        ]
        firsts = [job_overrides[batch[0]] for batch in batches]
        kinds = [_without(("threat",), overrides) for overrides in firsts]
        families = [_without(("threat", "defense"), overrides) for overrides in firsts]
        played = call_all(calls, self.jobs, kinds, families)
        returns: list[Any] = [Lost] * len(job_overrides)
        for batch, answers in zip(batches, played, strict=True):
            if answers is not Lost:
                for index, answer in zip(batch, answers, strict=True):
                    returns[index] = answer
        return returns


def _batches(job_overrides: Sequence[Sequence[str]], most: int) -> list[list[int]]:
    """Return the numbers of the jobs in batches of at most ``most`` that differ in the seed alone, by their first."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, overrides in enumerate(job_overrides):
        alike.setdefault(_without(("seed",), overrides), []).append(index)
    return sorted(same[start : start + most] for same in alike.values() for start in range(0, len(same), most))


def _without(parts: Sequence[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a cell but for those of some ``parts``.

    Cells that differ in the threat alone share models, releases and federations; those that differ in the defense as
    well still share what the undefended side of each makes: an honest model, the batches of a screen.
    """
    begins = tuple(f"{part}{sign}" for part in parts for sign in "=.")
    return tuple(line for line in overrides if not line.startswith(begins))


def _play_batch(batch: list[tuple[int, list[str]]], *given: Any) -> list[Any]:
    """Play jobs in a worker, which take turns where there are several."""
    if len(batch) == 1:
        return [_play(*batch[0], *given)]
    from benchmark.rendezvous import in_turns

    return in_turns([partial(_play, *job, *given) for job in batch])


def _play(
    number: int,
    overrides: list[str],
    hydra_context: HydraContext,
    config: DictConfig,
    task_function: TaskFunction,
    state: Any,
    note: Any,
) -> Any:
    """Play one job in a worker, as Hydra's own launchers do."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import run_job, setup_globals
    from omegaconf import open_dict

    setup_globals()
    Singleton.set_state(state)
    cell = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(cell):
        cell.hydra.job.id, cell.hydra.job.num = f"{cell.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(cell)
    return run_job(
        hydra_context=hydra_context,
        config=cell,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
