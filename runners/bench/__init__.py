"""Speed of hot paths against plain references and, where one is installed, against another library.

``gauntlet bench`` runs all, ``gauntlet bench NAME`` one, ``gauntlet bench --check`` those whose ratios were accepted. A
module here holds one family of paths and names them in its ``PATHS``; the docstring of each states the floor, the time
that every implementation needs, or, of a whole job, what is compared.
"""

from __future__ import annotations

from collections.abc import Callable

from runners.bench import aggregators, dp_sgd, evasion_jobs, inversion, jobs, jsma, populations, rounds, sinkhorn
from runners.bench.accepted import accept, check
from runners.bench.measure import HotPath, Peer, largest_relative, measure, run_all

__all__ = ["HOT_PATHS", "QUICK", "HotPath", "Peer", "accept", "check", "largest_relative", "measure", "run_all"]

FAMILIES = (inversion, rounds, aggregators, dp_sgd, sinkhorn, populations, jsma)
JOBS = (jobs, evasion_jobs)
"""Families of whole jobs, which take seconds: CI does not hold them against accepted ratios."""
HOT_PATHS: dict[str, Callable[..., HotPath]] = {
    name: build for family in (*FAMILIES, *JOBS) for name, build in family.PATHS.items()
}
"""Builders of the paths; each takes the device, by default the CPU."""
QUICK = ("inversion_8", "federated_round_digits", "krum", "dp_sgd", "sinkhorn", "shadow_models", "jsma")
"""One of each family but those of jobs, of which CI looks whether it has become slow."""
