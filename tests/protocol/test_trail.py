"""The trail of a node's sessions: one machine, whatever is lost or put back, is no clone; two machines are, within two logins each."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from protocol import trail
from protocol.errors import DecodeError
from protocol.trail import Outcome, Showing, Trail

DAY_MS = 86_400_000


@dataclass
class Hub:
    """A hub that remembers one node, and counts the marks that it gives."""

    trail: Trail = field(default_factory=Trail)
    count: int = 0
    used: list[bytes] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def login(self, machine: Machine, choice: str = "", *, answered: bool = True, used: bool = True) -> int:
        """Let a machine log in; returns since when it is told to be under suspicion."""
        self.count += 1
        mark = self.count.to_bytes(8, "big")
        shown = Showing(machine.last, self.count, tuple(self.used), machine.name, self.count, choice)
        visit = trail.visit(self.trail, shown, mark)
        self.trail = trail.decode(trail.encode(visit.trail))
        self.outcomes.append(visit.outcome)
        if visit.alone:
            self.used.clear()  # as a hub does
        if answered:
            machine.last = mark
            self.used += [mark] if used else []
        return visit.suspect


@dataclass
class Machine:
    """A machine: all that it has on its disk of this."""

    name: bytes
    last: bytes = b""

    def copy(self, name: bytes) -> Machine:
        return Machine(name, self.last)


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def machine(hub: Hub) -> Machine:
    """A machine that has logged in three times."""
    made = Machine(b"A")
    for _ in range(3):
        hub.login(made)
    return made


def test_a_machine_that_goes_on_is_never_suspected(hub: Hub, machine: Machine) -> None:
    """Each session shows the one before; the trail stays bounded."""
    for _ in range(3 * trail.STEPS_MAX):
        assert hub.login(machine) == 0
    assert set(hub.outcomes[3:]) == {Outcome.FRESH}
    assert len(hub.trail.steps) == trail.STEPS_MAX
    assert len(hub.trail.machines) == 1


def test_lost_answers_are_no_alarm(hub: Hub, machine: Machine) -> None:
    """Answers that never arrive, however many in a row, look like nothing."""
    for lost in (1, 2, 20, 1):
        for _ in range(lost):
            assert hub.login(machine, answered=False) == 0
        assert hub.login(machine) == 0
    assert set(hub.outcomes[1:]) == {Outcome.FRESH}


def test_a_restored_backup_is_no_alarm(hub: Hub, machine: Machine) -> None:
    """An older mark shown, once and for good, is a backup put back; so is one that nobody remembers."""
    backup = machine.last
    for _ in range(5):
        hub.login(machine)
    machine.last = backup
    assert hub.login(machine) == 0
    assert hub.outcomes[-1] is Outcome.OLD
    for _ in range(2 * trail.STEPS_MAX):
        hub.login(machine)
    machine.last = backup
    for _ in range(3):
        assert hub.login(machine) == 0
    assert hub.outcomes[-3:] == [Outcome.OLD, Outcome.FRESH, Outcome.FRESH]


def test_the_wrong_backup_and_then_the_right_one_is_no_alarm(hub: Hub, machine: Machine) -> None:
    """Somebody puts an old image back, notices, and puts a newer one back."""
    old = machine.last
    hub.login(machine)
    newer = machine.last
    hub.login(machine)
    for backup in (old, newer):
        machine.last = backup
        assert hub.login(machine) == 0
        assert hub.login(machine) == 0
    assert Outcome.RETURNED in hub.outcomes
    assert Outcome.CLONE not in hub.outcomes


@pytest.mark.parametrize("first", ["running", "copy"])
@pytest.mark.parametrize("used", [True, False])
def test_two_machines_are_found_within_two_logins_each(hub: Hub, machine: Machine, first: str, used: bool) -> None:
    """Whoever comes first after the disk was copied, and whether or not their sessions were used in between."""
    twin = machine.copy(b"B")
    order = [machine, twin] if first == "running" else [twin, machine]
    told = [hub.login(one, used=used) for _ in range(2) for one in order]
    assert told[-1] > 0 or hub.login(order[0], used=used) > 0
    assert hub.trail.since
    assert all(hub.login(one) for one in order)  # both are told from now on
    assert {one.incarnation for one in hub.trail.machines} >= {b"A", b"B"}


def test_a_copy_of_a_running_machine_is_found_when_that_shows_itself_again(hub: Hub, machine: Machine) -> None:
    """An old copy comes, the first machine returns, the copy comes again: no later than that."""
    twin = machine.copy(b"B")
    for _ in range(5):
        hub.login(machine)
    assert [hub.login(twin), hub.login(machine)] == [0, 0]
    assert hub.login(twin) == hub.count
    assert hub.outcomes[-3:] == [Outcome.OLD, Outcome.RETURNED, Outcome.CLONE]
    assert hub.login(machine)


def test_the_suspicion_lasts_until_somebody_chooses(hub: Hub, machine: Machine) -> None:
    """The machine that is kept goes on; the other is told for ever, and does not disturb it."""
    twin = machine.copy(b"B")
    while not hub.trail.since:
        hub.login(machine)
        hub.login(twin)
    since = hub.trail.since
    for _ in range(5):
        assert hub.login(twin) == since
    assert hub.login(machine, trail.KEEP) == 0
    for _ in range(10):
        assert hub.login(twin) == since
        assert hub.login(machine) == 0
    assert hub.trail.since == since
    assert hub.trail.chosen


def test_a_choice_can_be_made_again(hub: Hub, machine: Machine) -> None:
    """The last `keep` counts; the machine kept before is then told."""
    twin = machine.copy(b"B")
    while not hub.trail.since:
        hub.login(machine)
        hub.login(twin)
    assert hub.login(machine, trail.KEEP) == 0
    assert hub.login(twin, trail.KEEP) == 0
    assert hub.login(machine) > 0
    assert hub.login(twin) == 0


@pytest.mark.parametrize("on_tip", [True, False])
def test_a_retired_machine_frees_nobody_else(hub: Hub, machine: Machine, on_tip: bool) -> None:
    """To retire one says nothing of the other: that one is told until it is kept."""
    twin = machine.copy(b"B")
    while not hub.trail.since:
        hub.login(machine)
        hub.login(twin)
    hub.login(twin if on_tip else machine)
    assert hub.login(twin, trail.RETIRE) > 0
    assert hub.login(machine) > 0
    assert hub.login(machine, trail.KEEP) == 0
    assert hub.login(twin, trail.RETIRE) > 0
    assert hub.login(machine) == 0


def test_a_clone_of_a_kept_machine_is_found_anew(hub: Hub, machine: Machine) -> None:
    """An old choice says nothing of a new copy: both are told again."""
    twin = machine.copy(b"B")
    while not hub.trail.since:
        hub.login(machine)
        hub.login(twin)
    first = hub.trail.since
    hub.login(machine, trail.KEEP)
    third = machine.copy(b"C")
    for _ in range(3):
        hub.login(machine)
        hub.login(third)
    assert hub.trail.since > first
    assert hub.login(machine) > 0
    assert hub.login(third) > 0


def test_a_choice_where_nothing_is_suspected_changes_nothing(hub: Hub, machine: Machine) -> None:
    """Who says `keep` or `retire` unasked is an ordinary node."""
    assert [hub.login(machine, trail.KEEP), hub.login(machine, trail.RETIRE), hub.login(machine)] == [0, 0, 0]
    assert not hub.trail.chosen


def test_a_program_that_shows_nothing_is_left_alone(hub: Hub, machine: Machine) -> None:
    """An older program beside, or a machine that was never here: no alarm, and the line stays."""
    for _ in range(5):
        assert hub.login(Machine(b"old"), answered=False) == 0
        assert hub.login(machine) == 0
    assert set(hub.outcomes[4:]) == {Outcome.SILENT, Outcome.FRESH}


def test_a_hub_that_was_restored_suspects_nobody(hub: Hub, machine: Machine) -> None:
    """Marks that it gave and has forgotten are no alarm; a clone is found all the same."""
    old = hub.trail
    for _ in range(4):
        hub.login(machine)
    hub.trail, hub.used = old, []
    for _ in range(4):
        assert hub.login(machine) == 0
    twin = machine.copy(b"B")
    for _ in range(3):
        hub.login(machine)
        hub.login(twin)
    assert hub.trail.since


@pytest.mark.parametrize("seed", range(60))
def test_one_machine_under_lost_answers_and_restores_is_never_suspected(seed: int) -> None:
    """Any story of one machine, its newest backup, and hubs that restart or forget, raises no alarm."""
    chance = random.Random(seed)
    hub, machine = Hub(), Machine(b"A")
    backup, forgotten = machine.last, hub.trail
    for _ in range(400):
        draw = chance.random()
        if draw < 0.05:
            backup = machine.last
        elif draw < 0.08:
            machine.last = backup
        elif draw < 0.12:
            hub.used.clear()
        elif draw < 0.13:
            forgotten = hub.trail
        elif draw < 0.14:
            hub.trail = forgotten
            hub.used.clear()
        else:
            assert hub.login(machine, answered=chance.random() < 0.7, used=chance.random() < 0.9) == 0
        assert len(hub.trail.steps) <= trail.STEPS_MAX + 1


@pytest.mark.parametrize("seed", range(60))
def test_two_machines_are_always_found(seed: int) -> None:
    """Any story in which both go on to log in ends in an alarm once both have come twice, answers lost or not."""
    chance = random.Random(seed)
    hub, machine = Hub(), Machine(b"A")
    for _ in range(chance.randrange(1, 80)):
        hub.login(machine, answered=chance.random() < 0.7)
    twin = machine.copy(b"B")
    both = (machine, twin)
    for _ in range(chance.randrange(0, 20)):
        hub.login(chance.choice(both), answered=chance.random() < 0.7)
    for one in (*both, *both, machine):
        hub.login(one)
    assert hub.trail.since


def test_a_damaged_trail_is_named() -> None:
    """What a store holds is read like anything from outside."""
    with pytest.raises(DecodeError):
        trail.decode(b"\x93\x01")
    assert trail.decode(None) == Trail()
