"""Guarantees of a voting ensemble against malicious owners, and the worst that they could do."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from benchmark.crypto.secure_costs import Unavailable
from benchmark.data.base import Split
from benchmark.metrics.classification import attack_success
from benchmark.metrics.voting import certified, independent_accuracy, tally, worst_votes
from benchmark.outcome import Outcome
from benchmark.settings.base import Artifact, CellContext
from benchmark.training.ensemble import VotingEnsemble
from benchmark.training.functional import Net


def report_votes(
    outcome: Outcome,
    test: Split,
    goal: Split | None,
    clean: VotingEnsemble,
    attacked: VotingEnsemble,
    members: Tensor,
) -> None:
    """Add certificates, worst cases and the filter's verdicts to ``outcome``.

    Args:
        goal: the inputs that the threat wants misclassified, labelled as it wants them.
        clean: the ensemble without an attack; attacked: with it; members: int64 (t,), the malicious owners.
    """
    classes = int(clean.votes(test.x[:1]).shape[1])
    owners, t = len(clean.models), len(members)
    ballots = clean.ballots(test.x)
    right = tally(ballots, clean.counted.to(ballots.device), classes).argmax(dim=1) == test.y

    def safe(poisoned: int) -> float:
        """Return the share of the test samples that are classified rightly whatever ``poisoned`` owners do."""
        sure = certified(ballots, clean.counted, movable(clean, poisoned), classes, poisoned)
        return (sure & right).double().mean().item()

    outcome.utility["certified_accuracy"] = safe(t)
    outcome.curves["certified accuracy by poisoned owners"] = [safe(k) for k in range(owners // 2 + 1)]
    single = torch.stack([(said == test.y).double().mean() for said in ballots]).mean().item()
    outcome.utility["single_owner_accuracy"] = single
    if 2 * t < owners:
        outcome.diagnostics["accuracy_bound_if_errors_were_independent"] = independent_accuracy(owners, t, single)
    said = attacked.ballots(test.x)
    withstood = worst_votes(said, attacked.counted, members, test.y, classes)
    outcome.utility["worst_case_accuracy"] = withstood.double().mean().item()
    if goal is not None and t:
        votes = torch.stack([_fixed(attacked, members, goal, label) for label in goal.y.unique().tolist()])
        outcome.risk["worst_case_success"] = votes.sum().item() / len(goal)
    kept = attacked.counted.clone()
    outcome.diagnostics["kept_poisoned"] = int(kept[members].sum())
    kept[members] = False
    outcome.diagnostics["kept_honest"] = int(kept.sum())
    outcome.diagnostics["kept_without_attack"] = int(clean.counted.sum())
    outcome.diagnostics["lowest_validation_accuracy"] = clean.scores.min().item()


def spent_inside(context: CellContext, outcome: Outcome, net: Net, parties: int) -> None:
    """Add the costs of the defense inside multi-party computation, or the reason why they were not measured."""

    def build() -> Artifact:
        told = context.defense.secure_costs(net, len(context.data.owner), parties)
        return {"told": torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)}

    if not context.defense.mpc:
        return
    try:
        artifact = context.cache(("secure_costs", "dataset", "model", "setting", "defense", "scale"), build)
    except Unavailable as reason:
        outcome.diagnostics["mpc_skipped"] = str(reason)
        return
    for name, value in json.loads(bytes(artifact["told"].tolist())).items():
        measured = isinstance(value, (int, float)) and name.endswith(("_seconds", "_bytes_sent", "_messages"))
        (outcome.cost if measured else outcome.diagnostics)[name] = value


def _fixed(attacked: VotingEnsemble, members: Tensor, goal: Split, label: int) -> Tensor:
    """Return how many inputs with the wanted ``label`` get it if all malicious models are counted and vote for it."""
    part = goal[goal.y == label]
    votes = attacked.with_fixed(members, label).votes(part.x)
    return torch.tensor(attack_success(votes, part.y) * len(part))


def movable(ensemble: VotingEnsemble, poisoned: int) -> Tensor:
    """Return which owners' scores ``poisoned`` owners could move over the threshold by their validation samples.

    Every owner hands over equally many, so that they hold poisoned / owners of all and move a score by no more.
    """
    reach = poisoned / len(ensemble.models)
    return (ensemble.scores - ensemble.threshold).abs() <= reach + 1e-9
