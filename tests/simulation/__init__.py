"""The whole-network simulation: the real protocol, node and hub code on virtual time, whole networks in one process, from one seed.

`python -m tests.simulation 0:20` runs twenty seeds (`make simulate SEEDS=0:20`). Where to read first:

- `swarm`   what a seed draws: sizes, shares and rates of every fault, some of them zero
- `arena`   the world in which machines crash, lose power, fill up, are restored, cloned, replaced
- `clerks`  who takes cases in and carries them on, whatever happens
- `gremlins` what happens
- `liar`    one hub that does not tell the truth
- `oracle`  outside the product: what counters were told, who held which entry when, and what must never be
- `judge`   the end of a run: rest, and what all machines must agree on
- `course`  one seed from beginning to end, its table and its trace
- `mutants` deliberate bugs that the simulation must find
"""
