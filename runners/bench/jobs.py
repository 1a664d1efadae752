"""Whole jobs of training, as a user starts them, against the library that has the same job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from runners.bench.measure import HotPath, Peer, largest_relative

if TYPE_CHECKING:
    import torch

    from benchmark.data.base import Split

REPEATS = 3
SEED, SIDE = 0, 28
PARTIES, MALICIOUS, ROUNDS, BATCH, RATE, TAU = 20, 4, 60, 16, 0.1, 5.0
SAMPLES, EPOCHS, PRIVATE_BATCH, BOUND, NOISE, DELTA = 1280, 6, 128, 1.0, 1.0, 1e-5
PEOPLE, SHADOWS, HIDDEN, SHADOW_EPOCHS = 200, 8, 128, 30


class Learned(NamedTuple):
    """Result of a job of training: weights (d,) and the accuracy on test samples."""

    weights: torch.Tensor
    accuracy: float


def digits(device: str = "cpu", side: int = SIDE) -> tuple[Split, Split]:
    """Return scikit-learn's digits at ``side`` pixels, to train on and to test with; they need no download."""
    from benchmark.data.digits_enlarged import EnlargedDigits

    train, test, _ = EnlargedDigits(side=side).pools(None)
    return train.to(device), test.to(device)


def job_poisoning(device: str = "cpu") -> HotPath:
    """Time a poisoned federated training, from first weights to final accuracy.

    Compares byzfl's clients, attacker and server in the loop of its manual with the suite's rounds: a LeNet on digits,
    the same batches, inner product manipulation against a trimmed mean. Weights agree. byzfl takes no gradients of
    malicious parties, ours does, since many threats start from what their parties have learnt: five for its four.
    """
    import torch

    from benchmark.data.base import Dataset
    from benchmark.defenses.collaboration.aggregation.trimmed_mean import TrimmedMean
    from benchmark.metrics.classification import accuracy
    from benchmark.models.lenet import LeNet
    from benchmark.seeds import generator
    from benchmark.settings.base import CellContext
    from benchmark.settings.collaboration.defense import LocalPlan
    from benchmark.settings.collaboration.games.contributions import MaliciousClients
    from benchmark.settings.collaboration.rounds import federate
    from benchmark.settings.stack import Stack
    from benchmark.threats.poisoning.ipm import IPM
    from benchmark.training.functional import Net
    from benchmark.training.loop import predict

    torch.manual_seed(SEED)
    train, test = digits(device)
    module = LeNet(shape=(1, SIDE, SIDE), num_classes=10).to(device)
    shares = [train[party::PARTIES] for party in range(PARTIES)]
    none = train[:0]

    def fast() -> Learned:
        net, rule = Net(module), TrimmedMean(f_assumed=MALICIOUS)
        threat = IPM(epsilon=TAU, fraction=MALICIOUS / PARTIES)
        data = Dataset("digits", train, none, none, none, test, num_classes=10, digest="")
        cell = CellContext(data, LeNet, Stack([rule]), threat, SEED, torch.device(device))
        members = torch.arange(PARTIES - MALICIOUS, PARTIES)
        malicious = MaliciousClients(cell, threat, members, PARTIES, goal=None)
        run = federate(
            net,
            shares,
            cell.defense,
            plan=LocalPlan(BATCH, local_steps=1, lr=RATE),
            rounds=ROUNDS,
            fraction=1.0,
            seed=SEED,
            deviate=malicious.deviate,
        )
        return Learned(run.params, accuracy(predict(partial(net.logits, run.params), test.x), test.y))

    def prepare() -> Callable[[], Learned]:
        import copy

        from byzfl import ByzantineClient, Client, Server
        from byzfl.fed_framework import models
        from torch.utils.data import DataLoader, TensorDataset

        models.gauntlet_lenet = lambda: copy.deepcopy(module)  # byzfl finds a network by its name there
        shared = {"model_name": "gauntlet_lenet", "device": device}
        client = {"loss_name": "CrossEntropyLoss", "LabelFlipping": False, "nb_labels": 10, "momentum": 0.0}
        server = {"optimizer_name": "SGD", "learning_rate": RATE, "weight_decay": 0.0, "milestones": []}
        rule = {"name": "TrMean", "parameters": {"f": MALICIOUS}}
        attack = {"name": "InnerProductManipulation", "f": MALICIOUS, "parameters": {"tau": TAU}}

        def loader(party: int) -> DataLoader[tuple[torch.Tensor, ...]]:
            share = shares[party]
            draws = (generator(SEED, f"federated.batch.{party}.{index}") for index in range(ROUNDS))
            rows = [torch.randperm(len(share), generator=rng)[:BATCH].tolist() for rng in draws]
            return DataLoader(TensorDataset(share.x, share.y), batch_sampler=rows)

        loaders = [loader(party) for party in range(PARTIES - MALICIOUS)]
        tests = DataLoader(TensorDataset(test.x, test.y), batch_size=1024)

        def job() -> Learned:
            honest = [
                Client(shared | client | {"training_dataloader": own, "store_per_client_metrics": False})
                for own in loaders
            ]
            centre = Server(
                shared
                | server
                | {"learning_rate_decay": 1.0, "test_loader": tests, "aggregator_info": rule, "pre_agg_list": []}
            )
            byzantine = ByzantineClient(attack)
            for _ in range(ROUNDS):
                state = centre.get_dict_parameters()
                for one in honest:
                    one.set_model_state(state)
                    one.compute_gradients()
                vectors = [one.get_flat_gradients_with_momentum() for one in honest]
                centre.update_model_with_gradients(vectors + byzantine.apply_attack(vectors))
            return Learned(centre.get_flat_parameters(), centre.compute_test_accuracy())

        return job

    work = f"{PARTIES} parties, {MALICIOUS} of them malicious, {ROUNDS} rounds, LeNet, {SIDE}x{SIDE}"
    return HotPath(fast, None, 0.0, work, peer=Peer("byzfl", prepare, 1e-3, _learned_apart), repeats=REPEATS)


