"""Surface of many uploads: a server infers a secret, or the samples, from each layer's gradient.

There are two kinds of measures. Usable information depends on the threat as its family V of predictors; sensitivity and
subspace distance depend on the gradients alone and are diagnostics of every cell of this surface.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.metrics.gradient_geometry import beyond_random_split, jacobian_norms, pair_contrast, sensitivity
from benchmark.metrics.v_information import interval, latent_gains, original_bits
from benchmark.outcome import Outcome
from benchmark.seeds import generator
from benchmark.settings.base import CellContext, Game, note
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan, Round
from benchmark.settings.collaboration.games.uploads import UploadsGame
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import local_updates
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.collaboration.victims import at_each_step
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.functional import Net
from benchmark.training.layers import layer_slices


@dataclass(frozen=True)
class AttributeBatches:
    """Batches of many parties, one each, whose secret is a sensitive attribute.

    Attributes:
        x: (n, batch, ...); y: int64 (n, batch); secret: int64 (n,), the value of the sensitive attribute of all samples
            of a batch (scope ``group``) or of its first one (``member``).
    """

    x: Float[Tensor, " n batch *sample"]
    y: Int[Tensor, "n batch"]
    secret: Int[Tensor, " n"]


Rehearse = Callable[[AttributeBatches], Tensor]
"""Batches of n parties -> what the server would see of them, (n, d)."""


@dataclass(frozen=True)
class ManyUploadsSurface(Surface):
    """View of a server: uploads of hundreds of parties on one global model, and its own samples to rehearse on.

    Attributes:
        net, params: architecture and the global model (d,) sent out.
        uploads: (n, d), a party's upload each; where a protocol mixes uploads, the mean of the party's group for a
            threat that knows the mechanism.
        batch_size: samples behind one upload.
        shape, num_classes: of one sample and of the task.
        own: the adversary's samples.
        rehearse: what uploads would be without any defense.
        rehearse_defended: what they are with it (grant ``mechanism``).
        truth: the private batches, for positive controls (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"rehearse_defended": "mechanism", "truth": "truth"}

    net: Net
    params: Float[Tensor, " d"]
    uploads: Float[Tensor, "n d"]
    batch_size: int
    shape: tuple[int, ...]
    num_classes: int
    own: Split
    rehearse: Rehearse
    rehearse_defended: Rehearse
    truth: AttributeBatches


@dataclass
class Beliefs(Guess):
    """Predictions from each layer's gradient.

    Attributes:
        found: layer -> prediction for every upload: (n, values) log-probabilities of the secret, or (n, ...) the image
            (of a batch: the mean image). A threat of several families chooses among them without these uploads.
        otherwise: layer -> the guess of an attack of another make, (n, values) weights or (n, ...) images; or empty.
    """

    found: dict[str, Tensor] = field(default_factory=dict)
    otherwise: dict[str, Tensor] = field(default_factory=dict)


