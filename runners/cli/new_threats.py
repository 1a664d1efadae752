"""Texts that ``gauntlet new threat`` starts from: small threats that play at once, to be changed into yours.

A ``$name`` stands for what the command fills in: ``$Class``, ``$option``, ``$module``, and ``$constants`` and ``$ours``
(how a test finds an option in a package of its own).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """Beginning of a component.

    Attributes:
        folder: of the module, inside ``benchmark``.
        code: the module. test: its test.
        prefix: how the name of its option begins, without the underscore.
        brings: entries of the option's defaults list, for what it needs in place of a cell's defaults.
        lines: parameters in the option's file.
    """

    folder: str
    code: str
    test: str
    prefix: str = ""
    brings: tuple[str, ...] = ()
    lines: str = ""


# -- threats, by surface ----------------------------------------------------------------------------------------------
HEAD = '''"""$Class: one line on the adversary, and the paper that it is from."""

from __future__ import annotations
'''

THREAT_TEST = '''"""Test of $option: without a defense it reaches its floor."""

from __future__ import annotations

import gauntlet
from $module import $Class
$constants

def test_it_works_without_a_defense() -> None:
    outcome = gauntlet.cell("threat=$option"$ours).play()
    assert outcome.risk[$Class.floor.metric] >= $Class.floor.at_least
'''

UPLOADS = '''
import torch
from torch.nn.functional import normalize

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(UploadThreat):
    """Guesses the public sample whose own gradient points most like the upload.

    Args:
        candidates: public samples to choose from.
        adaptive: compares only the coordinates that the defense lets through.
    """

    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.1)
    knowledge = frozenset({"public"})

    def __init__(self, *, candidates: Count = 100, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.candidates = candidates

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        public, uploads = surface.public, surface.uploads[0]
        chosen = torch.randperm(len(public), generator=rng)[: self.candidates].to(uploads.device)
        gradients = surface.net.per_sample_gradients(surface.params, public.x[chosen], public.y[chosen])
        if self.adaptive and surface.published[0].mask is not None:
            uploads = uploads * surface.published[0].mask
        likeness = normalize(uploads, dim=1) @ normalize(gradients, dim=1).T
        best = public.x[chosen[likeness.argmax(dim=1)]]
        return Reconstruction(best.unsqueeze(1).expand(-1, surface.batch_size, *surface.shape))
'''

CONTRIBUTIONS = '''
import torch

from benchmark.parameters import BelowOne, Positive
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
)
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(ContributionThreat):
    """Malicious parties upload their own update backwards.

    Args:
        scale: by which they multiply it.
        fraction: share of the parties that are malicious.
    """

    family = "poisoning"
    floor = Floor("accuracy_drop", 0.1)

    def __init__(self, *, scale: Positive = 5.0, fraction: BelowOne = 0.2) -> None:
        super().__init__(fraction=fraction)
        self.scale = scale

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        return Contribution(-self.scale * surface.own)
'''

TRAINING_DATA = '''
from dataclasses import replace

import torch

from benchmark.data.base import Split
from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.settings.threat import Floor
from benchmark.threats.poisoning.data_poison import DataPoison

VERSION = 1


class $Class(DataPoison):
    """Malicious parties train on the label after the true one.

    Args:
        fraction: share of the parties that are malicious.
    """

    floor = Floor("accuracy_drop", 0.05)

    def __init__(self, *, fraction: BelowOne = 0.4) -> None:
        super().__init__(fraction=fraction)

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        return replace(data, y=(data.y + 1) % party.num_classes)
'''

TRAJECTORY = '''
import torch
from torch.nn.functional import cross_entropy

from benchmark.settings.collaboration.games.trajectory import TrajectorySurface, TrajectoryThreat
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(TrajectoryThreat):
    """Takes samples of small loss under the finished model for those that others trained on."""

    floor = Floor("attack_auc", 0.51)

    def attack(self, surface: TrajectorySurface, rng: torch.Generator) -> MembershipScores:
        asked = surface.candidates
        with torch.no_grad():
            logits = surface.net.logits(surface.models[-1], asked.x)
        return MembershipScores(-cross_entropy(logits, asked.y, reduction="none"))
'''

RELEASE = '''
import torch

from benchmark.errors import Refused
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(ReleaseThreat):
    """Takes each released row for the private sample behind it."""

    family = "reconstruction"
    headline = "retrieval_top1"
    floor = Floor("retrieval_top1", 0.95)
    needs = {"defense.synthetic": "no"}

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        if surface.targets.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than private samples, so there is nothing to compare.")
        return Reconstruction(surface.targets.clamp(0, 1).unsqueeze(1))
'''

MEMBERS = '''
import torch

from benchmark.errors import Refused
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.members import MemberSurface
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(ReleaseThreat):
    """Takes people for members who are near to a released row."""

    family = "membership_inference"
    surface = "members"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.95)

    def attack(self, surface: MemberSurface, rng: torch.Generator) -> MembershipScores:
        people, released = surface.candidates.x.flatten(1), surface.x.flatten(1)
        if people.shape[1] != released.shape[1]:
            raise Refused("Released rows have another shape than private samples, so there is nothing to compare.")
        return MembershipScores(-torch.cdist(people, released).amin(dim=1))
'''

ATTRIBUTES = '''
import torch

from benchmark.settings.release.games.attributes import AttributeGuess, AttributeSurface
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(ReleaseThreat):
    """Guesses for each person the attribute of the most similar record of known attribute."""

    family = "attribute_inference"
    surface = "attributes"
    headline = "attribute_accuracy"
    floor = Floor("attribute_accuracy", 0.6)
    needs = {"dataset.sensitive": "yes", "defense.attributes": "yes"}
    knowledge = frozenset({"labelled"})

    def attack(self, surface: AttributeSurface, rng: torch.Generator) -> AttributeGuess:
        known = surface.labelled
        assert known.sensitive is not None
        nearest = torch.cdist(surface.targets.flatten(1), known.x.flatten(1)).argmin(dim=1)
        return AttributeGuess({"nearest": known.sensitive[nearest]})
'''

OUTPUTS = '''
import torch

from benchmark.settings.guesses import Reconstruction
from benchmark.settings.service.games.outputs import OutputSurface, OutputThreat
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict

VERSION = 1


class $Class(OutputThreat):
    """Guesses the mean of the provider's samples whose outputs are most like those of the private input."""

    family = "reconstruction"
    headline = "explained_variance"
    floor = Floor("explained_variance", 0.2)
    knowledge = frozenset({"provider"})

    def attack(self, surface: OutputSurface, rng: torch.Generator) -> Reconstruction:
        own = surface.provider.data.x
        seen, known = surface.outputs.softmax(dim=1), predict(surface.model, own).softmax(dim=1)
        nearest = torch.cdist(seen, known).topk(8, largest=False).indices
        return Reconstruction(own[nearest].mean(dim=1).unsqueeze(1))
