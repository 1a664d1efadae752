"""Tests that faults planted in a defense or a threat are found, each in a cell that is played to its end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.cell import Cell, play
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.defense import Defense
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor, Threat
from runners.config.build import build
from runners.config.identity import SINGLE
from tests.accelerator.pretended_device import (
    NO_NUMPY,
    STRAY_GENERATOR,
    STRAY_INDEX,
    TWO_DEVICES,
    PretendedDevice,
)
from tests.test_pairs import ROOT, defense_node, parts


class NoiseOfTheCPU(FederatedDefense):
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return updates + torch.randn(updates.shape, generator=round.rng)


class NoiseByAGeneratorOfTheCPU(FederatedDefense):
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return updates + torch.randn(updates.shape, generator=round.rng, device=updates.device)


class Integers(FederatedDefense):
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        whole = updates.long()
        return updates + 0 * (whole @ whole.T).sum()


class Numpy(FederatedDefense):
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return torch.from_numpy(updates.numpy().copy()).to(updates.device)


class IndexOfTheDevice(FederatedDefense):
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return updates[round.parties.cpu()[updates.norm(dim=1).argsort()]]


class MedianByItsKernel(FederatedDefense):
    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return updates.median(dim=0).values.expand_as(updates)


class GuessOfTheCPU(UploadThreat):
    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.5)

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        victims = surface.uploads.shape[1]
        x = torch.rand(victims, surface.batch_size, *surface.shape, generator=rng)
        return Reconstruction(x, torch.zeros(victims, surface.batch_size, dtype=torch.int64))


def played(defense: Defense | None = None, threat: Threat | None = None) -> PretendedDevice:
    dataset, model, setting, attack = (build(parts("leakage_control_mean")[group], group) for group in SINGLE)
    defense = build(defense_node("none"), "defense") if defense is None else defense
    cell = Cell(dataset, model, setting, attack if threat is None else threat, [defense], seed=0)
    with PretendedDevice() as device:
        play(cell, root=ROOT, device="cuda")
    return device


def test_a_sound_cell_has_no_fault() -> None:
    device = played()
    assert not device.faults and not device.unrepeatable and device.kernels > 100


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        (NoiseOfTheCPU, TWO_DEVICES),
        (NoiseByAGeneratorOfTheCPU, STRAY_GENERATOR),
        (Integers, "not implemented for torch.int64"),
        (Numpy, NO_NUMPY),
        (IndexOfTheDevice, STRAY_INDEX),
    ],
)
def test_a_planted_fault_is_found(planted: type[FederatedDefense], message: str) -> None:
    faults = played(planted()).faults
    assert faults and all(fault.message.startswith(message) or message in fault.message for fault in faults)


def test_an_operation_without_a_deterministic_kernel_is_found() -> None:
    assert {operation for _, operation in played(MedianByItsKernel()).unrepeatable} == {"median.dim"}


def test_a_guess_left_on_the_cpu_is_found() -> None:
    faults = played(threat=GuessOfTheCPU()).faults
    assert faults and all(fault.place.startswith("benchmark/") for fault in faults)


def test_a_published_mask_left_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(self: Round, **facts: Tensor) -> None:
        object.__setattr__(self.published, "mask", facts.get("mask"))

    monkeypatch.setattr(Round, "publish", publish)
    dataset, model, setting, _ = (build(parts("leakage_dlg")[group], group) for group in SINGLE)
    threat = build(parts("leakage_dlg")["threat"] | {"adaptive": True}, "threat")
    withheld = build(defense_node("layer_withholding"), "defense")
    with PretendedDevice() as device:
        play(Cell(dataset, model, setting, threat, [withheld], seed=0), root=ROOT, device="cuda")
    assert {fault.place.partition(":")[0] for fault in device.faults} == {
        "benchmark/threats/gradient_leakage/matching.py"
    }
