"""The scheduled task, by its facts: read back as Windows does."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from node.service import task
from node.service.plan import Plan

SPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
PLAN = Plan("tongban", (r"C:\Program Files\通办\tongban.exe",), r"D:\数据 & <一号>" + "\\", task.ACCOUNT)


def parsed(plan: Plan = PLAN) -> ET.Element:
    return ET.fromstring(task.encode(task.render(plan)))  # noqa: S314 - our own text


def text(root: ET.Element, path: str) -> str:
    found = root.findall("/".join(SPACE + part for part in path.split("/")))
    assert len(found) == 1, path
    return found[0].text or ""


def test_the_file_is_what_schtasks_reads() -> None:
    """UTF-16 with its mark, as the declaration says, lines as on Windows; well-formed with every name in it."""
    data = task.encode(task.render(PLAN))
    assert data[:2] == b"\xff\xfe"
    decoded = data.decode("utf-16")
    assert decoded.startswith('<?xml version="1.0" encoding="UTF-16"?>\r\n<Task version="1.2"')
    assert "\n" not in decoded.replace("\r\n", "")
    assert parsed().tag == SPACE + "Task"


def test_it_starts_at_boot_and_again_every_minute() -> None:
    """At start-up and when it is registered; a minute after any end, for ever; never twice at once."""
    root = parsed()
    for trigger in ("BootTrigger", "RegistrationTrigger"):
        assert text(root, f"Triggers/{trigger}/Enabled") == "true"
        assert text(root, f"Triggers/{trigger}/Repetition/Interval") == "PT1M"
        assert root.findall(f"{SPACE}Triggers/{SPACE}{trigger}/{SPACE}Repetition/{SPACE}Duration") == []
    assert text(root, "Settings/MultipleInstancesPolicy") == "IgnoreNew"
    assert text(root, "Settings/RestartOnFailure/Interval") == "PT1M"
    assert 1 <= int(text(root, "Settings/RestartOnFailure/Count")) <= 255  # an unsigned byte


def test_nothing_ends_it_or_keeps_it_from_starting() -> None:
    """No time limit, also on battery, without a network, whether or not somebody works at the machine."""
    root = parsed()
    wanted = {
        "ExecutionTimeLimit": "PT0S",
        "DisallowStartIfOnBatteries": "false",
        "StopIfGoingOnBatteries": "false",
        "RunOnlyIfNetworkAvailable": "false",
        "RunOnlyIfIdle": "false",
        "IdleSettings/StopOnIdleEnd": "false",
        "StartWhenAvailable": "true",
        "Enabled": "true",
    }
    assert {key: text(root, f"Settings/{key}") for key in wanted} == wanted


def test_it_runs_as_a_service_account_with_few_rights() -> None:
    """LocalService by its identity, which has no password and is named alike in every language; another account brings one."""
    root = parsed()
    assert text(root, "Principals/Principal/UserId") == "S-1-5-19"
    assert text(root, "Principals/Principal/RunLevel") == "LeastPrivilege"
    assert root.findall(f".//{SPACE}LogonType") == []
    assert text(parsed(replace(PLAN, user="CITY\\tongban")), "Principals/Principal/LogonType") == "Password"


def test_the_command_is_split_as_windows_does() -> None:
    """Blanks, angle brackets, ampersands and a backslash at the end survive."""
    root = parsed()
    assert text(root, "Actions/Exec/Command") == r"C:\Program Files\通办\tongban.exe"
    assert text(root, "Actions/Exec/Arguments") == '--data "D:\\数据 & <一号>\\\\" run'
    assert text(root, "Actions/Exec/WorkingDirectory") == PLAN.folder
