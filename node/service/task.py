"""The scheduled task for Windows: started at boot before anybody logs on, and again a minute after it ended, for ever.

`RestartOnFailure` counts to 255 and then gives up; so the triggers also repeat every minute without an end, and a start while the
node runs is ignored. Nothing asks for a network, mains power or an idle machine, and no time limit ends it. It runs as the service
account `LocalService`, which has no password and next to no rights; the installation gives it the node's folder.
"""

from __future__ import annotations

import subprocess
from typing import Final

from node.service.plan import Plan

ACCOUNT: Final = "S-1-5-19"  # LocalService, whatever the language of Windows calls it
SERVICE_ACCOUNTS: Final = {"S-1-5-18", ACCOUNT, "S-1-5-20"}
FOLDER: Final = "Tongban"  # of the task scheduler's library

_TASK: Final = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Tongban node ({name})</Description>
    <URI>\\{uri}</URI>
  </RegistrationInfo>
  <Triggers>
    <BootTrigger>
      <Repetition>
        <Interval>PT1M</Interval>
        <StopAtDurationEnd>false</StopAtDurationEnd>
      </Repetition>
      <Enabled>true</Enabled>
    </BootTrigger>
    <RegistrationTrigger>
      <Repetition>
        <Interval>PT1M</Interval>
        <StopAtDurationEnd>false</StopAtDurationEnd>
      </Repetition>
      <Enabled>true</Enabled>
    </RegistrationTrigger>
  </Triggers>
  <Principals>
    <Principal id="Node">
      <UserId>{user}</UserId>
{logon}      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <IdleSettings>
      <StopOnIdleEnd>false</StopOnIdleEnd>
      <RestartOnIdle>false</RestartOnIdle>
    </IdleSettings>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <Enabled>true</Enabled>
    <Hidden>false</Hidden>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <WakeToRun>false</WakeToRun>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>255</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Node">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


def render(plan: Plan) -> str:
    """Return the XML of the task."""
    # Service accounts are known by their identity; an account with a password is asked for it by schtasks (/RP).
    logon = "" if plan.user in SERVICE_ACCOUNTS else "      <LogonType>Password</LogonType>\n"
    return _TASK.format(
        name=_escaped(plan.name),
        uri=_escaped(task_name(plan)),
        user=_escaped(plan.user),
        logon=logon,
        command=_escaped(plan.command[0]),
        arguments=_escaped(subprocess.list2cmdline(plan.command[1:])),
        folder=_escaped(plan.folder),
    )


def encode(text: str) -> bytes:
    """Return the bytes of the file that `schtasks /Create /XML` reads: UTF-16, little end first, with its mark, lines as on Windows."""
    return b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le")


def task_name(plan: Plan) -> str:
    """Return the task's name in the scheduler's library."""
    return f"{FOLDER}\\{plan.name}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
