"""The scene of a participant that asks which samples the others train on; it is the last party."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import Round
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.classification import accuracy
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.witness_surfaces import WitnessSurface, WitnessThreat
from benchmark.training.federated import Federation
from benchmark.training.functional import Net

MOST = 200  # candidates of each kind


def play_witness(
    stage: Stage, outcome: Outcome, net: Net, shares: Sequence[Split], run: Callable[[Mapping[str, Any]], Federation]
) -> Outcome:
    """Let the threat watch, and perhaps steer, the collaboration, and score what it says of the candidates.

    Args:
        outcome: with the utility and cost of the honest run.
        shares: each party's samples; the last are the participant's own.
        run: plays the collaboration with these taps (see :func:`benchmark.training.federated.federate`).

    Raises:
        ConfigError: the participant is alone. Diverged: a model is not finite.
    """
    threat = stage.threat
    assert isinstance(threat, WitnessThreat)
    if len(shares) < 2:
        raise ConfigError("A participant needs others whose samples it can ask about; raise setting.parties.")
    candidates, members = _candidates(stage, shares)
    seat = len(shares) - 1
    models: list[Tensor] = []

    def visit(round: Round, holding: Sequence[Split]) -> Sequence[Split]:
        models.append(round.params.detach())
        return holding

    def deviate(round: Round, updates: Tensor) -> Tensor:
        row = round.parties == seat
        if threat.steers and row.any():
            updates = updates.clone()
            updates[row] = threat.steer(net, round.params, updates[row][0], candidates)
        return updates

    finished = run({"visit": visit, "deviate": deviate})
    seen = torch.stack([*models[1:], finished.params])
    if not torch.isfinite(seen).all():
        raise Diverged("the federated model has NaN or infinite parameters; lower setting.lr or the threat's strength.")
    surface = WitnessSurface(net, seen, candidates, stage.data.attacker, members)
    guess = threat(surface, seed=stage.seed)
    spent = outcome.cost.get("epsilon")
    budget = None if spent is None else (spent, outcome.cost.get("delta", 0.0))
    successes, notes = score_membership(guess.scores, members, guess.threshold, budget)
    outcome.risk |= successes
    outcome.diagnostics |= notes | guess.diagnostics | {"attack_seconds": guess.seconds}
    test = stage.data.test
    outcome.utility["attacked_accuracy"] = accuracy(net.logits(finished.params, test.x), test.y)
    return outcome


def _candidates(stage: Stage, shares: Sequence[Split]) -> tuple[Split, Tensor]:
    """Samples of the other parties and as many test samples, shuffled; and bool (n,) which are the former."""
    rng = stage.rng("witness.candidates")
    x, y = (torch.cat([getattr(share, name) for share in shares[:-1]]) for name in ("x", "y"))
    test = stage.data.test
    count = min(MOST, len(y), len(test))
    inside, outside = (torch.randperm(size, generator=rng)[:count] for size in (len(y), len(test)))
    order = torch.randperm(2 * count, generator=rng)
    found = Split(torch.cat([x[inside], test.x[outside]])[order], torch.cat([y[inside], test.y[outside]])[order])
    return found, (torch.arange(2 * count) < count)[order]