def _learned_apart(ours: Learned, theirs: Learned) -> float:
    """Return the distance of the weights over their norm, or the difference of accuracies if that is larger."""
    apart = float((ours.weights - theirs.weights).norm() / theirs.weights.norm())
    return max(apart, abs(ours.accuracy - theirs.accuracy))


class Private(NamedTuple):
    """Result of a job of private training: the accuracy on test samples, and the epsilon of Poisson sampling."""

    accuracy: float
    epsilon: float


def job_dp_sgd(device: str = "cpu") -> HotPath:
    """Time differentially private training of whole epochs, with its accounting.

    Compares ``PrivacyEngine`` of Opacus, with its Poisson loader, and the suite's private training: a ConvNet on
    digits, Adam, the same noise and bound. Batches and noise are drawn otherwise, so only accuracies compare, to .15
    (they spread by .05 over seeds), and the epsilon of equal noise by either's Renyi accountant, to 2 %. Ours draws
    batches of a fixed size, whose own epsilon it computes as well.
    """
    import torch

    from benchmark.metrics.classification import accuracy
    from benchmark.models.convnet import ConvNet
    from benchmark.seeds import generator, isolated
    from benchmark.training.accounting import gaussian_epsilon, sampled_gaussian_epsilon
    from benchmark.training.loop import predict
    from benchmark.training.private import train_privately
    from benchmark.training.sanitise import poisson_epsilon

    train, test = digits(device)
    train = train[:SAMPLES]

    def fresh() -> ConvNet:
        with isolated(SEED, "job.model"):
            return ConvNet(shape=(1, SIDE, SIDE), num_classes=10, channels=(16, 32), hidden=64).to(device)

    def fast() -> Private:
        sampled_gaussian_epsilon.cache_clear()
        gaussian_epsilon.cache_clear()
        model = fresh()
        train_privately(
            model,
            train.x,
            train.y,
            epochs=EPOCHS,
            batch_size=PRIVATE_BATCH,
            max_norm=BOUND,
            noise_multiplier=NOISE,
            delta=DELTA,
            lr=2e-3,
            rng=generator(SEED, "job.private"),
        )
        rate, steps = PRIVATE_BATCH / SAMPLES, EPOCHS * SAMPLES // PRIVATE_BATCH
        spent = poisson_epsilon(noise_multiplier=NOISE, rate=rate, steps=steps, delta=DELTA)
        return Private(accuracy(predict(model, test.x), test.y), spent)

    def prepare() -> Callable[[], Private]:
        import warnings

        from opacus import PrivacyEngine
        from torch.nn import functional as F
        from torch.utils.data import DataLoader, TensorDataset

        def job() -> Private:
            engine, module = PrivacyEngine(accountant="rdp"), fresh()
            loader = DataLoader(TensorDataset(train.x, train.y), batch_size=PRIVATE_BATCH)
            model, optimizer, batches = engine.make_private(
                module=module,
                optimizer=torch.optim.Adam(module.parameters(), lr=2e-3),
                data_loader=loader,
                noise_multiplier=NOISE,
                max_grad_norm=BOUND,
            )
            for _ in range(EPOCHS):
                for x, y in batches:
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    optimizer.step()
            return Private(accuracy(predict(module.eval(), test.x), test.y), engine.get_epsilon(DELTA))

        def quiet() -> Private:
            with warnings.catch_warnings(), isolated(SEED, "job.opacus"):
                warnings.simplefilter("ignore")  # of its hooks, its generator and its choice of orders
                return job()

        return quiet

    def apart(ours: Private, theirs: Private) -> float:
        return max(abs(ours.accuracy - theirs.accuracy) / 0.15, abs(ours.epsilon / theirs.epsilon - 1) / 0.02)

    work = f"{EPOCHS} epochs of {SAMPLES} samples in batches of {PRIVATE_BATCH}, ConvNet, {SIDE}x{SIDE}"
    return HotPath(fast, None, 0.0, work, peer=Peer("opacus", prepare, 1.0, apart), repeats=REPEATS)


