"""Untargeted label flipping."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.settings.threat import Floor
from benchmark.threats.poisoning.data_poison import DataPoison

VERSION = 1


class LabelFlip(DataPoison):
    """Label flipping y -> classes - 1 - y.

    Fang et al., *Local Model Poisoning Attacks to Byzantine-Robust Federated Learning*, USENIX Security 2020, section
    5.1.
    """

    floor = Floor("accuracy_drop", 0.1)

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        return Split(data.x, party.num_classes - 1 - data.y, data.sensitive, data.group)
