"""Hydra's interface to :func:`runners.sweep.sweep.sweep`."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GauntletSweeper(Sweeper):
    """Hydra sweeper that expands a sweep's blocks, skips finished cells and hands the rest to any launcher.

    Args:
        plan_only: ``text`` or ``json`` prints the plan and stops.
    """

    def __init__(self, plan_only: str | None = None) -> None:
        self.plan_only = plan_only

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from runners.config.loader import SweepLoader, without_blocks

        self.config = config
        self.loader = SweepLoader(hydra_context.config_loader)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(self.loader, hydra_context.callbacks),  # type: ignore[arg-type]
            task_function=task_function,
            config=without_blocks(config),
        )

    def sweep(self, arguments: list[str]) -> Any:
        from runners.sweep.sweep import sweep

        return sweep(self.loader, self.config, self.launcher, arguments, plan_only=self.plan_only)
