"""What people do at a counter: each command is one unit of work that either happens whole or is refused in words.

Start at `desk` (who acts, when, and what every answer says), then `drafting` (an entry is tried on the fold before it is
written), then the commands: `officers`, `publishing`, `opening`, `counter`. Names and parameters for scripts: `node.operations`.
"""

from node.office.desk import Act, Answer, Desk, at_desk, perform

__all__ = ["Act", "Answer", "Desk", "at_desk", "perform"]
