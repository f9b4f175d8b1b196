"""The ports are what the real parts offer."""

from __future__ import annotations

import dataclasses

import pytest

from node.ports import Clock, Entropy, Response
from node.system import SystemClock, SystemEntropy


def test_the_real_parts_fit_the_ports() -> None:
    """The type checker accepts the real clock and randomness where the ports are asked for."""
    clock: Clock = SystemClock()
    entropy: Entropy = SystemEntropy()
    assert clock.wall_ms() > 0
    assert len(entropy.bytes(16)) == 16


def test_a_response_is_a_value() -> None:
    """What came over the line cannot be changed afterwards."""
    response = Response(200, b"x", bytes(32))
    assert response.retry_after_s is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        response.status = 500  # type: ignore[misc]
