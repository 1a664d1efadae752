"""Hydra callbacks of every run and sweep, set in ``conf/config.yaml``."""

from __future__ import annotations

from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Forget(Callback):
    """Callback that drops a job's configs once it has ended: a launcher keeps every job's return, 300 kB with them."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None
