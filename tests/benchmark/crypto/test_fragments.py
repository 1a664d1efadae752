"""The wire of fragmented FL: exact mixing, honest counts, and nothing accepted that was not sent so, now and once."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.crypto.fragments import (
    FRAGMENT,
    HEADER,
    HELLO,
    PAD,
    UPLOAD,
    Exchange,
    Party,
    Server,
    WireError,
    frame,
    mask_of,
    pad_of,
    seal,
    traffic,
)

SIZE = 300


def source(seed: int = 0):
    return np.random.default_rng(seed).bytes


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**40), 2**40, SIZE)


class Wire:
    """Two parties and a server after the hellos."""

    def __init__(self, round: int = 3, seed: int = 0) -> None:
        random = source(seed)
        self.server = Server(round, random)
        self.a, self.b = Party(4, round, numbers(1), 0.5, random), Party(9, round, numbers(2), 0.5, random)
        hellos = self.a.hello(self.server.assign(4, 9)), self.b.hello(self.server.assign(9, 4))
        self.b.meet(self.server.relay(hellos[0], 4, 9))
        self.a.meet(self.server.relay(hellos[1], 9, 4))


def changed(message: bytes, place: int) -> bytes:
    return message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]


def test_what_the_server_opens_is_the_mix_and_its_sum_is_exact():
    wire = Wire()
    for party in (wire.a, wire.b):
        wire.server.take(party.pad(), PAD)
    to_b, to_a = wire.a.fragment(), wire.b.fragment()
    wire.server.take(wire.a.upload(to_a), UPLOAD)
    wire.server.take(wire.b.upload(to_b), UPLOAD)
    a, b = wire.server.open(4, 9), wire.server.open(9, 4)
    assert np.array_equal(wire.a.mask, wire.b.mask)
    assert np.array_equal(a, np.where(wire.a.mask, wire.b.values, wire.a.values))
    assert np.array_equal(a + b, wire.a.values + wire.b.values)
    assert 0.4 < wire.a.mask.mean() < 0.6


def test_neither_partner_nor_server_sees_a_bare_fragment():
    wire = Wire()
    body = np.frombuffer(wire.b.fragment()[HEADER.size :][:-16], dtype="<i8")
    assert not np.isin(body, wire.b.values).any()
    padded = np.where(wire.b.mask, wire.b.values, 0) + pad_of(wire.b.pad_seed, SIZE)  # what a reads in it
    assert not np.isin(padded, wire.b.values).any()
    assert abs((padded > 0).mean() - 0.5) < 0.1


@pytest.mark.parametrize("place", [5, HEADER.size, HEADER.size + 100, -1])
def test_a_tampered_fragment_is_rejected_and_the_real_one_still_accepted(place):
    wire = Wire()
    fragment = wire.b.fragment()
    with pytest.raises(WireError):
        wire.a.upload(changed(fragment, place % len(fragment)))
    wire.a.upload(fragment)


def test_a_replayed_fragment_is_rejected_in_the_same_round_and_in_another():
    wire, later = Wire(3), Wire(4, seed=1)
    fragment = wire.b.fragment()
    wire.a.upload(fragment)
    with pytest.raises(WireError, match="already"):
        wire.a.upload(fragment)
    with pytest.raises(WireError, match="round 4"):
        later.a.upload(fragment)
    forged = HEADER.pack(b"FFL1", FRAGMENT, 4, 9, 4, len(fragment) - HEADER.size) + fragment[HEADER.size :]
    with pytest.raises(WireError, match="not authentic"):
        later.a.upload(forged)


def test_a_fragment_of_a_stranger_or_for_another_is_rejected():
    wire = Wire()
    stranger = seal(bytes(32), FRAGMENT, 3, 9, 4, numbers(5).tobytes())
    with pytest.raises(WireError, match="not authentic"):
        wire.a.upload(stranger)
    with pytest.raises(WireError, match="to 4"):
        wire.a.upload(wire.a.fragment())


def test_the_server_rejects_what_is_tampered_with_replayed_or_unexpected():
    wire = Wire()
    pad = wire.a.pad()
    with pytest.raises(WireError, match="not authentic"):
        wire.server.take(changed(pad, len(pad) - 1), PAD)
    wire.server.take(pad, PAD)
    with pytest.raises(WireError, match="already"):
        wire.server.take(pad, PAD)
    with pytest.raises(WireError, match="no part"):
        wire.server.take(seal(bytes(32), PAD, 3, 77, 0xFFFFFFFF, bytes(32)), PAD)
    with pytest.raises(WireError, match="shorter"):
        wire.server.take(b"FFL1", PAD)
    with pytest.raises(WireError, match="length"):
        wire.server.take(pad + b"x", PAD)


def test_a_hello_is_taken_once_and_from_the_partner_only():
    wire = Wire()
    with pytest.raises(WireError, match="already"):
        wire.a.meet(frame(HELLO, 3, 9, 4, wire.b.public))
    random = source()
    party = Party(1, 0, numbers(0), 0.5, random)
    party.hello(Server(0, random).assign(1, 2))
    with pytest.raises(WireError, match="the partner is 2"):
        party.meet(frame(HELLO, 0, 5, 1, wire.b.public))


@pytest.mark.parametrize(
    ("kind", "sender", "left"),
    [(HELLO, 0, {2, 3}), (FRAGMENT, 0, {2, 3}), (UPLOAD, 0, {1, 2, 3}), (FRAGMENT, 9, {0, 1, 2, 3})],
)
def test_a_dropped_party_costs_at_most_its_pair_and_nobody_waits(kind, sender, left):
    values = {i: numbers(i) for i in range(4)}
    wire = Exchange(0, 0.5, source(), lost=lambda k, who: (k, who) == (kind, sender))
    opened = wire.run([(0, 1), (2, 3)], values)
    assert set(opened) == left
    assert np.array_equal(opened[2] + opened[3], values[2] + values[3])


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("size", [1, 10, 1000])
def test_the_count_is_that_of_the_messages(size, silent):
    wire = Exchange(0, 0.5, source(), lost=lambda kind, sender: silent and (kind, sender) == (FRAGMENT, 0))
    opened = wire.run([(0, 1), (2, 3)], {i: np.full(size, i) for i in range(4)})
    assert wire.traffic == traffic(4, silent, len(opened), size)


def test_masks_have_the_density_asked_for():
    assert mask_of(bytes(32), 100_000, 0.31).mean() == pytest.approx(0.31, abs=0.01)
    assert mask_of(bytes(32), 1000, 1.0).all()
    assert not mask_of(bytes(32), 1000, 0.0).any()
