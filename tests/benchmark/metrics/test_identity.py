import pytest
import torch

from benchmark.metrics.fairness import fairness_gaps
from benchmark.metrics.identity import claims, reidentified, score_copies


def test_bold_and_timid_claims():
    bold, timid = torch.eye(4), torch.full((4, 4), 0.25)
    assert claims(bold) == {"confident_share": 1, "mean_max_probability": 1, "identity_entropy": 0}
    assert claims(timid) == pytest.approx({"confident_share": 0, "mean_max_probability": 0.25, "identity_entropy": 1})


def test_linkage_counts_ranks_and_ties_are_no_help():
    distances = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    position = torch.tensor([0, 2, 1])
    assert reidentified(distances, position, 1) == pytest.approx(1 / 3)
    assert reidentified(distances, position, 2) == pytest.approx(1 / 3)
    assert reidentified(distances, position, 3) == 1


def test_copies_and_the_share_of_nearer_rows():
    own, others = torch.tensor([0.0, 0.1, 5.0, 5.0]), torch.tensor([1.0, 1.0, 1.0, 5.0])
    risk, notes = score_copies(own, own, others, radius=0.5)
    assert risk == {"copied_share": 0.5, "exact_copy_share": 0.25}
    assert notes["dcr_share"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_fairness_gaps_on_four_people():
    predicted, y = torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 1])
    gaps = fairness_gaps(predicted, y, torch.tensor([0, 0, 1, 1]))
    assert gaps == pytest.approx({"demographic_parity_gap": 0.5, "tpr_gap": 0.0, "fpr_gap": 1.0, "accuracy_gap": 0.5})
    assert "tpr_gap" not in fairness_gaps(predicted, torch.tensor([1, 0, 0, 0]), torch.tensor([0, 0, 1, 1]))
