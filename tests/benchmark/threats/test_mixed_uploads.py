"""Attacks on uploads in which two parties exchanged coordinates."""

from __future__ import annotations

import torch

from benchmark.defenses.collaboration.regimes.fragmented_fl import FragmentedFL
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.gradient_leakage.mixed_uploads import Collusion, Unmixing, assign
from tests.benchmark.helpers import collaboration, context

ATTACK = dict(iterations=300, step=0.1, total_variation=1e-4, restarts=2)


def mixed() -> FragmentedFL:
    return FragmentedFL(p_mix=0.5, warm_up=2, reputation=False, wire="counted", dropout=0.0)


def test_values_are_assigned_to_the_nearer_gradient():
    ours = torch.tensor([[1.0, 5.0, 0.0], [4.0, 2.0, 0.0]])
    uploads = torch.tensor([[1.1, 2.1, 7.0], [4.1, 5.1, 8.0]])
    fitting = torch.tensor([[1.1, 5.1, 7.0], [4.1, 2.1, 8.0]])
    assert torch.equal(assign(ours, uploads), fitting)
    pairs = torch.stack([ours, ours.flip(0)]), torch.stack([uploads, uploads])
    assert torch.equal(assign(*pairs)[:, :, :2], torch.stack([fitting, fitting.flip(0)])[:, :, :2])


def test_unmixing_and_collusion_recover_images_from_mixed_uploads():
    setting = collaboration(victims=2, rounds=2)
    psnr = {
        name: setting.play(context(threat, mixed())).risk["psnr_db"]
        for name, threat in {
            "naive": InvertingGradients(**ATTACK, observations=1, adaptive=False),
            "unmixing": Unmixing(**ATTACK),
            "collusion": Collusion(**ATTACK),
        }.items()
    }
    assert psnr["unmixing"] > psnr["naive"] + 5
    assert psnr["collusion"] > psnr["naive"] + 10


def test_collusion_sees_exactly_the_plain_updates():
    setting = collaboration(victims=2, rounds=2)
    bare = setting.play(context(InvertingGradients(**ATTACK | {"iterations": 20}, observations=1, adaptive=False)))
    told = setting.play(context(Collusion(**ATTACK | {"iterations": 20}), mixed()))
    assert abs(bare.risk["psnr_db"] - told.risk["psnr_db"]) < 3
