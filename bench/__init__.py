"""The speed of the product, measured: real processes over TLS on loopback, ratios in one run.

`python -m bench` prints the table, `python -m bench.race W.jsonl SINGLES.jsonl` one JSON object for a race with other systems.
Nothing of the product imports this package. Start at README.md here.
"""
