"""IPProtect: images with the features of the originals, made without the originals' pixels.

Singh, Wang, Tazwar, Wang, Zhang, *IPProtect: protecting the intellectual property of visual datasets during data
valuation*, 2022 (arXiv 2212.11468). A reconstruction from the abstract, which keeps every property that it states; the
equations are choices of this suite. The sanitised data are a buyer's evaluation set, the ``owner`` split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.images import ssim, variation
from benchmark.models.base import Classifier
from benchmark.parameters import Count, CountOrZero, NonNegative, Positive
from benchmark.seeds import child
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.proxies import FeatureMatch, learner_loss, select_rows, trained_proxies

VERSION = 2
KNOWN_SEED = 0


class IPSanitize(ReleaseMechanism):
    """Mechanism that optimises an unrelated start image until it has the proxies' features of the original.

    ``L = feature error + b1 |x^ - x0|^2 + b2 max(0, likeness - tau) + b3 TV - b4 loss of a learner of the release``,
    per image, by Adam within [0, 1]; an image is finished once all proxies give it the original's class and its feature
    error is below ``stop_error`` (and its likeness below tau if b2 is used).

    Args:
        widths: of the proxies, one each.
        proxy_epochs: of their training on the public samples.
        eps, ascent_steps: of their adversarial training; eps 0: plain proxies.
        proxies: ``known``: anybody who runs the mechanism gets the same ones; ``secret``: they belong to the key.
        matched: ``logits`` or ``features``.
        top, quantum: reduce the information that passes, see :class:`FeatureMatch`.
        start: ``noise``, or a random ``public`` image, whose class then is random too ("swap").
        descent_steps, lr, batch_size: of Adam.
        stop_error: 0: no early stop.
        pull, unlike, smooth, unlearnable: b1, b2, b3, b4.
        likeness: cosine of centred ``pixels``, ``ssim``, or cosine of ``features`` of a further network.
        unlike_to: the ``source`` itself (which opens a second channel from it), or public samples' ``class_mean``.
        tau: tolerated likeness.
        learner_steps, learner_lr: of the learner that b4 hinders; with b4 no image stops early.
        releases: sanitised copies of each image, each from its own start.
    """

    needs = {"dataset.kind": "image"}

    def __init__(
        self,
        *,
        widths: Sequence[Count] = (8, 12, 16),
        proxy_epochs: Count = 60,
        eps: NonNegative = 0.15,
        ascent_steps: CountOrZero = 2,
        proxies: Literal["known", "secret"] = "known",
        matched: Literal["logits", "features"] = "logits",
        top: Count | None = None,
        quantum: NonNegative = 0.0,
        start: Literal["noise", "public"] = "noise",
        descent_steps: CountOrZero = 200,
        lr: Positive = 0.05,
        batch_size: Count = 500,
        stop_error: NonNegative = 0.05,
        pull: NonNegative = 0.0,
        unlike: NonNegative = 0.0,
        smooth: NonNegative = 0.0,
        unlearnable: NonNegative = 0.0,
        likeness: Literal["pixels", "ssim", "features"] = "pixels",
        unlike_to: Literal["source", "class_mean"] = "source",
        tau: float = 0.1,
        learner_steps: CountOrZero = 10,
        learner_lr: Positive = 0.5,
        releases: Count = 1,
    ) -> None:
        if not widths:
            raise ConfigError("ip_sanitize.widths must name at least one proxy.")
        self.widths, self.proxy_epochs, self.eps, self.ascent_steps = list(widths), proxy_epochs, eps, ascent_steps
        self.proxies, self.matched, self.top, self.quantum = proxies, matched, top, quantum
        self.start_from, self.descent_steps, self.lr, self.batch_size = start, descent_steps, lr, batch_size
        self.stop_error, self.pull, self.unlike, self.smooth = stop_error, pull, unlike, smooth
        self.unlearnable, self.likeness, self.unlike_to, self.tau = unlearnable, likeness, unlike_to, tau
        self.learner_steps, self.learner_lr, self.copies = learner_steps, learner_lr, releases
        self.networks: list[Classifier] = []

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "ip_sanitize", "proxies": len(self.widths), "releases": self.copies}

    def models(self) -> Mapping[str, nn.Module]:
        """Return the proxies, which an adversary of knowledge level L3 has."""
        return {f"proxy_{number}": network for number, network in enumerate(self.networks)}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        public, classes = self._public(), self._classes(private)
        seed = KNOWN_SEED if self.proxies == "known" else child(rng)
        further = [max(self.widths)] if self.unlike and self.likeness == "features" else []
        networks = trained_proxies(
            public,
            classes,
            widths=[*self.widths, *further],
            epochs=self.proxy_epochs,
            eps=self.eps,
            ascent_steps=self.ascent_steps,
            seed=seed,
        )
        self.networks, self.judge = networks[: len(self.widths)], networks[-1]
        match = FeatureMatch(self.networks, self.matched, public.x, top=self.top, quantum=self.quantum)
        rows = []
        for _ in range(self.copies):
            start = self._start_images(private.x, public, rng)
            for part in torch.arange(len(private), device=private.y.device).split(self.batch_size):
                rows.append(self.sanitised(private[part], start[part], match, public, classes))
        source = torch.arange(len(private)).repeat(self.copies)
        return Release(torch.cat(rows), private.y.repeat(self.copies), source)

    def sanitised(self, private: Split, start: Tensor, match: FeatureMatch, public: Split, classes: int) -> Tensor:
        """Return images (n, ...) in [0, 1] with the features of ``private``, optimised from ``begin`` (n, ...)."""
        targets, unlike_targets = match.targets(private.x), self._dissimilarity_targets(private, public, classes)
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=self.lr)
        active = torch.arange(len(private), device=x.device)
        for _ in range(self.descent_steps):
            current = x[active]
            loss, agreed = match.error(current, select_rows(targets, active))
            finished = agreed & (loss.detach() < self.stop_error)
            if self.unlike:
                likeness = self.likeness_to(current, unlike_targets[active])
                loss = loss + self.unlike * (likeness - self.tau).clamp_min(0)
                finished &= likeness.detach() <= self.tau
            if self.unlearnable:
                finished &= False
            if finished.all():
                break
            if self.pull:
                loss = loss + self.pull * (current - start[active]).square().flatten(1).mean(dim=1)
            if self.smooth:
                loss = loss + self.smooth * variation(current)
            total = loss[~finished].sum()
            if self.unlearnable:
                steps, rate = self.learner_steps, self.learner_lr
                left = learner_loss(x, private.y, public, classes, steps=steps, lr=rate)
                total = total - self.unlearnable * len(x) * left
            before, active = x.detach().clone(), active[~finished]
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            with torch.no_grad():  # the optimizer's momentum would move finished images too
                before[active] = x[active].clamp(0, 1)
                x.copy_(before)
        return x.detach()

    def likeness_to(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the likeness of images, (n,), 1 for copies."""
        if self.likeness == "ssim":
            return ssim(x, other)
        if self.likeness == "features":
            return F.cosine_similarity(self.judge.features(x), self.judge.features(other), dim=1)
        a, b = (images.flatten(1) - images.flatten(1).mean(dim=1, keepdim=True) for images in (x, other))
        return F.cosine_similarity(a, b, dim=1)

    def _start_images(self, like: Tensor, public: Split, rng: torch.Generator) -> Tensor:
        if self.start_from == "noise":
            return torch.rand(like.shape, generator=rng).to(like)
        return public.x[torch.randint(len(public), (len(like),), generator=rng).to(like.device)]

    def _dissimilarity_targets(self, private: Split, public: Split, classes: int) -> Tensor:
        if self.unlike_to == "source":
            return private.x
        return class_means(public, classes)[private.y]

    def _classes(self, private: Split) -> int:
        return int(private.y.max()) + 1 if self.context is None else self.context.num_classes

    def _public(self) -> Split:
        if self.context is None or not len(self.context.public):
            raise Refused("The proxies of ip_sanitize learn from public samples: raise dataset.sizes.public.")
        return self.context.public


def class_means(split: Split, classes: int) -> Float[Tensor, "classes ..."]:
    """Return the mean sample of each class, (classes, ...); the overall mean for an absent class."""
    everything = split.x.mean(dim=0)
    rows = [split.x[split.y == label] for label in range(classes)]
    return torch.stack([own.mean(dim=0) if len(own) else everything for own in rows])
