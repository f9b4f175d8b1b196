"""The way up: meet the parent, compare, push what it lacks, pull what it has for us, wait for news. The child always speaks first.

    calling    one question and its answer; the session with the parent, or with the ancestor that helps out
    comparing  hello: where both copies of each log agree, and how a restored node goes on
    pushing    what the parent has not receipted, short logs first; its receipts
    pulling    pages of news, and what cases still miss
    bundles    what comes in bundles, verified: entries, receipts
    loop       all of it together, for ever: the pauses, and what wakes them

No cursor moves without a verified receipt or a verified page, each in one transaction. Start at `loop`.
"""

from node.uplink.calling import Settings
from node.uplink.loop import Progress, Uplink

__all__ = ["Progress", "Settings", "Uplink"]
