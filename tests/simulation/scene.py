"""The places and rules of the simulated network: four tiers, twenty-four nodes, four items."""

from __future__ import annotations

from typing import Any, Final

from tests.node.building import item

CITY: Final = "650100000000"
D1, D2 = "650102000000", "650103000000"
SOCIAL, CIVIL, CITY_OFFICE = f"{D2}-rsj", f"{D2}-mzj", f"{CITY}-zwf"
T1, T2, T3 = "650102001000", "650102002000", "650103001000"
TOWNS: Final = ((T1, D1), (T2, D1), (T3, D2), ("650103002000", D2), ("650103003000", D2))
VILLAGES: Final = tuple(
    (f"{town[:9]}{number:03d}", town) for town, _ in TOWNS for number in range(1, 4 if town in {T1, T3} else 3)
)
TREE: Final = ((D1, CITY), (D2, CITY), (CITY_OFFICE, CITY), (SOCIAL, D2), (CIVIL, D2), *TOWNS, *VILLAGES)
SMALL: Final = ((D1, CITY), (D2, CITY), (SOCIAL, D2), (CIVIL, D2), (T1, D1), (VILLAGES[0][0], T1), (VILLAGES[1][0], T1), (VILLAGES[2][0], T1))
STAGE: Final = "并联核验"
TASKS: Final = (("社保核验", SOCIAL), ("民政核验", CIVIL))


def items(version: int = 1) -> list[dict[str, Any]]:
    """Return the catalogue; a newer version takes the decision of `town` from the townships, or gives it back."""
    deciders = [f"{D1}/*", f"{D2}/*"] if version % 2 else [D1, D2]
    return [
        item(
            "cross",
            version,
            receive=[f"{CITY}/*"],
            decide=[f"{D2}/*"],
            stages=[{"name": STAGE, "join": "all", "tasks": [{"name": name, "node": node} for name, node in TASKS]}],
        ),
        item("spot", version, receive=[f"{CITY}/*"], decide=[f"{CITY}/*"], limits={"promised_days": 0, "statutory_days": 5}, stages=[]),
        item("town", version, receive=[f"{CITY}/*"], decide=deciders, stages=[]),
    ]
