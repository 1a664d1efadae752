import random

import numpy as np
import pytest
from scipy.stats import chisquare

from benchmark.crypto.secure_sum import ProtocolAborted, SecureSum, key_stream, pair_seed, traffic
from benchmark.crypto.shamir import combine, split


def protocol(parties: int = 5, threshold: int = 3, seed: int = 0) -> SecureSum:
    return SecureSum(parties=parties, threshold=threshold, random_bytes=random.Random(seed).randbytes)


def vectors(parties: int, size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (parties, size), dtype=np.uint32)


def test_any_threshold_shares_give_the_secret_and_fewer_give_something_else():
    rng = random.Random(0)
    secret = rng.randbytes(32)
    shares = split(secret, shares=6, threshold=4, random_bytes=rng.randbytes)
    for chosen in ([1, 2, 3, 4], [6, 3, 1, 5], [1, 2, 3, 4, 5, 6]):
        assert combine({point: shares[point] for point in chosen}) == secret
    assert combine({point: shares[point] for point in (1, 2, 3)}) != secret


def test_both_sides_of_a_pair_agree_on_one_seed_and_other_pairs_on_another():
    a, b, c = protocol().members[:3]
    assert pair_seed(a.secret, b.public) == pair_seed(b.secret, a.public) != pair_seed(a.secret, c.public)


@pytest.mark.parametrize("gone", [[], [2], [0, 4]])
def test_the_opened_sum_is_exactly_the_survivors_sum(gone):
    run, values = protocol(), vectors(5, 100)
    uploads = {party: run.mask(party, values[party]) for party in range(5) if party not in gone}
    expected = values[[party for party in range(5) if party not in gone]].sum(axis=0, dtype=np.uint32)
    assert np.array_equal(run.open(uploads), expected)


def test_below_the_threshold_nothing_is_opened():
    run, values = protocol(), vectors(5, 10)
    with pytest.raises(ProtocolAborted, match="Only 2 of 5 parties are left.*no fewer than 3"):
        run.open({party: run.mask(party, values[party]) for party in (0, 1)})


def test_a_masked_vector_is_uniform_whatever_it_hides():
    masked = protocol().mask(2, np.zeros(40_000, dtype=np.uint32))
    for shift in (24, 0):
        counts = np.bincount((masked >> np.uint32(shift)) & np.uint32(255), minlength=256)
        assert chisquare(counts).pvalue > 1e-3


def test_two_maskings_of_one_vector_differ_everywhere():
    values = vectors(1, 1000)[0]
    assert (protocol(seed=0).mask(0, values) != protocol(seed=1).mask(0, values)).all()


def test_the_self_mask_hides_a_party_whose_upload_comes_after_it_was_declared_gone():
    """Were there pairwise masks only, opening without party 0 would let the server read party 0's late upload."""
    run, values = protocol(), vectors(5, 50)
    late = run.mask(0, values[0])
    without_pairs = late - sum(run._pairwise(0, run.members[0].secret, other, 50) for other in range(1, 5))
    assert (without_pairs != values[0]).all()
    assert np.array_equal(without_pairs - key_stream(run.members[0].self_seed, 50), values[0])


def test_a_threshold_that_no_party_or_more_than_all_can_reach_is_refused():
    for threshold in (1, 6):
        with pytest.raises(ValueError, match="from 2 to the 5 parties"):
            protocol(threshold=threshold)


def test_traffic_grows_with_the_square_of_the_parties():
    assert traffic(2, 2) == (2 * 32 * 3 + 2 * 2 * 1 * 2 * 66 + 2 * 2 * 66, 12)
    assert 3 < traffic(40, 40)[0] / traffic(20, 20)[0] < 4.5
