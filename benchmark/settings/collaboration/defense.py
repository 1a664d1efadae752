"""Federated defenses: their hooks, and what a round tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.settings.collaboration.published import Published
from benchmark.settings.defense import Defense, hook
from benchmark.training.functional import Layout, Net

Predictor = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LocalPlan:
    """How much work stands behind one upload.

    Attributes:
        batch_size: samples in each local step.
        local_steps: local SGD steps between download and upload.
        lr: local learning rate; momentum, weight_decay: of local SGD, which starts each round without momentum.
    """

    batch_size: int
    local_steps: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass
class LocalStep:
    """One party's batch, from which a defense computes what it calls the gradient.

    Attributes:
        net: the model as a function of a parameter vector.
        params: (d,) where the gradient is taken.
        x: (batch, ...) inputs; y: (batch,) labels or (batch, classes) soft labels.
        rng: the party's own randomness.
    """

    net: Net
    params: Tensor
    x: Tensor
    y: Tensor
    rng: torch.Generator

    def gradient(self) -> Tensor:
        """The plain mean gradient (d,)."""
        return self.net.gradient(self.params, self.x, self.y)

    def per_sample(self) -> Tensor:
        """The gradient of each sample, (batch, d)."""
        return self.net.per_sample_gradients(self.params, self.x, self.y)


@dataclass
class Round:
    """One round of a collaboration: what a protocol needs to know, and what it publishes and spends.

    Attributes:
        index: 0, 1, ...
        layout: how a flat update (d,) is cut into parameters.
        params: (d,) the global model that was sent out.
        parties: int64 (n,) identities of the selected parties; row i of every update matrix is theirs.
        rng: randomness of this round's protocol.
        published: what the defense's users would publish, by the vocabulary of :class:`Published`.
        active: bool (n,), cleared for parties that end up contributing nothing.
        server_update: gives the update (d,) that the server computes on its own root data with the parties' plan, from
            ``params``; None where the server holds no data.
        inputs: (n, steps, batch, ...) what the parties' local steps read; only a party's own side of a defense may look
            at its row. None where the setting does not tell.
        net: the model that the parties run, and ``lr`` their local learning rate; for their own side of a defense. None
            where the setting does not tell.
        held: (n, d) what each party starts from when it downloads a share only (see ``download``), else None.
        last: (d,) the direction of the round before, or None in the first; whoever keeps the last model knows it.
        validation: party -> samples of its own that it does not train on; None where the setting does not tell.
        bytes_sent, messages: traffic between all parties and the server that the protocol adds or causes.
    """

    index: int
    layout: Layout
    params: Tensor
    parties: Tensor
    rng: torch.Generator
    published: Published = field(default_factory=lambda: Published())
    active: Tensor = field(default=None)  # type: ignore[assignment]
    server_update: Callable[[], Tensor] | None = None
    inputs: Tensor | None = None
    net: Net | None = None
    lr: float = 1.0
    held: Tensor | None = None
    last: Tensor | None = None
    validation: Callable[[int], Split] | None = None
    bytes_sent: float = 0.0
    messages: int = 0

    def __post_init__(self) -> None:
        if self.active is None:
            self.active = torch.ones(len(self.parties), dtype=torch.bool)

    def publish(self, **facts: Any) -> None:
        """Tell everybody a fact about this round, e.g. ``publish(groups=pairs)``; see :class:`Published`.

        Words that :class:`Published` does not know are those of a release, and mean nothing here.
        """
        if facts.get("mask") is not None and self.published.mask is not None:
            facts["mask"] = facts["mask"] & self.published.mask  # stacked defenses: what both let through
        known = {field.name for field in fields(Published)}
        self.published = replace(self.published, **{word: fact for word, fact in facts.items() if word in known})

    def send(self, *, bytes_sent: float, messages: int) -> None:
        """Count traffic of the protocol itself (the download and the upload are counted by the setting)."""
        self.bytes_sent += bytes_sent
        self.messages += messages


@dataclass
class Federation:
    """A finished collaboration.

    Attributes:
        params: (d,) the last global model.
        local_models: (parties, d), the last model that each party trained itself.
        bytes_sent, messages: all traffic, up and down.
        seconds: wall time of the rounds.
        curve: whatever ``watch`` said after each round.
        contributed: int64 (parties,), in how many rounds each party's upload was there to be aggregated; late: the
            same, of the last quarter of the rounds.
        scores: (parties,) accuracy of each party's model on common validation samples; empty where nobody looks.
        work: (samples of one party, batch size, local steps), where these are not those of the setting's plan.
    """

    params: Tensor
    local_models: Tensor
    bytes_sent: float = 0.0
    messages: int = 0
    seconds: float = 0.0
    curve: list[float] = field(default_factory=list)
    contributed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    late: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))
    work: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class TrainingTask:
    """What a defense gets that replaces the rounds of a collaboration by another way of learning.

    Attributes:
        net: the architecture.
        fresh: ``fresh(party)`` gives the initial parameters (d,) that this party draws for itself.
        shares: each party's own samples, those of malicious parties as they prepared them.
        public: everybody's samples.
        defense: the whole stack, whose ``local_step`` the parties follow.
        seed: the cell's.
        validation: ``validation(party, samples)``: what this party hands over as its validation samples.
    """

    net: Net
    fresh: Callable[[int], Tensor]
    shares: Sequence[Split]
    public: Split
    defense: FederatedDefense
    seed: int
    validation: Callable[[int, Split], Split]


class FederatedDefense(Defense):
    """A defense of a collaboration: what clients, the protocol between them and the server do differently.

    Its :meth:`facts` use the words of :class:`Published`, which every round starts from.
    """

    mpc: bool = False  # whether secure_costs has anything to measure

    def start(self, parties: int, layout: Layout) -> None:
        """Forget all state of earlier rounds: ``parties`` parties begin a new collaboration. Not a hook of its own."""

    @hook(chained=True)
    def local_data(self, data: Split, rng: torch.Generator) -> Split:
        """What one party trains on instead of its own samples."""
        return data

    @hook(chained=True)
    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        """How many samples and steps stand behind one upload."""
        return plan

    @hook()
    def screen_broadcast(self, net: Net, params: Tensor, round: Round) -> Tensor:
        """Which parties take the model that they were sent, bool (n,); the others sit the round out.

        Args:
            net, params: what the server sent, (d',) to everybody or (n, d') a row a party; its architecture need not be
                ``round.layout``'s.
        """
        return torch.ones(len(round.parties), dtype=torch.bool)

    @hook()
    def download(self, params: Tensor, local: Tensor, round: Round) -> Tensor | None:
        """What each party starts its local steps from, (n, d), or None for the global model as it is.

        Args:
            params: (d,) the global model; local: (n, d) the last model of each of the round's parties.
        """
        return None

    @hook()
    def local_step(self, step: LocalStep) -> Tensor:
        """The gradient (d,) that a party takes a local step with."""
        return step.gradient()

    @hook(chained=True)
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        """What each party does to its own update before anything leaves it: (n, d) -> (n, d), row by row.

        Updates are descent directions in gradient units: (params before - params after) / lr.
        """
        return updates

    @hook(chained=True)
    def select(self, candidates: Tensor, round: Round) -> Tensor:
        """Which of the ``candidates``, int64 (n,), take part in this round."""
        return candidates

    @hook(chained=True)
    def exchange(self, updates: Tensor, round: Round) -> Tensor:
        """What the parties do among themselves before the upload: (n, d) -> (n, d), row i is what party i uploads."""
        return updates

    @hook(chained=True)
    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        """What the server makes of the uploads (n, d) of the active parties before it aggregates them: (m, d).

        One that drops a row clears its party in ``round.active``; rows of one that mixes are no single party's.
        """
        return uploads

    @hook()
    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        """The server's one direction (d,) from the uploads (n, d) of the active parties, preaggregated."""
        return uploads.mean(dim=0)

    @hook()
    def learn(self, lesson: TrainingTask) -> Federation:
        """How the parties come to a model without rounds: overriding this replaces all hooks of a round."""
        raise NotImplementedError("the setting itself plays the rounds")

    @hook()
    def finish(self, net: Net, run: Federation, rng: torch.Generator) -> Predictor:
        """The model that is deployed after ``run``: inputs (n, ...) -> logits (n, classes)."""
        return lambda x: net.logits(run.params, x)

    def secure_costs(self, net: Net, samples: int, parties: int) -> dict[str, float | str]:
        """What a cryptographic engine was measured to spend on this way of learning; empty where none runs.

        Args:
            samples: of all parties together.
        """
        return {}

    def trust(self) -> Tensor | None:
        """How far the server has come to trust each party, (parties,), higher is better; None where it keeps no count.
        Not a hook: it only tells."""
        return None

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float] | None:
        """(epsilon, delta) that an accountant computes for a party's records, or None without such a guarantee.

        Args:
            samples: records of one party; batch_size: drawn without replacement each step; steps: local steps in all.
        """
        return None
