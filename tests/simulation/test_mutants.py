"""The tester is tested: deliberate bugs are found. The whole list, with the seeds that each needs: `make mutants`."""

from __future__ import annotations

import pytest

from tests.simulation import course, mutants, table
from tests.simulation.swarm import SMALL

# Found by their first seed in a few seconds; the others take more seeds.
QUICK = (
    "acknowledge_before_commit",
    "saved_before_commit",
    "commits_are_not_synced",
    "receipt_for_more_than_held",
    "acknowledged_when_sent",
    "custody_not_checked",
    "side_entries_lost_at_a_hub",
    "receive_times_by_the_clock",
    "signed_without_reading_again",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_deliberate_bug_is_found(name: str) -> None:
    """A product with this bug breaks a promise within two seeds."""
    mutant = next(one for one in mutants.MUTANTS if one.name == name)
    with table.quiet(True):
        needed, tells = mutants.seeds_needed(mutant, 2)
    assert needed, mutant.tells
    assert tells


@pytest.mark.parametrize("fate", [mutants.CALM, mutants.KILLS], ids=["calm", "kills"])
def test_without_a_bug_the_same_faults_break_nothing(fate: course.Swarm) -> None:
    """What finds the mutants is the mutants: the same seed under the same faults is clean without them."""
    with table.quiet(True):
        assert course.simulate(0, SMALL, fate).cases > 0


def test_every_mutant_can_be_made() -> None:
    """At least fifteen; each patch fits the program as it is now, and leaves nothing behind."""
    assert len(mutants.MUTANTS) >= 15
    assert len(set(mutants.NAMES)) == len(mutants.NAMES)
    for mutant in mutants.MUTANTS:
        with mutant.patch():
            pass
