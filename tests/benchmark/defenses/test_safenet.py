"""SafeNet and pooled training: who trains on what, the filter, the vote, and attacks on each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.compatibility import refusal
from benchmark.data.base import Split
from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.regimes.pooled import Pooled
from benchmark.defenses.collaboration.regimes.safenet import SafeNet
from benchmark.errors import ConfigError
from benchmark.models.mlp import MLP
from benchmark.seeds import generator
from benchmark.settings.base import no_cache
from benchmark.settings.collaboration.defense import TrainingTask
from benchmark.settings.collaboration.local_training import TrainingPlan, train_locally
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.stack import Stack, UniversalDefense
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.poisoning.alie import ALIE
from benchmark.threats.poisoning.arbitrary_models import ArbitraryModels
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.threats.poisoning.class_holders import ClassHolders
from benchmark.threats.poisoning.label_flip import LabelFlip
from benchmark.threats.poisoning.label_flip_filtered import LabelFlipFiltered
from benchmark.threats.poisoning.sybils import Sybils
from benchmark.threats.poisoning.validation_poison import ValidationPoison
from benchmark.training.functional import Net
from tests.benchmark.helpers import collaboration, context, digits_like, kept

COURSE = dict(optimizer="adam", lr=0.02, batch_size=16, epochs=10, body_epochs=None, mpc=False)
SAFE = dict(
    **COURSE, validation=0.1, threshold=0.3, p_min=0.6, tolerated=0.45, delta=0.1, vote_noise=0.0, noise_delta=1e-5
)
SHARED = dict(fraction=0.25, follows_exchange=True)
BACKDOOR = dict(target=7, size=2, share=0.5, **SHARED)


def safenet(**overrides) -> SafeNet:
    return SafeNet(**(SAFE | overrides))


def architecture(**arguments) -> MLP:
    return MLP(hidden=[16], activation="relu", **arguments)


def training_task(owners: int = 4, samples: int = 40, **overrides) -> TrainingTask:
    net = Net(architecture(shape=(1, 8, 8), num_classes=10))

    def fresh(owner: int) -> torch.Tensor:
        return torch.randn(net.layout.size, generator=generator(owner, "fresh")) * 0.1

    shares = [digits_like(samples, seed) for seed in range(owners)]
    whole = TrainingTask(net, fresh, shares, digits_like(60, 50), UniversalDefense(), 0, lambda owner, part: part)
    return replace(whole, **overrides)


def played(threat, defense, parties: int = 8, **overrides):
    play = context(threat, defense, architecture=architecture)
    play = replace(play, data=replace(play.data, owner=digits_like(400, 0)))
    return collaboration(parties=parties, **overrides).play(play)


# -- training ----------------------------------------------------------------------------------------------------------
def test_models_trained_side_by_side_are_those_trained_one_by_one():
    task = training_task()
    starts = torch.stack([task.fresh(owner) for owner in range(4)])

    def rngs():
        return [generator(owner, "batches") for owner in range(4)]

    for optimizer in ("adam", "sgd"):
        plan = TrainingPlan(optimizer, 0.02, 16, 1)
        together = train_locally(task.net, starts, task.shares, plan, steps=6, rngs=rngs())
        alone = [
            train_locally(task.net, starts[k : k + 1], task.shares[k : k + 1], plan, steps=6, rngs=rngs()[k : k + 1])
            for k in range(4)
        ]
        assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_no_owner_can_move_the_model_of_another():
    task = training_task()
    honest = safenet().learn(task)
    for bad in (digits_like(500, 9), digits_like(3, 9), Split(task.shares[0].x, 9 - task.shares[0].y)):
        shaken = safenet().learn(replace(task, shares=[bad, *task.shares[1:]]))
        assert torch.equal(shaken.local_models[1:], honest.local_models[1:])
        assert not torch.equal(shaken.local_models[0], honest.local_models[0])


def test_transfer_learning_shares_a_body_and_trains_heads():
    task = training_task()
    head = Net(task.net.module.head).layout.size
    run = safenet(body_epochs=5).learn(task)
    bodies, heads = run.local_models[:, :-head], run.local_models[:, -head:]
    assert torch.equal(bodies, bodies[:1].expand_as(bodies))
    assert not torch.equal(bodies[0], task.net.initial()[:-head]), "trained on the public samples"
    assert len(heads.unique(dim=0)) == 4
    given = safenet(body_epochs=0).learn(task)
    assert torch.equal(given.local_models[0, :-head], task.net.initial()[:-head])
    with pytest.raises(ConfigError, match="raise dataset.sizes.public"):
        Pooled(**COURSE | {"body_epochs": 5}).learn(replace(task, public=task.public[:0]))


def test_a_stacked_dp_sgd_trains_the_owners_and_accounts_their_own_steps():
    stack = Stack([safenet(), DPSGD(max_norm=1.0, noise_multiplier=2.0, delta=1e-5)])
    task = training_task(defense=stack)
    run = stack.learn(task)
    assert run.work == (36, 16, 30), "40 samples less 4 for validation; 10 epochs of 3 steps"
    assert not torch.equal(run.local_models, safenet().learn(training_task()).local_models)
    outcome = played(BadNets(**BACKDOOR), stack)
    assert outcome.cost["epsilon"] == pytest.approx(stack.members[1].epsilon(samples=45, batch_size=16, steps=30)[0])


# -- filter and vote ---------------------------------------------------------------------------------------------------
def test_the_filter_drops_a_useless_model_and_keeps_honest_ones():
    task = training_task()
    useless = Split(task.shares[0].x, (task.shares[0].y + 1) % 10)
    run = safenet().learn(replace(task, shares=[useless, *task.shares[1:]]))
    assert run.scores[0] < 0.3 < run.scores[1:].min()
    vote = safenet().finish(task.net, run, generator(0, "vote"))
    assert vote.counted.tolist() == [False, True, True, True]
    assert vote(task.public.x).sum(dim=1).tolist() == [3] * 60
    assert safenet(threshold=None).finish(task.net, run, generator(0, "vote")).counted.all()


def test_wrong_validation_labels_cost_every_model_their_share():
    task = training_task()

    def spoil(owner: int, part: Split) -> Split:
        return Split(part.x, (part.y + 1) % 10) if owner == 0 else part

    before, after = safenet().learn(task).scores, safenet().learn(replace(task, validation=spoil)).scores
    assert (before - after).abs().max() <= 1 / 4 + 1e-9
    assert (before - after).mean() > 0.2


def test_thresholds():
    assert safenet(threshold="auto").threshold == pytest.approx(0.9 * 0.6 * 0.55)
    assert safenet(threshold="auto").facts() == {"filter_threshold": pytest.approx(0.297)}
    for mistake, message in [
        (dict(threshold=1.5), "threshold must be in"),
        (dict(threshold="high"), "threshold must be in"),
        (dict(validation=0.0), "validation must be in"),
        (dict(tolerated=0.5), "tolerated must be in"),
        (dict(vote_noise=-1.0), "vote_noise must be at least 0"),
        (dict(vote_noise=1.0), "set safenet.threshold=null"),
        (dict(optimizer="lion"), "optimizer must be sgd or adam"),
    ]:
        with pytest.raises(ConfigError, match=message):
            safenet(**mistake)
    with pytest.raises(ConfigError, match="needs two samples"):
        safenet().learn(training_task(samples=1))


def test_noisy_votes_spend_privacy_with_every_answer():
    task, defense = training_task(), safenet(vote_noise=5.0, threshold=None)
    vote = defense.finish(task.net, defense.learn(task), generator(0, "vote"))
    assert not torch.equal(vote(task.public.x[:5]), vote.votes(task.public.x[:5]))
    few = defense.epsilon(samples=1, batch_size=1, steps=1)[0]
    vote(task.public.x)
    many = defense.epsilon(samples=1, batch_size=1, steps=1)[0]
    assert vote.answered == 65 and 0 < few < many
    assert safenet().epsilon(samples=1, batch_size=1, steps=1) is None


# -- attacks -----------------------------------------------------------------------------------------------------------
def test_a_backdoor_takes_the_pool_and_not_the_vote():
    pool, vote = played(BadNets(**BACKDOOR), Pooled(**COURSE)), played(BadNets(**BACKDOOR), safenet())
    assert pool.risk["attack_success"] > 0.8 > 0.2 > vote.risk["attack_success"]
    assert vote.utility["attacked_accuracy"] > 0.8
    assert vote.utility["certified_accuracy"] <= vote.utility["attacked_accuracy"]
    assert vote.utility["worst_case_accuracy"] <= vote.utility["attacked_accuracy"]
    assert vote.risk["worst_case_success"] >= vote.risk["attack_success"]
    assert vote.diagnostics["kept_honest"] == 6 and set(vote.cost) == {"seconds"}


def test_arbitrary_models_are_the_worst_case_and_their_majority_breaks_a_vote():
    outcome = played(ArbitraryModels(**BACKDOOR), safenet())
    assert outcome.risk["attack_success"] == outcome.risk["worst_case_success"]
    assert played(ArbitraryModels(**BACKDOOR | {"fraction": 0.6}), safenet()).risk["attack_success"] == 1
    assert ArbitraryModels(**BACKDOOR).adaptive
    # Where nobody hands over a model it is a backdoor by poisoned data.
    assert (
        played(ArbitraryModels(**BACKDOOR), Pooled(**COURSE)).risk == played(BadNets(**BACKDOOR), Pooled(**COURSE)).risk
    )


def test_validation_poisoning_drops_honest_models_at_a_tight_threshold():
    plain = played(BadNets(**BACKDOOR), safenet(threshold=0.7))
    poisoned = played(ValidationPoison(**BACKDOOR), safenet(threshold=0.7))
    assert plain.diagnostics["kept_honest"] > poisoned.diagnostics["kept_honest"]
    assert played(ValidationPoison(**BACKDOOR), safenet()).diagnostics["kept_honest"] == 6


def test_a_flip_that_knows_the_threshold_passes_it():
    naive, knowing = LabelFlip(**SHARED), LabelFlipFiltered(margin=0.1, **SHARED)
    assert played(naive, safenet()).diagnostics["kept_poisoned"] == 0
    assert played(knowing, safenet()).diagnostics["kept_poisoned"] == 2
    unfiltered = played(knowing, safenet(threshold=None))
    assert unfiltered.utility == played(naive, safenet(threshold=None)).utility, "without a filter it flips everything"


def test_sybils_bring_few_samples_and_full_votes():
    threat = Sybils(keep=0.2, **BACKDOOR)
    data = digits_like(50, 0)
    assert len(threat.poison_data(data, None, generator(0, "sybils"))) == 10
    assert played(threat, safenet()).diagnostics["malicious_parties"] == 2


def test_class_holders_are_those_who_hold_the_class():
    data = digits_like(100, 0)
    shares = [data[data.y == 7], data[data.y == 1], data[(data.y == 7) | (data.y == 2)], data[:5]]
    order = ClassHolders(source=7, target=1, **SHARED).recruit(shares, torch.tensor([3, 2, 1, 0]))
    assert order.tolist() == [2, 0, 3, 1], "ties in the random order"


def test_update_attacks_and_leakage_do_not_apply():
    for threat in (ALIE, DLG):
        assert "SafeNet changes finish, learn" in refusal(Collaboration, threat, [SafeNet])
        assert "Pooled changes learn" in refusal(Collaboration, threat, [Pooled])
    assert refusal(Collaboration, BadNets, [SafeNet]) is None


def test_the_honest_ensemble_is_shared_between_threats():
    store: dict = {}
    play = context(BadNets(**BACKDOOR), safenet(), architecture=architecture, cache=kept(store))
    first = collaboration(parties=8).play(play)
    again = collaboration(parties=8).play(replace(play, defense=Stack([safenet()])))
    fresh = collaboration(parties=8).play(replace(play, cache=no_cache))
    assert len(store) == 1 and first.utility == again.utility == fresh.utility and first.risk == fresh.risk
