"""The suite's Hydra launcher for one machine: Hydra's side of :func:`runners.sweep.pool.call_all`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Plays each job in one of several worker processes.

    Args:
        jobs: workers at a time; there are never more of them than jobs.
    """

    def __init__(self, jobs: int = 2) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Return a ``JobReturn`` for each job, or :class:`runners.sweep.pool.Lost` where its worker died."""
        from hydra.core.singleton import Singleton

        from runners.sweep.pool import call_all

        given = self.hydra_context, self.config, self.task_function, Singleton.get_state()
        jobs = enumerate(job_overrides, start=initial_job_idx)
        calls = [(_play, (number, list(overrides), *given)) for number, overrides in jobs]
        return call_all(calls, self.jobs, [_but_the_threat(overrides) for overrides in job_overrides])


def _but_the_threat(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return what cells have in common that share models, releases and federations."""
    return tuple(line for line in overrides if not line.startswith(("threat=", "threat.")))


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
