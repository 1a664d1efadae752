"""Certificates of votes: closed forms, and brute force over everything that poisoned owners could do."""

from itertools import combinations, product

import pytest
import torch

from benchmark.metrics.voting import certified, independent_accuracy, tally, worst_votes
from benchmark.seeds import generator

ALL = torch.ones(5, dtype=torch.bool)
NONE = ~ALL


def column(*votes: int) -> torch.Tensor:
    return torch.tensor(votes)[:, None]


def test_votes_are_counted_of_those_who_count():
    ballots = torch.tensor([[0, 1], [0, 2], [1, 2]])
    assert tally(ballots, torch.tensor([True, True, False]), 3).tolist() == [[2, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("votes", "poisoned", "safe"),
    [
        ((0, 0, 0, 0, 0), 2, True),  # 3 against 2
        ((0, 0, 0, 0, 1), 1, True),  # 3 against 2
        ((0, 0, 0, 1, 1), 1, False),  # 2 against 3
        ((1, 1, 1, 1, 0), 1, True),
        ((0, 0, 0, 1, 2), 1, True),  # 2 against 2, and the smaller label wins
        ((1, 1, 1, 0, 2), 1, False),  # 2 against 2, and the smaller label is another
    ],
)
def test_a_lead_of_twice_the_poisoned_owners_is_safe_with_the_smaller_label(votes, poisoned, safe):
    assert certified(column(*votes), ALL, NONE, 3, poisoned).tolist() == [safe]


def test_owners_whom_the_filter_may_misjudge_count_against_the_winner():
    movable = torch.tensor([True, False, False, False, False])
    assert certified(column(0, 0, 0, 0, 1), ALL, NONE, 2, 1).item()
    assert not certified(column(0, 0, 0, 0, 1), ALL, movable | torch.tensor([0, 1, 0, 0, 0]).bool(), 2, 1).item()
    # A dropped model that may come back counts for the other class too.
    dropped = torch.tensor([True, True, True, True, False])
    assert certified(column(0, 0, 0, 1, 1), dropped, NONE, 2, 0).item()
    assert not certified(column(1, 1, 0, 0, 0), ~(~dropped | (torch.arange(5) == 3)), ~dropped, 2, 1).item()


def test_no_choice_of_owners_and_votes_turns_a_certified_input():
    """Brute force: every set of poisoned owners, everything they may vote, every verdict on movable owners."""
    rng = generator(0, "voting.test")
    owners, classes, inputs = 6, 3, 40
    ballots = torch.multinomial(torch.tensor([0.75, 0.15, 0.1]), owners * inputs, True, generator=rng).view(owners, -1)
    ballots = (ballots + torch.arange(inputs)) % classes
    counted, movable = torch.tensor([1, 1, 1, 1, 1, 0]).bool(), torch.tensor([0, 0, 0, 0, 0, 1]).bool()
    for poisoned in (1, 2):
        sure = certified(ballots, counted, movable, classes, poisoned)
        before = tally(ballots, counted, classes).argmax(dim=1)
        broken = torch.zeros(inputs, dtype=torch.bool)
        for bad in combinations(range(owners), poisoned):
            for said, kept in product(product(range(classes), repeat=poisoned), (True, False)):
                changed, votes = ballots.clone(), counted.clone()
                votes[-1] = kept
                for owner, label in zip(bad, said, strict=True):
                    changed[owner], votes[owner] = label, True
                broken |= tally(changed, votes, classes).argmax(dim=1) != before
        assert not (sure & broken).any()
        assert sure.any() and broken.any(), "the test tests something"


def test_the_worst_votes_go_to_the_strongest_competitor():
    bad = torch.tensor([0, 1])
    # three honest votes for 1 against two poisoned ones; then two against two, where the smaller label wins
    assert worst_votes(column(2, 2, 1, 1, 1), ALL, bad, torch.tensor([1]), 3).item()
    assert not worst_votes(column(1, 1, 1, 1, 0), ALL, bad, torch.tensor([1]), 3).item()
    assert worst_votes(column(0, 0, 0, 0, 2), ALL, bad, torch.tensor([0]), 3).item() is False, "2 against 1 + 2"


def test_the_bound_for_independent_errors():
    assert independent_accuracy(20, 0, 1.0) == 1
    assert independent_accuracy(3, 0, 0.9) == pytest.approx(0.9**3 + 3 * 0.9**2 * 0.1)
    assert independent_accuracy(20, 5, 0.8) < independent_accuracy(20, 1, 0.8) < independent_accuracy(20, 1, 0.9)
    assert independent_accuracy(20, 10, 0.9) == pytest.approx(0), "half the owners decide alone"