'''

INPUTS = '''
import torch
from torch.nn.functional import cross_entropy

from benchmark.parameters import Positive
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(InputThreat):
    """Takes one step towards the target class along the sign of the gradient.

    Args:
        eps: largest change of a feature.
    """

    family = "evasion"
    headline = "attack_success"
    floor = Floor("attack_success", 0.05)

    def __init__(self, *, eps: Positive = 0.2) -> None:
        super().__init__()
        self.eps = eps

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        x = surface.x.clone().requires_grad_()
        loss = cross_entropy(surface.model(x), surface.targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        altered = (surface.x - self.eps * gradient.sign()).clamp(0, 1)
        return AdversarialExamples(altered, stalled=gradient.flatten(1).abs().amax(dim=1) == 0)
'''

BATCHES = '''
import torch

from benchmark.parameters import Fraction, Positive
from benchmark.settings.deployment.games.batches import BatchSurface, ShiftedInputs, ShiftThreat
from benchmark.settings.threat import Floor

VERSION = 1


class $Class(ShiftThreat):
    """Blends every input with its negative.

    Args:
        strength: weight of the negative.
        share: of a batch that is shifted.
    """

    floor = Floor("accuracy_drop", 0.05)

    def __init__(self, *, strength: Positive = 0.6, share: Fraction = 1.0) -> None:
        super().__init__(share=share)
        self.strength = strength

    def attack(self, surface: BatchSurface, rng: torch.Generator) -> ShiftedInputs:
        x = torch.lerp(surface.x, 1 - surface.x, self.strength)
        return ShiftedInputs(x, torch.arange(len(x), device=x.device))
'''


def _threat(folder: str, prefix: str, code: str, lines: str = "", **brings: str) -> Start:
    entries = [f"override /{group}@_global_.{group}: {option}" for group, option in sorted(brings.items())]
    if code is TRAJECTORY:
        entries = ["/preset/small_shares@_global_.setting", *entries]  # overfitted models, which tell something
    return Start(f"threats/{folder}", HEAD + code, THREAT_TEST, prefix, tuple(entries), lines)


SURFACES = {
    "uploads": _threat("gradient_leakage", "leakage", UPLOADS, "candidates: 100\nadaptive: false\n"),
    "contributions": _threat("poisoning", "poison", CONTRIBUTIONS, "scale: 5.0\nfraction: 0.2\n"),
    "training_data": _threat("poisoning", "poison", TRAINING_DATA, "fraction: 0.4\n"),
    "trajectory": _threat("membership_inference", "member", TRAJECTORY, model="mlp"),
    "release": _threat("reconstruction", "reconstruction", RELEASE, setting="release"),
    "members": _threat("membership_inference", "member", MEMBERS, setting="release"),
    "attributes": _threat("attribute_inference", "attribute", ATTRIBUTES, setting="release", dataset="digits_writers"),
    "outputs": _threat("reconstruction", "reconstruction", OUTPUTS, setting="service"),
    "inputs": _threat("evasion", "evasion", INPUTS, "eps: 0.2\n", setting="deployment"),
    "batches": _threat("shift", "shift", BATCHES, "strength: 0.6\nshare: 1.0\n", setting="deployment"),
}
"""Surface -> beginning of a threat. Surfaces that need more than a few lines have none."""
