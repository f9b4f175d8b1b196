"""What the demo shows: where it writes, in which words, and what is wrong in a line."""

from __future__ import annotations

import pytest

from hub.demo.screen import BAD, GOOD, Screen
from hub.demo.story import ACROSS, CITY, STATION, plan
from hub.demo.summary import Line, summarise
from tests.hub.demo.building import readings

STORY = plan(2)
READINGS = readings(STORY)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_line_has_words(lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary is complete in both languages; good lines carry the good mark, in GBK too."""
    Screen(lang, aside=False).summary(summarise(STORY, READINGS), 2)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == len(summarise(STORY, READINGS))
    assert all(line.startswith(GOOD) for line in lines)
    assert (GOOD + BAD).encode("gbk")


def test_a_wrong_line_is_marked_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """The names of what does not fit stand behind the line."""
    line = Line("demo.line.counted", {"city": "市", "cases": 1, "numbers": 2}, ("cases",))
    Screen("zh", aside=False).summary([line], 2)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(BAD)
    assert last.endswith("[cases]")


def test_words_of_the_program_are_translated() -> None:
    """Outcome, state and nodes that were down are shown in words."""
    screen = Screen("en", aside=False)
    lines = {line.key: screen.line(line) for line in summarise(STORY, READINGS)}
    assert "granted, finished, delivered" in lines["demo.line.across"]
    assert "燕儿窝街道, 天山区, 乌鲁木齐市" in lines["demo.line.cut"]


def test_with_json_all_of_it_goes_aside(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is left to the nodes' objects."""
    screen = Screen("zh", aside=True)
    screen.summary(summarise(STORY, READINGS), 2)
    screen.steps(READINGS.cases[ACROSS][CITY], CITY)
    screen.step(0, "社区", STORY.steps[0], {"case": "1", "safety": "here"})
    shown = capsys.readouterr()
    assert not shown.out
    assert "送达" in shown.err


def test_steps_name_officer_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Each step of a case has its officer, its claimed time and the hub's receipt."""
    Screen("zh", aside=False).steps(READINGS.cases[ACROSS][CITY], CITY)
    rows = capsys.readouterr().out.splitlines()[3:]
    steps = [step for step in STORY.steps if step.case == ACROSS]
    assert len(rows) == len(steps)
    for row, step in zip(rows, steps, strict=True):
        assert f"{step.officer.name} ({step.officer.id})" in row
        assert "2026-05-06 09:30:00.123" in row
        assert "09:30:01" in row


def test_a_step_is_told_as_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a step: when, where, who, what, which case, how safe."""
    step = STORY.steps[0]
    Screen("zh", aside=False).step(0, "某社区", step, {"case": "N-1", "safety": "parent"})
    assert capsys.readouterr().out.split() == ["08:00:00", "某社区", step.officer.name, "收件", "N-1", "上级已收妥"]


def test_a_kept_network_says_how_to_reach_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Folders, an example and the command that stops it are printed."""
    row = {"node": STATION, "name": "社区", "url": "http://127.0.0.1:1", "data": "/d/x"}
    Screen("en", aside=False).kept([row], "/d")
    shown = capsys.readouterr().out
    assert "tongban --data /d/x status" in shown
    assert "tongban demo --stop --data /d" in shown
