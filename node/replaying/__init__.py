"""Taking the event log of another system in: each event becomes one entry, stated by the node that the map names.

    mapping    the map: which activity is which step, and where it is stated
    reading    the log: events of each case, every fault with its line
    planning   a case's events → the steps that state them, and the hand-overs between (pure)
    stating    a node states its own steps, as far as it can now, in batches

Start at `node.replay`, which puts them together and registers the operation. The driver of several nodes is `hub.replay`.
"""
