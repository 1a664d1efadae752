"""The hooks of a defense, all of which do nothing here.

A defense overrides what the honest side does differently. Which threats it meets follows from which hooks it
overrides (``benchmark.compatibility``), so a subclass must not override a hook just to call the parent's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.defenses.published import Published

if TYPE_CHECKING:
    from benchmark.settings.monitoring_surfaces import Watch
    from benchmark.training.federated import Federation
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


@dataclass(frozen=True)
class Lesson:
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
    defense: Defense
    seed: int
    validation: Callable[[int, Split], Split]


@dataclass(frozen=True)
class Release:
    """What an owner publishes in place of the private data.

    Attributes:
        x: (m, ...) released inputs; y: (m,) labels or (m, classes) soft labels.
        source: int64 (m,), the private sample that row i stems from, or None for synthetic data. It is the truth
            that metrics need and stays with the setting.
        sensitive: int64 (m,), the sensitive attribute where the mechanism publishes one with each row, else None.
        epsilon, delta: what an accountant computed for this very run, or None without such a guarantee.
    """

    x: Tensor
    y: Tensor
    source: Tensor | None = None
    sensitive: Tensor | None = None
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True)
class World:
    """What a release mechanism may use beside the private data.

    Attributes:
        public: everybody's samples (mixing partners, proxies' training data, start images); no private sample is in it.
        num_classes: of the task.
        architecture: ``architecture(shape=..., num_classes=...)`` gives the cell's model, newly initialised.
    """

    public: Split
    num_classes: int
    architecture: Callable[..., nn.Module]


class Defense:
    """Base of all defenses: the honest side as it is without one. See DESIGN, section 3.

    The parameters' values go into a record through the config, so a subclass only keeps what its hooks need.

    Class attributes:
        needs: traits that the dataset or model must have, e.g. ``{"dataset.kind": "image"}``.
        synthetic: no row of its release stems from one private sample; threats that need such rows are refused.
        keeps_attributes: the sensitive attribute of released rows is known, by their source or as it is published.
        hands_out_generator: its release comes with the generator that made it (``models()["generator"]``).
        hands_out_identities: networks that know the participants are at hand (``models()["identity_0"]`` and so on).
        hands_out_map: people get the network that maps their records (``models()["map"]``). mixes: rows are mixtures.

    Attributes:
        world: set before any hook is called by a played cell; None in a notebook that calls hooks by itself.
    """

    needs: ClassVar[Mapping[str, str]] = {}
    synthetic: ClassVar[bool] = False
    keeps_attributes: ClassVar[bool] = True
    hands_out_generator: ClassVar[bool] = False
    hands_out_identities: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    hands_out_map: ClassVar[bool] = False
    world: World | None = None
    mpc: bool = False  # whether secure_costs has anything to measure

    def facts(self) -> dict[str, Any]:
        """What the defense's users would publish: parameters, never keys. An adaptive threat is granted it.

        In ``collaboration`` the words are those of :class:`Published`, which every round starts from.
        """
        return {}

    # -- release -----------------------------------------------------------------------------------
    def enter(self, world: World) -> None:
        """Take note of the surroundings. Not a hook of its own."""
        self.world = world

    def release(self, private: Split, rng: torch.Generator) -> Release:
        """Derive what is published from the private data. ``rng`` is the secret key's randomness.

        May be called again on other data with another ``rng`` (shadow attacks and controls do), each time on a copy of
        the defense as it was built. The global generators are seeded around it too.
        """
        return Release(private.x, private.y, torch.arange(len(private)))

    def encode(self, x: Tensor) -> Tensor:
        """Encode a test-time input as the released inputs were, (n, ...) -> (n, ...). Called after :meth:`release`."""
        return x

    def encode_people(self, people: Split) -> Split:
        """People at test time as the mechanism would publish them; called after :meth:`release`.

        For maps that need more than the input (the sensitive attribute) or also change labels. Not a hook of its own.
        """
        return replace(people, x=self.encode(people.x))

    def secrets(self) -> Mapping[str, Tensor]:
        """What only the owner knows after :meth:`release`, for attacks that are upper bounds (knowledge ``oracle``)."""
        return {}

    def models(self) -> Mapping[str, nn.Module]:
        """Networks that the owner hands out beside the release (a generator, a teacher, a map), by name."""
        return {}

    # -- collaboration -----------------------------------------------------------------------------
    def start(self, parties: int, layout: Layout) -> None:
        """Forget all state of earlier rounds: ``parties`` parties begin a new collaboration. Not a hook of its own."""

    def local_data(self, data: Split, rng: torch.Generator) -> Split:
        """What one party trains on instead of its own samples."""
        return data

    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        """How many samples and steps stand behind one upload."""
        return plan

    def screen_broadcast(self, net: Net, params: Tensor, round: Round) -> Tensor:
        """Which parties take the model that they were sent, bool (n,); the others sit the round out.

        Args:
            net, params: what the server sent, (d',) to everybody or (n, d') a row a party; its architecture need not be
                ``round.layout``'s.
        """
        return torch.ones(len(round.parties), dtype=torch.bool)

    def download(self, params: Tensor, local: Tensor, round: Round) -> Tensor | None:
        """What each party starts its local steps from, (n, d), or None for the global model as it is.

        Args:
            params: (d,) the global model; local: (n, d) the last model of each of the round's parties.
        """
        return None

    def local_step(self, step: LocalStep) -> Tensor:
        """The gradient (d,) that a party takes a local step with."""
        return step.gradient()

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        """What each party does to its own update before anything leaves it: (n, d) -> (n, d), row by row.

        Updates are descent directions in gradient units: (params before - params after) / lr.
        """
        return updates

    def select(self, candidates: Tensor, round: Round) -> Tensor:
        """Which of the ``candidates``, int64 (n,), take part in this round."""
        return candidates

    def exchange(self, updates: Tensor, round: Round) -> Tensor:
        """What the parties do among themselves before the upload: (n, d) -> (n, d), row i is what party i uploads."""
        return updates

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        """What the server makes of the uploads (n, d) of the active parties before it aggregates them: (m, d).

        One that drops a row clears its party in ``round.active``; rows of one that mixes are no single party's.
        """
        return uploads

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        """The server's one direction (d,) from the uploads (n, d) of the active parties, preaggregated."""
        return uploads.mean(dim=0)

    def learn(self, lesson: Lesson) -> Federation:
        """How the parties come to a model without rounds: overriding this replaces all hooks of a round."""
        raise NotImplementedError("the setting itself plays the rounds")

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

    # -- service -----------------------------------------------------------------------------------
    def screen_model(self, model: nn.Module, data: Split) -> float:
        """Suspicion that the provider's model is dishonest, judged on the user's labelled samples; higher is worse."""
        return 0.0

    def reveal(self, logits: Tensor) -> Tensor:
        """What the user lets out of the model's logits, (n, classes) -> (n, outputs)."""
        return logits

    # -- deployment --------------------------------------------------------------------------------
    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        """Train the classifier that is deployed.

        Args:
            fresh: gives a newly initialised model (the same weights at every call).
            train: ``train(module, x, y, loss=...)``, the suite's loop with this cell's epochs and seed.
        """
        return train(fresh(), data.x, data.y)

    def screen_inputs(self, x: Tensor) -> Tensor:
        """Suspicion (n,) that an input is not from the training distribution; higher is worse."""
        return torch.zeros(len(x))

    def screen_batches(self, batches: Tensor, watch: Watch) -> Tensor:
        """Suspicion that a batch is not from the training distribution; higher is worse.

        Every batch is judged as if it were the only one. Suspicions are compared with those of usual batches, so they
        need no scale; see ``docs/interfaces.md``.

        Args:
            batches: (q, n, ...), q batches of n inputs.

        Returns:
            (q,) suspicions; or (q, n), one number for each input, when a batch's numbers are to be compared as a sample
            with those of the usual batches (two-sample Kolmogorov-Smirnov).
        """
        return torch.zeros(len(batches))

    # ----------------------------------------------------------------------------------------------
    @classmethod
    def hooks(cls) -> frozenset[str]:
        """Names of the hooks that this class overrides."""
        return frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Defense, name))

    def overrides(self, hook: str) -> bool:
        return hook in self.hooks()


HOOKS = (
    *("release", "encode"),
    *("screen_broadcast", "download", "local_data", "local_plan", "local_step"),
    *("protect", "select", "exchange", "preaggregate", "aggregate", "learn", "finish"),
    *("screen_model", "reveal"),
    *("fit", "screen_inputs", "screen_batches"),
)

# Hooks that hand a value on, so that stacked defenses act one after the other; of the others one stack may hold one.
CHAINED = frozenset({"encode", "local_data", "local_plan", "protect", "select", "exchange", "preaggregate", "reveal"})
