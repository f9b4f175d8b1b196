"""Writes all files of vectors: `python -m tests.vectors.generate`."""

from __future__ import annotations

from tests.vectors import generate_carry, generate_clones, generate_primitives, generate_protocol, generate_rekeying


def main() -> None:
    """Run every generator."""
    generate_primitives.main()
    generate_protocol.main()
    generate_carry.main()
    generate_clones.main()
    generate_rekeying.main()


if __name__ == "__main__":
    main()
