import pytest
import torch

from benchmark.metrics.generated import frechet, nearest, score_class, spread


def images(*values: float) -> torch.Tensor:
    """Return one flat grey image of 2x2 pixels a value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def logits_of(labels: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), 3).float()


PRIVATE, HELD_OUT = images(0.0, 0.2), images(0.1, 0.3)


def test_distances_go_to_the_nearest_reference():
    torch.testing.assert_close(nearest(images(0.5), PRIVATE), torch.tensor([0.6], dtype=torch.float64))


def test_real_images_of_the_class_score_one():
    scores = score_class(HELD_OUT, logits_of([1, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["class_recovery"] == scores["asr"] == 1.0
    assert scores["nnr"] == pytest.approx(1.0)
    assert scores["diversity"] == pytest.approx(1.0)
    assert scores["prototype_error"] == pytest.approx(0.01)
    assert scores["record_gap"] > 0  # nearer to the held-out images, which they are


def test_copies_of_private_images_are_told_from_fresh_ones():
    scores = score_class(PRIVATE, logits_of([1, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["nnr"] == 0
    assert scores["record_gap"] < 0


def test_far_images_do_not_count_however_sure_the_judge_is():
    scores = score_class(images(1.0, 1.0), logits_of([1, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["asr"] == 1.0
    assert scores["class_recovery"] == 0
    assert scores["diversity"] == 0


def test_near_images_of_another_class_do_not_count():
    scores = score_class(images(0.0, 0.2), logits_of([0, 1]), 1, PRIVATE, HELD_OUT)
    assert scores["asr"] == scores["class_recovery"] == 0.5


def test_spread_is_the_mean_standard_deviation_of_a_pixel():
    assert spread(images(0.0, 1.0)).item() == pytest.approx(0.5)


def test_frechet_distance_of_gaussians_is_known():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn((20_000, 3), generator=rng)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, 2 * a + 1) == pytest.approx(3 * 1 + 3 * 1, rel=0.05)  # |shift|^2 + sum of (sd difference)^2