def job_shadow_membership(device: str = "cpu") -> HotPath:
    """Time membership inference with shadow models (LiRA), from the private data to everybody's score.

    Compares the suite's attack with the way of libraries for it: shadow models one after the other, each fed by a
    DataLoader, then two Gaussians a person. No such library installs here (Privacy Meter's release of 2022 needs
    TensorFlow, LeakPro's release holds no code), so it is written out as the plain form. Same draws, same weights:
    scores agree. Ours also computes a threshold and each record's AUC from the shadows.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from benchmark.models.mlp import MLP
    from benchmark.seeds import generator, isolated
    from benchmark.settings.release.defense import Release
    from benchmark.settings.release.games.members import MemberSurface
    from benchmark.threats.membership_inference.lira_logits import LiraLogits

    people, _ = digits(device, side=8)
    private, others, own = people[:PEOPLE], people[PEOPLE : 2 * PEOPLE], people[2 * PEOPLE :]
    half = PEOPLE // 2
    candidates = private[:half].joined(others[:half])
    purpose = f"threat.{LiraLogits.__name__}"

    def refit(data: Split, _: str) -> Release:
        return Release(data.x, data.y)

    def fast() -> torch.Tensor:
        threat = LiraLogits(shadows=SHADOWS, hidden=HIDDEN, epochs=SHADOW_EPOCHS)
        surface = MemberSurface(
            x=private.x,
            y=private.y,
            shape=tuple(private.x.shape[1:]),
            num_classes=10,
            architecture=MLP,
            published={},
            public=own[:0],
            attacker=own,
            refit=refit,
            encode=lambda x: x,
            models={},
            secrets={},
            candidates=candidates,
            private=PEOPLE,
            members=torch.arange(2 * half, device=device) < half,
        )
        return threat(surface, seed=SEED).scores

    def confidences(data: Split, rng: torch.Generator) -> torch.Tensor:
        """Return the logit-scaled confidence in each candidate's label by a model of its own, trained on ``data``."""
        model = MLP(shape=(1, 8, 8), num_classes=10, hidden=[HIDDEN], activation="relu").to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        seedless = torch.Generator()  # for what a loader draws by itself, so that both forms start from equal weights
        loader = DataLoader(TensorDataset(data.x, data.y), batch_sampler=_Shuffled(len(data), rng), generator=seedless)
        for _ in range(SHADOW_EPOCHS):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        with torch.no_grad():
            logits = model(candidates.x).double()
        right = nn.functional.one_hot(candidates.y, 10).bool()
        return logits[right] - logits.masked_fill(right, -torch.inf).logsumexp(dim=1)

    def plain() -> torch.Tensor:
        rng, inside, values = generator(SEED, purpose), [], []
        with isolated(SEED, purpose):
            for _ in range(SHADOWS // 2):
                for chosen in torch.randperm(len(candidates), generator=rng).tensor_split(2):
                    filling = torch.randperm(len(own), generator=rng)[: PEOPLE - len(chosen)]
                    inside.append(torch.isin(torch.arange(len(candidates)), chosen))
                    chosen, filling = chosen.to(device), filling.to(device)
                    values.append(confidences(candidates[chosen].joined(own[filling]), rng))
            asked = confidences(private, rng)
        shadow, member = torch.stack(values), torch.stack(inside).to(device)
        fitted = []
        for rows in (member, ~member):  # few shadows: one variance for all people, as the paper advises
            mean = torch.stack([column[row].mean() for column, row in zip(shadow.T, rows.T, strict=True)])
            squares = ((shadow - mean).square() * rows).sum() / (rows.sum(dim=0) - 1).sum()
            fitted.append(torch.distributions.Normal(mean, squares.sqrt()).log_prob(asked))
        return fitted[0] - fitted[1]

    work = f"{SHADOWS} shadow models of {PEOPLE} samples, {SHADOW_EPOCHS} epochs, MLP, 8x8"
    return HotPath(fast, plain, 1e-3, work, largest_relative, repeats=REPEATS)


class _Shuffled:
    """Batches of row numbers below ``count``, drawn anew for each epoch."""

    def __init__(self, count: int, rng: torch.Generator, size: int = 64) -> None:
        self.count, self.rng, self.size = count, rng, size

    def __iter__(self) -> Iterator[list[int]]:
        import torch

        for rows in torch.randperm(self.count, generator=self.rng).split(self.size):
            yield rows.tolist()


PATHS = {
    "job_poisoning": job_poisoning,
    "job_dp_sgd": job_dp_sgd,
    "job_shadow_membership": job_shadow_membership,
}