class ManyUploadsThreat(Threat):
    """Base of servers that train predictors on rehearsed uploads and apply them to real ones.

    Args:
        victims: how many uploads it is judged on; auxiliary: how many it rehearses.
        scope: whether all samples of a batch share the attribute (``group``) or only its first is asked about
            (``member``).

    Class attributes:
        goal: ``secret`` (latent information: the sensitive attribute) or ``image`` (original information).
    """

    setting = "collaboration"
    surface = "many_uploads"
    family = "gradient_leakage"
    needs: ClassVar[Mapping[str, str]] = {"dataset.sensitive": "yes"}
    goal: ClassVar[str]

    def __init__(
        self,
        *,
        victims: Annotated[int, Ge(4)],
        auxiliary: Annotated[int, Ge(4)],
        scope: Literal["group", "member"] = "group",
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.victims, self.auxiliary, self.scope = victims, auxiliary, scope


def draw_batches(data: Split, count: int, size: int, scope: str, rng: torch.Generator) -> AttributeBatches:
    """Return ``count`` batches of ``size`` samples, as many of each value of the attribute.

    A sample occurs at most once in a batch, and perhaps in several. Scope ``group``: all samples of a batch have its
    value; ``member``: the first has it and the others are drawn from all samples.

    Raises:
        ConfigError: there are fewer than ``size`` samples of one value.
    """
    assert data.sensitive is not None
    values = max(2, int(data.sensitive.max()) + 1)
    piles = [(data.sensitive == value).nonzero().squeeze(1).cpu() for value in range(values)]
    if min(len(pile) for pile in piles) < size:
        raise ConfigError(
            f"A batch of {size} samples that share the attribute needs as many samples of each value, but there are "
            f"{[len(pile) for pile in piles]}; lower the batch size or raise dataset.sizes."
        )
    secret = (torch.arange(count) % values)[torch.randperm(count, generator=rng)]
    rows = []
    for value in secret.tolist():
        pile = piles[value]
        chosen = pile[torch.randperm(len(pile), generator=rng)[:size]]
        if scope == "member":
            others = torch.randperm(len(data), generator=rng)
            chosen = torch.cat([chosen[:1], others[others != chosen[0]][: size - 1]])
        rows.append(chosen)
    index = torch.stack(rows)
    return AttributeBatches(data.x[index], data.y[index], secret.to(data.y.device))


PROBES, PROBED_IMAGES = 40, 20
JACOBIAN_ENTRIES = 2**24  # above this the exact Jacobian is not formed
MOVES, STEP = 10, 1e-2  # of a sample, along a random direction of standard normal entries
SUBSPACES, SPLITS = (5, 20), 3


class ManyUploadsGame(Game[JointTraining]):
    """Hundreds of parties upload once; the threat's beliefs from each layer's gradient are scored in bits."""

    surface = "many_uploads"
    hooks = UploadsGame.hooks
    guess = Beliefs

    def play(self, context: CellContext) -> Outcome:
        threat = context.threat
        assert isinstance(threat, ManyUploadsThreat)
        outcome, trained = self.honest.report(context)
        net, params = self.honest.victims.global_model(context, trained)
        surface = self.observe(context, net, params)
        beliefs = self.ask(context, surface)
        note(outcome, beliefs)
        (_score_secret if threat.goal == "secret" else _score_images)(context, outcome, beliefs, surface)
        _measure(context, outcome, surface)
        return outcome

    def observe(self, context: CellContext, net: Net, params: Tensor) -> ManyUploadsSurface:
        """Return the uploads of ``threat.victims`` parties; a round has as many of them as the setting has victims."""
        threat, data = context.threat, context.data
        assert isinstance(threat, ManyUploadsThreat)
        plan, cohort = context.defense.local_plan(self.honest.victims.plan), self.honest.victims.count
        truth = draw_batches(data.owner, threat.victims, plan.batch_size, threat.scope, context.rng("many.victims"))

        def upload(batches: AttributeBatches, defense: FederatedDefense, adaptive: bool, purpose: str) -> Tensor:
            return _uploads(net, params, batches, defense, plan, cohort, adaptive, context.seed, purpose)

        return ManyUploadsSurface(
            net=net,
            params=params,
            uploads=upload(truth, context.defense, threat.adaptive, "many.uploads"),
            batch_size=plan.batch_size,
            shape=data.shape,
            num_classes=data.num_classes,
            own=data.attacker,
            rehearse=lambda batches: upload(batches, FederatedDefense(), False, "many.rehearsal"),
            rehearse_defended=lambda batches: upload(batches, context.defense, True, "many.rehearsal"),
            truth=truth,
        )


def _uploads(
    net: Net,
    params: Tensor,
    batches: AttributeBatches,
    defense: FederatedDefense,
    plan: LocalPlan,
    cohort: int,
    adaptive: bool,
    seed: int,
    purpose: str,
) -> Tensor:
    """Return the server's view (n, d) of every batch's party, through a defense that starts afresh each round."""
    defense = copy.deepcopy(defense)
    seen = []
    for index, rows in enumerate(torch.arange(len(batches.secret)).split(cohort)):
        rngs = [generator(seed, f"{purpose}.party.{row}") for row in rows.tolist()]
        x, y = batches.x[rows], batches.y[rows]
        if defense.overrides("local_data"):
            sent = [
                defense.local_data(Split(x[i], y[i]), generator(seed, f"{purpose}.data.{row}"))
                for i, row in enumerate(rows.tolist())
            ]
            x, y = torch.stack([s.x for s in sent]), torch.stack([s.y for s in sent])
        steps_x, steps_y = at_each_step(x, plan.local_steps), at_each_step(y, plan.local_steps)
        defense.start(len(rows), net.layout)
        turn = Round(index, net.layout, params, torch.arange(len(rows)), generator(seed, f"{purpose}.round.{index}"))
        turn.inputs = steps_x
        turn.publish(**defense.facts())
        updates = local_updates(net, defense, params, steps_x, steps_y, plan, rngs).detach()
        uploads = defense.exchange(defense.protect(updates, turn), turn)
        seen.append(_by_group(uploads, turn.published) if adaptive else uploads)
    return (torch.cat(seen) / plan.local_steps).to(params)


def _by_group(uploads: Tensor, published: Published) -> Tensor:
    """Replace each mixed upload by the mean of its group, which is all that can be known of it."""
    if published.groups is None:
        return uploads
    _, number = published.groups.to(uploads.device).unique(return_inverse=True)
    sums = torch.zeros(int(number.max()) + 1, uploads.shape[1]).to(uploads).index_add_(0, number, uploads)
    return sums[number] / number.bincount()[number][:, None]


# -- scores of the threat's predictors ----------------------------------------------------------
def _score_secret(context: CellContext, outcome: Outcome, beliefs: Beliefs, surface: ManyUploadsSurface) -> None:
    """Report latent information: bits of the attribute by layer, beyond the constant that every family holds."""
    secret = surface.truth.secret
    values = next(iter(beliefs.found.values())).shape[1]
    prior = torch.full((values,), 1 / values, device=secret.device).log()  # all values are equally frequent, by design
    gains = {layer: latent_gains(found, secret, prior) for layer, found in beliefs.found.items()}
    for layer, gained in gains.items():
        low, high = interval(gained, context.rng("many.bootstrap"))
        outcome.diagnostics |= {f"latent_bits_low_{layer}": max(0.0, low), f"latent_bits_high_{layer}": max(0.0, high)}
    bits = {layer: max(0.0, gained.mean().item()) for layer, gained in gains.items()}
    right = {layer: _hits(found, secret).mean().item() for layer, found in beliefs.found.items()}
    outcome.risk |= {"latent_bits": max(bits.values()), "attribute_accuracy": max(right.values())}
    _by_layer(outcome, "latent_bits", bits)
    _by_layer(outcome, "attribute_accuracy", right)
    success = {layer: _hits(found, secret) for layer, found in beliefs.otherwise.items()}
    _compare(outcome, "attribute_accuracy_otherwise", gains, success)


def _hits(found: Tensor, secret: Tensor) -> Tensor:
    return (found.argmax(dim=1) == secret).double()


def _score_images(context: CellContext, outcome: Outcome, beliefs: Beliefs, surface: ManyUploadsSurface) -> None:
    """Report original information: bits a pixel by layer, beyond the mean image and beyond that of the class."""
    own = surface.own
    truth = surface.truth.x.mean(dim=1)
    constant = own.x.mean(dim=0).expand_as(truth)
    means = torch.stack([own.x[own.y == label].mean(dim=0) for label in range(surface.num_classes)])
    of_label = means[surface.truth.y].mean(dim=1)
    told_by_label = original_bits(of_label, truth, constant)
    bits = {layer: max(0.0, original_bits(found, truth, constant)) for layer, found in beliefs.found.items()}
    outcome.risk["original_bits"] = max(bits.values())
    outcome.diagnostics["original_bits_of_label"] = told_by_label
    _by_layer(outcome, "original_bits", bits)
    beyond = {layer: max(0.0, value - max(0.0, told_by_label)) for layer, value in bits.items()}
    _by_layer(outcome, "original_bits_beyond_label", beyond)

    def closeness(found: Tensor) -> Tensor:
        return -(found - truth).square().flatten(start_dim=1).mean(dim=1).clamp_min(1e-6).log10().double() * 10

    success = {layer: closeness(found) for layer, found in beliefs.otherwise.items()}
    _compare(outcome, "psnr_db_otherwise", {layer: closeness(found) for layer, found in beliefs.found.items()}, success)


def _compare(outcome: Outcome, name: str, gains: dict[str, Tensor], success: dict[str, Tensor]) -> None:
    """Report the success of the attack of another make by layer, and whether information orders layers as it does.

    Spearman's rho over layers, between the information on every other upload and the success on those between, for
    one upload's luck would move both; 0 where either does not vary.

    Args:
        gains, success: layer -> (n,), what every upload adds to the two.
    """
    from scipy.stats import spearmanr

    if not success:
        return
    _by_layer(outcome, name, {layer: values.mean().item() for layer, values in success.items()})
    told = [gains[layer][::2].mean().item() for layer in success]
    reached = [values[1::2].mean().item() for values in success.values()]
    varied = len(set(told)) > 1 and len(set(reached)) > 1
    outcome.diagnostics["rank_correlation"] = float(spearmanr(told, reached).statistic) if varied else 0.0


def _by_layer(outcome: Outcome, name: str, values: dict[str, float]) -> None:
    """Report ``values`` as a curve, as diagnostics, and by how much each exceeds the greatest of the others."""
    outcome.curves[f"{name} by layer"] = list(values.values())
    outcome.captions[f"{name} by layer"] = list(values)
    outcome.diagnostics |= {f"{name}_{layer}": value for layer, value in values.items()}
    for layer, value in values.items():
        if others := [other for there, other in values.items() if there != layer]:
            outcome.diagnostics[f"{name}_lead_{layer}"] = value - max(others)


# -- measures without an attack ---------------------------------------------------------
def _measure(context: CellContext, outcome: Outcome, surface: ManyUploadsSurface) -> None:
    """Report sensitivity of the plain gradient to single samples, and of the uploads as sent; and their subspaces."""
    net, params, truth = surface.net, surface.params, surface.truth
    slices = layer_slices(net.layout)
    x, y = truth.x[:PROBED_IMAGES, 0], truth.y[:PROBED_IMAGES, 0]
    gradients = net.per_sample_gradients(params, x, y).detach()
    labels = F.one_hot(y, surface.num_classes).to(params)
    size = {layer: (part.stop - part.start) * x[0].numel() for layer, part in slices.items()}

    def gradient_of(image: Tensor, label: Tensor) -> Tensor:
        return net.gradient(params, image.unsqueeze(0), label.unsqueeze(0))

    norms = sensitivity(gradient_of, x, labels, slices, PROBES, context.rng("many.probes"))
    plain = {layer: norm.mean().item() for layer, norm in norms.items()}
    relative = {
        layer: (norm / gradients[:, slices[layer]].norm(dim=1).clamp_min(1e-20)).mean().item()
        for layer, norm in norms.items()
    }
    _by_layer(outcome, "sensitivity", plain)
    _by_layer(outcome, "sensitivity_over_gradient_norm", relative)
    _by_layer(outcome, "sensitivity_by_size", {layer: value / size[layer] ** 0.5 for layer, value in plain.items()})
    if sum(size.values()) <= JACOBIAN_ENTRIES:
        exact = jacobian_norms(gradient_of, x[0], labels[0], slices)
        for name in ("one", "infinity", "frobenius_by_range"):
            _by_layer(outcome, f"jacobian_{name}", {layer: norms[name] for layer, norms in exact.items()})
    _measure_uploads(context, outcome, surface, slices)
    _measure_attribute(context, outcome, surface, slices)


def _measure_uploads(
    context: CellContext, outcome: Outcome, surface: ManyUploadsSurface, slices: dict[str, slice]
) -> None:
    """Report how much uploads, aggregated and defended as they are sent, change with the first sample of their batch.

    Differences over twice :data:`STEP` along random directions, with the chance of the defense held fixed: a defense
    need not be differentiable, and noise shows in the norm of the upload that the change is compared with. Where ReLUs
    switch on the way the gradient jumps, so there these exceed the derivative that ``sensitivity`` holds.
    """
    truth, rehearse = surface.truth, surface.rehearse_defended
    batches = AttributeBatches(truth.x[:PROBED_IMAGES], truth.y[:PROBED_IMAGES], truth.secret[:PROBED_IMAGES])
    norms = rehearse(batches)
    squares = {layer: torch.zeros(len(batches.x)).to(norms) for layer in slices}
    rng = context.rng("many.moves")
    for _ in range(MOVES):
        along = torch.zeros_like(batches.x)
        along[:, 0] = torch.randn(batches.x[:, 0].shape, generator=rng).to(along) * STEP
        here, there = (rehearse(replace(batches, x=batches.x + sign * along)) for sign in (-1, 1))
        change = (there - here) / (2 * STEP)
        for layer, part in slices.items():
            squares[layer] += change[:, part].square().sum(dim=1)
    found = {layer: (total / MOVES).sqrt() for layer, total in squares.items()}
    _by_layer(outcome, "upload_sensitivity", {layer: value.mean().item() for layer, value in found.items()})
    relative = {
        layer: (value / norms[:, slices[layer]].norm(dim=1).clamp_min(1e-20)).mean().item()
        for layer, value in found.items()
    }
    _by_layer(outcome, "upload_sensitivity_over_norm", relative)


def _measure_attribute(
    context: CellContext, outcome: Outcome, surface: ManyUploadsSurface, slices: dict[str, slice]
) -> None:
    """Report how uploads differ by the attribute: by their subspaces, and in pairs with different and equal values."""
    a, b = (surface.uploads[surface.truth.secret == value] for value in (0, 1))
    for k in SUBSPACES:
        if min(len(a), len(b)) <= k:
            continue
        distance = {
            layer: beyond_random_split(a[:, part], b[:, part], k, SPLITS, context.rng(f"many.splits.{k}"))
            for layer, part in slices.items()
        }
        _by_layer(outcome, f"subspace_distance_{k}", distance)
    contrast = {layer: pair_contrast(a[:, part], b[:, part]) for layer, part in slices.items()}
    _by_layer(outcome, "attribute_contrast", contrast)
