import pytest
import torch

from benchmark.errors import AccessError, ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.games.global_models import GlobalModelSurface
from benchmark.settings.collaboration.published import Published
from benchmark.threats.gan_inference.insider import GANInsider
from benchmark.threats.gan_inference.model_inversion import ModelInversion
from benchmark.threats.gan_inference.networks import dcgan, dense, sides
from benchmark.training.functional import Net
from tests.benchmark.helpers import TinyNet, collaboration, context, digits_like


def insider(**changes) -> GANInsider:
    few = dict(target=1, active=True, fakes=12, fake_label="extra", generator="dense", steps=5, batch_size=16, lr=1e-3)
    few |= dict(games=1, game_steps=2, game_lr=0.1, latent=8, hidden=32, samples=20, decay=0.0)
    threat = GANInsider(**(few | dict(claim="last", view="global", memory=3) | changes))
    threat.start()
    return threat


def view(round: int = 0, rounds: int = 4, params: torch.Tensor | None = None, **changes) -> GlobalModelSurface:
    torch.manual_seed(3)
    net = Net(TinyNet(num_classes=11))
    own = digits_like(100)
    shown = dict(
        round=round,
        rounds=rounds,
        net=net,
        params=net.initial() if params is None else params,
        own=own[own.y >= 5],
        target=1,
        shape=(1, 8, 8),
        num_classes=10,
        published=Published(),
        heard=None,
        truth=digits_like(10).x,
    )
    return GlobalModelSurface(**(shown | changes))


@pytest.mark.parametrize(("make", "shape"), [(dense, (3, 4, 5)), (dcgan, (3, 8, 8)), (dcgan, (1, 28, 28))])
def test_the_generator_draws_reproducible_images(make, shape):
    made = make(shape=shape, latent=2, hidden=4)
    first, again = (made.draw(7, generator(0, "z"), torch.device("cpu")) for _ in range(2))
    assert first.shape == (7, *shape)
    assert first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)


def test_the_generator_learns_while_the_model_stays_frozen():
    threat, surface = insider(steps=40), view()
    before = surface.params.clone()
    wanted = torch.full((20,), 1)
    untrained = insider(steps=0)
    early, late = (
        torch.nn.functional.cross_entropy(surface.net.logits(before, one(surface, seed=0).samples), wanted)
        for one in (untrained, threat)
    )
    assert late < early - 0.1
    assert torch.equal(surface.params, before)
    assert not surface.params.requires_grad and surface.params.grad is None


def test_an_active_insider_mixes_in_fakes_and_a_passive_one_stays_honest():
    bait = insider()(view(), seed=0).train_on
    own = view().own
    assert torch.equal(bait.x[: len(own)], own.x)
    assert bait.y[len(own) :].tolist() == [10] * 12
    assert insider(fake_label="own")(view(), seed=0).train_on.y[len(own) :].tolist() == [5] * 12
    assert insider(active=False)(view(), seed=0).train_on is None
    threat = insider()
    threat(view(), seed=0)
    assert threat(view(round=4), seed=0).train_on is None, "training is over"


def test_the_adaptive_form_learns_from_the_last_models_and_the_plain_one_from_the_latest():
    plain, adaptive = insider(), insider(adaptive=True)
    for index in range(4):
        shown = view(round=index, rounds=9, params=view().params + index)
        plain(shown, seed=index)
        adaptive(shown, seed=index)
    assert [(seen - view().params).mean().round().item() for seen in plain.seen] == [3]
    assert [(seen - view().params).mean().round().item() for seen in adaptive.seen] == [1, 2, 3]


