"""DBA: a backdoor whose trigger is divided among the malicious parties."""

from __future__ import annotations

from torch import Tensor

from benchmark.data.base import Split
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.threats.poisoning.triggers import trigger_part

VERSION = 1


class DBA(BadNets):
    """Distributed backdoor: each malicious party stamps only its part of the trigger; at test time all of it is shown.

    Xie, Huang, Chen, Li, *DBA: Distributed Backdoor Attacks against Federated Learning*, ICLR 2020. There are as many
    parts as malicious parties; the paper's scaling of updates is ``poison_model_replacement``.
    """

    def own_trigger(self, data: Split, party: MaliciousClientView) -> Tensor:
        return trigger_part(self.trigger(data), party.index, party.count)
