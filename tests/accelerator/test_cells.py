"""Tests that cells of the catalogue obey the rules of CUDA, on a pretended device.

The default tier plays a sample that meets every surface and every published mask. ``-m accelerator`` plays all pairs,
plain and adaptive.
"""

from __future__ import annotations

import inspect

import pytest
import torch

from benchmark.settings.base import ArtifactCache, no_cache
from runners.config.build import locate
from runners.sweep.process import prepare_torch
from tests.accelerator.pretended_device import PretendedDevice
from tests.test_pairs import DEFENSES, THREATS, check, parts, shared_by_defenses

SAMPLE = (
    ("leakage_dlg", "layer_withholding", True),
    ("leakage_inverting_gradients", "layer_encryption", True),
    ("leakage_rgap", "soteria", True),
    ("leakage_unmixing", "fragmented_fl", False),
    ("leakage_robbing_the_fed", "broadcast_guard", False),
    ("leakage_v_control_told", "dp_sgd", False),
    ("poison_alie", "bulyan", False),
    ("gan_insider", "selective_sharing", True),
    ("member_participant_active", "gradient_compression", False),
    ("evasion_cw_l2", "defensive_distillation", True),
    ("shift_darker", "mmd_d", False),
    ("reconstruction_vicious", "output_top_k", True),
    ("reconstruction_pca", "pair_mix", False),
    ("attribute_joint_inversion", "fair_mapping", False),
    ("statistical_train_on_release", "dp_sinkhorn", False),
    ("statistical_train_on_release", "dataset_condensation", False),
)
SCRIPTED = ("leakage_breaching",)
"""Threats whose library compiles its functions."""


def play(threat: str, defense: str, *, adaptive: bool = False, cache: ArtifactCache = no_cache) -> PretendedDevice:
    """Play a cell on a pretended device and return that, with the faults it found."""
    with PretendedDevice() as device:
        check(threat, defense, cache, adaptive=adaptive, device="cuda")
    return device


def report(device: PretendedDevice) -> str:
    return "\n".join(sorted({f"{fault.place}: {fault.message}" for fault in device.faults}))


def adapts(threat: str) -> bool:
    """Return whether the threat has an adaptive form to choose."""
    return "adaptive" in inspect.signature(locate(parts(threat)["threat"]["_target_"], "threat")).parameters


@pytest.mark.parametrize(("threat", "defense", "adaptive"), SAMPLE)
def test_a_sample_of_the_cells_obeys_cuda(threat: str, defense: str, adaptive: bool) -> None:
    device = play(threat, defense, adaptive=adaptive)
    assert not device.faults, report(device)
    assert device.kernels > 100, "the cell was not played on the device"


@pytest.mark.gpu
@pytest.mark.parametrize(("threat", "defense", "adaptive"), SAMPLE)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_sample_of_the_cells_plays_on_a_gpu(threat: str, defense: str, adaptive: bool) -> None:
    prepare_torch(1, "cuda")
    check(threat, defense, adaptive=adaptive, device="cuda")


@pytest.mark.accelerator
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
@pytest.mark.parametrize("threat", THREATS)
def test_every_pair_obeys_cuda(threat: str, adaptive: bool) -> None:
    if adaptive and not adapts(threat):
        pytest.skip("no adaptive form")
    if threat in SCRIPTED:
        pytest.skip("a pretended device does not see into compiled functions")
    cache, found = shared_by_defenses(), {}
    for defense in DEFENSES:
        device = play(threat, defense, adaptive=adaptive, cache=cache)
        if device.faults:
            found[defense] = report(device)
    assert not found, "\n".join(f"{defense}: {faults}" for defense, faults in found.items())