def test_the_claim_is_of_the_running_mean_of_the_generator():
    latest, mean = insider(decay=0.0), insider(decay=0.9)
    for threat in (latest, mean):
        threat(view(), seed=0)
    for start, now, kept in zip(
        insider_at_start().parameters(),
        latest.training.generator.parameters(),
        mean.training.mean.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(kept, 0.9 * start + 0.1 * now)
    for now, kept in zip(latest.training.generator.parameters(), latest.training.mean.parameters(), strict=True):
        torch.testing.assert_close(kept, now)


def insider_at_start() -> torch.nn.Module:
    threat = insider(steps=0)
    threat(view(), seed=0)
    return threat.training.generator


def test_a_convolutional_generator_doubles_its_side_and_needs_squares():
    assert sides(28) == [4, 7, 14, 28]
    assert sides(64) == [4, 8, 16, 32, 64]
    with pytest.raises(ConfigError, match="square images"):
        dcgan(shape=(1, 8, 9), latent=2, hidden=4)


def test_between_games_the_copy_trains_on_the_fakes():
    threat, surface = insider(games=2, steps=0, game_steps=20), view()
    threat(surface, seed=0)
    fakes = threat._with_fakes(surface, threat.training.generator.draw(30, generator(0, "z"), torch.device("cpu")))
    before = surface.params
    after = threat._train_copy(surface, before, threat.training, generator(0, "game"))
    assert surface.net.loss(after, fakes.x, fakes.y) < surface.net.loss(before, fakes.x, fakes.y) - 0.1


def test_with_a_colluding_server_it_learns_from_the_victims_upload():
    heard = view().params + 1
    threat = insider(view="victim")
    threat(view(heard=heard), seed=0)
    assert torch.equal(threat.seen[0], heard)
    threat(view(round=1, heard=None), seed=0)
    assert torch.equal(threat.seen[0], view().params), "before the first upload there is only the global model"
    with pytest.raises(AccessError, match="uploads"):
        _ = view(heard=heard).restrict(insider().knowledge).heard


def test_the_adaptive_form_keeps_the_servers_latest_value_of_every_parameter():
    size = len(view().params)
    taken = torch.arange(size) % 2 == 0
    threat, plain = insider(adaptive=True), insider()
    for one in (threat, plain):
        one(view(params=torch.zeros(size)), seed=0)
        one(view(round=1, params=torch.ones(size), published=Published(downloaded=taken)), seed=1)
    assert torch.equal(threat.seen[-1], taken.float())
    assert torch.equal(plain.seen[-1], torch.ones(size))


def test_the_most_convincing_turn_can_be_claimed_without_a_judge():
    threat = insider(claim="confident", steps=30)
    threat(view(), seed=0)
    assert threat.training.best is None
    threat(view(round=1), seed=1)
    best = threat.training.confidence
    assert 0 < best < 1
    repelled = view().params.clone()
    view().net.layout.split(repelled)["layers.5.bias"][1] = -50.0
    claimed = threat(view(round=2, params=repelled), seed=2).samples
    assert threat.training.confidence == best
    assert claimed.shape == (20, 1, 8, 8)


def test_start_resets_the_generator():
    threat = insider()
    first = threat(view(), seed=0).samples
    threat(view(round=1), seed=1)
    threat.start()
    assert torch.equal(threat(view(), seed=0).samples, first)


def test_model_inversion_raises_the_targets_probability_in_the_last_round():
    threat = ModelInversion(target=1, restarts=6, iterations=60, lr=0.05)
    assert threat(view(), seed=0).samples is None
    surface = view(round=4)
    found = threat(surface, seed=0).samples
    start = torch.rand(found.shape, generator=generator(1, "start"))
    before, after = (surface.net.logits(surface.params, x).softmax(1)[:, 1].mean() for x in (start, found))
    assert after > before + 0.05
    assert found.min() >= 0 and found.max() <= 1


def test_impossible_parameters_are_refused():
    with pytest.raises(ConfigError, match="extra or own"):
        insider(fake_label="none")
    with pytest.raises(ConfigError, match=r"decay must be in \[0, 1\)"):
        insider(decay=1.0)
    with pytest.raises(ConfigError, match="games must be a whole number of at least 1"):
        insider(games=0)
    with pytest.raises(ConfigError, match="dense or dcgan"):
        insider(generator="odd")


def test_the_attack_recovers_a_class_that_it_never_saw():
    setting = collaboration(
        parties=2, rounds=10, local_steps=5, lr=0.1, partition="by_class", order="roundrobin", batch_size=32
    )
    # Class 2: what an untrained generator draws counts as class 1 anyway.
    active = setting.play(context(insider(target=2, steps=10, hidden=64, fakes=20, samples=200)))
    assert active.risk["asr"] > 0.5
    assert active.utility["attacked_accuracy"] > 0.9
    assert active.diagnostics["attack_seconds"] > 0
