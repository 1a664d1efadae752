"""Federated defenses: their hooks, and what these get to know of a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from benchmark.data.base import Split
from benchmark.settings.collaboration.published import Published
from benchmark.settings.defense import Defense, hook
from benchmark.training.functional import Layout, Net

Predictor = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LocalPlan:
    """Local work behind one upload.

    Attributes:
        batch_size: samples in each local step.
        local_steps: local SGD steps between download and upload.
        lr: local learning rate; momentum, weight_decay: of local SGD, which starts each round without momentum.
        optimizer: ``sgd``, or ``adam`` with its usual moments, which start each round from zero.
    """

    batch_size: int
    local_steps: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: str = "sgd"


@dataclass
class LocalStep:
    """One local step of one party, for which a defense computes the gradient.

    Attributes:
        net: the model as a function of a parameter vector.
        params: (d,) where the gradient is taken.
        x: (batch, ...) inputs; y: (batch,) labels or (batch, classes) soft labels.
        rng: the party's own randomness.
    """

    net: Net
    params: Float[Tensor, " d"]
    x: Float[Tensor, "batch ..."]
    y: Shaped[Tensor, " batch *classes"]
    rng: torch.Generator

    def gradient(self) -> Float[Tensor, " d"]:
        """Return the plain mean gradient."""
        return self.net.gradient(self.params, self.x, self.y)

    def per_sample(self) -> Float[Tensor, "batch d"]:
        """Return the gradient of each sample."""
        return self.net.per_sample_gradients(self.params, self.x, self.y)


@dataclass
class Round:
    """One round of a collaboration: inputs of a protocol, and what the protocol publishes and spends.

    Attributes:
        index: 0, 1, ...
        layout: how a flat update (d,) is cut into parameters.
        params: (d,) the global model that was sent out.
        parties: int64 (n,) identities of the selected parties; row i of every update matrix is theirs.
        rng: randomness of this round's protocol.
        published: what the defense's users would publish, by the vocabulary of :class:`Published`.
        active: bool (n,), cleared for parties that end up contributing nothing.
        invalid: uploads that were dropped because no honest party sends such.
        server_update: gives the update (d,) that the server computes on its own root data with the parties' plan, from
            ``params``; None where the server holds no data.
        inputs: (n, steps, batch, ...) what the parties' local steps read; only a party's own side of a defense may look
            at its row. None where the setting does not provide them.
        net: the model that the parties run, and ``lr`` their local learning rate; for their own side of a defense. None
            where the setting does not provide it.
        held: (n, d) what each party starts from when it downloads a share only (see ``download``), else None.
        last: (d,) the direction of the round before, or None in the first; whoever keeps the last model knows it.
        validation: party -> samples of its own that it does not train on; None where the setting does not provide any.
        bytes_sent, messages: traffic between all parties and the server that the protocol adds or causes.
    """

    index: int
    layout: Layout
    params: Float[Tensor, " d"]
    parties: Int[Tensor, " n"]
    rng: torch.Generator
    published: Published = field(default_factory=lambda: Published())
    active: Bool[Tensor, " n"] = field(default=None)  # type: ignore[assignment]
    invalid: int = 0
    server_update: Callable[[], Tensor] | None = None
    inputs: Float[Tensor, "n steps batch ..."] | None = None
    net: Net | None = None
    lr: float = 1.0
    held: Float[Tensor, "n d"] | None = None
    last: Float[Tensor, " d"] | None = None
    validation: Callable[[int], Split] | None = None
    bytes_sent: float = 0.0
    messages: int = 0

    def __post_init__(self) -> None:
        if self.active is None:
            self.active = torch.ones(len(self.parties), dtype=torch.bool)

    def publish(self, **facts: Any) -> None:
        """Publish a fact about this round, e.g. ``publish(groups=pairs)``; see :class:`Published`.

        Words that :class:`Published` does not have belong to releases and are ignored here.
        """
        if facts.get("mask") is not None:
            facts["mask"] = facts["mask"].to(self.params.device)  # a mask by layout alone was made on the CPU
            if self.published.mask is not None:
                facts["mask"] = facts["mask"] & self.published.mask  # stacked defenses: what both let through
        known = {field.name for field in fields(Published)}
        self.published = replace(self.published, **{word: fact for word, fact in facts.items() if word in known})

    def send(self, *, bytes_sent: float, messages: int) -> None:
        """Count traffic of the protocol itself; the setting counts the download and the upload."""
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
        curve: the value of ``watch`` after each round.
        contributed: int64 (parties,), in how many rounds each party's upload was there to be aggregated; late: the
            same, of the last quarter of the rounds.
        scores: (parties,) accuracy of each party's model on common validation samples; empty where nobody looks.
        work: (samples of one party, batch size, local steps), where these are not those of the setting's plan.
    """

    params: Float[Tensor, " d"]
    local_models: Float[Tensor, "_ d"]
    bytes_sent: float = 0.0
    messages: int = 0
    seconds: float = 0.0
    curve: list[float] = field(default_factory=list)
    contributed: Int[Tensor, " _"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    late: Int[Tensor, " _"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    scores: Float[Tensor, " _"] = field(default_factory=lambda: torch.zeros(0))
    work: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a defense needs which replaces the rounds of a collaboration by another way of learning.

    Attributes:
        net: the architecture.
        fresh: ``fresh(party)`` gives the initial parameters (d,) that this party draws for itself.
        shares: each party's own samples, those of malicious parties as they prepared them.
        public: everybody's samples.
        defense: the whole stack, whose ``local_step`` the parties follow.
        seed: the cell's.
        validation: ``validation(party, samples)`` returns what this party hands over as its validation samples.
    """

    net: Net
    fresh: Callable[[int], Tensor]
    shares: Sequence[Split]
    public: Split
    defense: FederatedDefense
    seed: int
    validation: Callable[[int, Split], Split]


class FederatedDefense(Defense):
    """Base of defenses of a collaboration: of clients, of the protocol between them and of the server.

    Its :meth:`facts` use the words of :class:`Published`, which every round starts from.
    """

    mpc: bool = False  # whether secure_costs has anything to measure

    def start(self, parties: int, layout: Layout) -> None:
        """Forget all state of earlier rounds, since ``parties`` parties begin a new collaboration. Not a hook."""

    @hook(chained=True)
    def local_data(self, data: Split, rng: torch.Generator) -> Split:
        """Return what one party trains on instead of its own samples ``data``."""
        return data

    @hook(chained=True)
    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        """Return how many samples and steps stand behind one upload."""
        return plan

    @hook()
    def screen_broadcast(self, net: Net, params: Float[Tensor, " *each d"], round: Round) -> Bool[Tensor, " n"]:
        """Return which parties accept the model that they were sent; the others leave out the round.

        Args:
            net, params: what the server sent, (d',) to everybody or (n, d'), one row a party; its architecture may
                differ from ``round.layout``.
        """
        return torch.ones(len(round.parties), dtype=torch.bool)

    @hook()
    def download(
        self, params: Float[Tensor, " d"], local: Float[Tensor, "n d"], round: Round
    ) -> Float[Tensor, "n d"] | None:
        """Return where each party starts its local steps, or None for the global model as it is.

        Args:
            params: (d,) the global model; local: (n, d) the last model of each of the round's parties.
        """
        return None

    @hook()
    def local_step(self, step: LocalStep) -> Float[Tensor, " d"]:
        """Return the gradient with which a party takes a local step."""
        return step.gradient()

    @hook(chained=True)
    def protect(self, updates: Float[Tensor, "n d"], round: Round) -> Float[Tensor, "n d"]:
        """Return the parties' updates as each party changes its own row before anything leaves it.

        Updates are descent directions in gradient units: (params before - params after) / lr.
        """
        return updates

    @hook(chained=True)
    def select(self, candidates: Int[Tensor, " n"], round: Round) -> Int[Tensor, " chosen"]:
        """Return the ``candidates`` that take part in this round."""
        return candidates

    @hook(chained=True)
    def exchange(self, updates: Float[Tensor, "n d"], round: Round) -> Float[Tensor, "n d"]:
        """Return the uploads after the parties' exchange among themselves; row i is what party i uploads."""
        return updates

    @hook(chained=True)
    def preaggregate(self, uploads: Float[Tensor, "n d"], round: Round) -> Float[Tensor, "m d"]:
        """Return the rows that the server aggregates, from the uploads of the active parties.

        A defense that drops a row clears its party in ``round.active``; after one that mixes, rows belong to no single
        party.
        """
        return uploads

    @hook()
    def aggregate(self, uploads: Float[Tensor, "n d"], round: Round) -> Float[Tensor, " d"]:
        """Return the server's one direction from the preaggregated uploads of the active parties."""
        return uploads.mean(dim=0)

    @hook()
    def learn(self, task: TrainingTask) -> Federation:
        """Train a model without rounds. A defense that overrides this replaces all hooks of a round."""
        raise NotImplementedError("the setting itself plays the rounds")

    @hook()
    def finish(self, net: Net, run: Federation, rng: torch.Generator) -> Predictor:
        """Return the model that is deployed after ``run``: inputs (n, ...) -> logits (n, classes)."""
        return lambda x: net.logits(run.params, x)

    def secure_costs(self, net: Net, samples: int, parties: int) -> dict[str, float | str]:
        """Return the measured costs of a cryptographic engine for this way of learning; empty where none runs.

        Args:
            samples: of all parties together.
        """
        return {}

    def trust(self) -> Float[Tensor, " parties"] | None:
        """Return the server's trust in each party, higher is better; None where it keeps no account. Not a hook."""
        return None

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float] | None:
        """Return (epsilon, delta) that an accountant computes for a party's records, or None without a guarantee.

        Args:
            samples: records of one party; batch_size: drawn without replacement each step; steps: local steps in all.
        """
        return None

    def claims(self, *, samples: int, batch_size: int, steps: int) -> dict[str, float]:
        """Return what the defense's users would publish of the run though it does not hold there; for diagnostics.

        Args:
            samples, batch_size, steps: as of :meth:`epsilon`.
        """
        return {}
