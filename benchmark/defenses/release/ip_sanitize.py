"""IPProtect: images that models read like the originals, made without the originals' pixels.

Singh, Wang, Tazwar, Wang, Zhang, *IPProtect: protecting the intellectual property of visual datasets during data
valuation*, 2022 (arXiv 2212.11468). Only the abstract could be read: this is a reconstruction that keeps every property
it states, and equations are ours. What is sanitised is a buyer's evaluation set, the ``owner`` split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused, positive
from benchmark.metrics.images import ssim, variation
from benchmark.models.base import Classifier
from benchmark.seeds import child
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.proxies import MATCHED, FeatureMatch, learner_loss, only, trained_proxies

VERSION = 1
KNOWN_SEED = 0
CHOICES = {
    "proxies": ("known", "secret"),
    "start": ("noise", "public"),
    "likeness": ("pixels", "ssim", "features"),
    "unlike_to": ("source", "class_mean"),
    "matched": MATCHED,
}


class IPSanitize(ReleaseMechanism):
    """Descends from an unrelated start to an image with the proxies' features of the original.

    ``L = feature error + b1 |x^ - x0|^2 + b2 max(0, likeness - tau) + b3 TV - b4 loss of a learner of the release``,
    per image, by Adam within [0, 1]; an image rests once all proxies give it the original's class and its feature
    error is below ``stop_error`` (and its likeness below tau where b2 counts).

    Args:
        widths: of the proxies, one each. proxy_epochs: of training them on the public samples.
        eps, ascent_steps: of their adversarial training; eps 0: plain proxies.
        proxies: ``known``: anybody who runs the mechanism gets the same ones; ``secret``: they belong to the key.
        matched: ``logits`` or ``features``. top, quantum: levers to let less through, see :class:`FeatureMatch`.
        start: ``noise``, or a random ``public`` image, whose class then is random too ("swap").
        descent_steps, lr, batch_size: of Adam. stop_error: 0: never rest.
        pull, unlike, smooth, unlearnable: b1, b2, b3, b4.
        likeness: cosine of centred ``pixels``, ``ssim``, or cosine of ``features`` of a further network.
        unlike_to: the ``source`` itself (which opens a second channel from it), or public samples' ``class_mean``.
        tau: likeness that is put up with.
        learner_steps, learner_lr: of the learner that b4 hinders; it also keeps images from resting.
        releases: sanitised copies of each image, each from a start of its own.
    """

    needs = {"dataset.kind": "image"}

    def __init__(
        self,
        *,
        widths: Sequence[int],
        proxy_epochs: int,
        eps: float,
        ascent_steps: int,
        proxies: str,
        matched: str,
        top: int | None,
        quantum: float,
        start: str,
        descent_steps: int,
        lr: float,
        batch_size: int,
        stop_error: float,
        pull: float,
        unlike: float,
        smooth: float,
        unlearnable: float,
        likeness: str,
        unlike_to: str,
        tau: float,
        learner_steps: int,
        learner_lr: float,
        releases: int,
    ) -> None:
        chosen = {"proxies": proxies, "start": start, "likeness": likeness, "unlike_to": unlike_to, "matched": matched}
        for name, value in chosen.items():
            if value not in CHOICES[name]:
                raise ConfigError(f"ip_sanitize.{name} must be one of {list(CHOICES[name])}, not {value!r}.")
        if not widths:
            raise ConfigError("ip_sanitize.widths must name at least one proxy.")
        for name, number in (("releases", releases), ("batch_size", batch_size), ("proxy_epochs", proxy_epochs)):
            positive(f"ip_sanitize.{name}", number)
        self.widths, self.proxy_epochs, self.eps, self.ascent_steps = list(widths), proxy_epochs, eps, ascent_steps
        self.proxies, self.matched, self.top, self.quantum = proxies, matched, top, quantum
        self.beginning, self.descent_steps, self.lr, self.batch_size = start, descent_steps, lr, batch_size
        self.stop_error, self.pull, self.unlike, self.smooth = stop_error, pull, unlike, smooth
        self.unlearnable, self.likeness, self.unlike_to, self.tau = unlearnable, likeness, unlike_to, tau
        self.learner_steps, self.learner_lr, self.copies = learner_steps, learner_lr, releases
        self.networks: list[Classifier] = []

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "ip_sanitize", "proxies": len(self.widths), "releases": self.copies}

    def models(self) -> Mapping[str, nn.Module]:
        """The proxies; an adversary of level L3 knows them."""
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
            begin = self._begin(private.x, public, rng)
            for part in torch.arange(len(private), device=private.y.device).split(self.batch_size):
                rows.append(self.sanitised(private[part], begin[part], match, public, classes))
        source = torch.arange(len(private)).repeat(self.copies)
        return Release(torch.cat(rows), private.y.repeat(self.copies), source)

    def sanitised(self, private: Split, begin: Tensor, match: FeatureMatch, public: Split, classes: int) -> Tensor:
        """Images (n, ...) in [0, 1] with the features of ``private``, reached from ``begin`` (n, ...)."""
        targets, apart_from = match.targets(private.x), self._apart_from(private, public, classes)
        x = begin.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=self.lr)
        awake = torch.arange(len(private), device=x.device)
        for _ in range(self.descent_steps):
            moving = x[awake]
            loss, agreed = match.error(moving, only(targets, awake))
            rests = agreed & (loss.detach() < self.stop_error)
            if self.unlike:
                alike = self.alike(moving, apart_from[awake])
                loss = loss + self.unlike * (alike - self.tau).clamp_min(0)
                rests &= alike.detach() <= self.tau
            if self.unlearnable:
                rests &= False
            if rests.all():
                break
            if self.pull:
                loss = loss + self.pull * (moving - begin[awake]).square().flatten(1).mean(dim=1)
            if self.smooth:
                loss = loss + self.smooth * variation(moving)
            total = loss[~rests].sum()
            if self.unlearnable:
                steps, rate = self.learner_steps, self.learner_lr
                left = learner_loss(x, private.y, public, classes, steps=steps, lr=rate)
                total = total - self.unlearnable * len(x) * left
            before, awake = x.detach().clone(), awake[~rests]
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            with torch.no_grad():  # the optimizer's momentum would move resting images too
                before[awake] = x[awake].clamp(0, 1)
                x.copy_(before)
        return x.detach()

    def alike(self, x: Tensor, other: Tensor) -> Tensor:
        """How alike images are, (n,), 1 for copies."""
        if self.likeness == "ssim":
            return ssim(x, other)
        if self.likeness == "features":
            return F.cosine_similarity(self.judge.features(x), self.judge.features(other), dim=1)
        a, b = (images.flatten(1) - images.flatten(1).mean(dim=1, keepdim=True) for images in (x, other))
        return F.cosine_similarity(a, b, dim=1)

    def _begin(self, like: Tensor, public: Split, rng: torch.Generator) -> Tensor:
        if self.beginning == "noise":
            return torch.rand(like.shape, generator=rng).to(like)
        return public.x[torch.randint(len(public), (len(like),), generator=rng).to(like.device)]

    def _apart_from(self, private: Split, public: Split, classes: int) -> Tensor:
        if self.unlike_to == "source":
            return private.x
        return class_means(public, classes)[private.y]

    def _classes(self, private: Split) -> int:
        return int(private.y.max()) + 1 if self.context is None else self.context.num_classes

    def _public(self) -> Split:
        if self.context is None or not len(self.context.public):
            raise Refused("The proxies of ip_sanitize learn from public samples: raise dataset.sizes.public.")
        return self.context.public


def class_means(split: Split, classes: int) -> Tensor:
    """The mean sample of each class, (classes, ...); the mean of all for a class that is absent."""
    everything = split.x.mean(dim=0)
    rows = [split.x[split.y == label] for label in range(classes)]
    return torch.stack([own.mean(dim=0) if len(own) else everything for own in rows])
