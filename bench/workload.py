"""A deterministic workload: what one village counter writes in some weeks, five changes a case, in the order of time.

One change is a flat map, as a line of JSON: case, seq, act, item, officer, at, name, idno, status, remark. The same seed gives
the same bytes everywhere.

    for change in generate(4_000): …
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

Change = dict[str, Any]

STATION: Final = "650102002002"
CASES: Final = 4_000
SEED: Final = 20261121
CASES_PER_DAY: Final = 160
REJECTED_SHARE: Final = 0.08
FIRST_DAY: Final = dt.date(2026, 11, 21)
ACTS: Final = (
    ("receive", "received"),
    ("accept", "accepted"),
    ("step", "reviewing"),
    ("decide", "approved"),
    ("finish", "finished"),
)
ITEMS: Final = tuple(f"11650102010{n:03d}X46501{n % 40:02d}00{n % 9 + 1}000" for n in range(101, 121))
FAMILY: Final = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
GIVEN: Final = "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂文辉玲华红建国志永春梅海云晓东新宇佳欣子涵浩然思雨雪晨俊峰"
FIRST: Final = ("阿依努尔", "古丽娜尔", "艾力", "吐尔逊", "热依汗古丽", "帕提古丽", "阿卜杜拉", "迪丽努尔", "玛依拉", "亚森", "哈丽旦")
FATHER: Final = ("买买提", "吐尔地", "依明", "肉孜", "艾则孜", "玉素甫", "卡德尔", "热合曼", "巴拉提", "阿布力孜", "司马义")
STREETS: Final = ("团结路", "幸福巷", "和平街", "友好北路", "胜利村一组", "新华南路", "解放街", "青年路", "红旗村二组", "二道湾村", "永丰镇")
REMARKS: Final = {
    "receive": ("申请人到窗口提交材料", "代办员上门收取材料", "电话预约后到场办理", "材料由家属代交", "申请表已填写完整"),
    "accept": ("材料齐全，予以受理", "补正后受理", "经核对原件与复印件一致", "已出具受理通知书", "已告知办理时限"),
    "step": ("已转镇级部门初审", "入户核查完成", "公示期内无异议", "已电话回访申请人", "现场照片已上传"),
    "decide": ("经审核符合条件，同意", "同意发放", "准予登记", "按标准核定金额", "审批意见：同意办理"),
    "finish": ("证件已送达本人", "已短信通知领取", "结果已由代办员送达", "申请人签收", "满意度评价：非常满意"),
}


def generate(cases: int = CASES, seed: int = SEED, station: str = STATION) -> list[Change]:
    """Return the changes of some cases, ordered by time, so that cases interleave as at a real counter."""
    draw = random.Random(seed)
    timed = [step for number in range(cases) for step in _case(draw, number, station)]
    timed.sort(key=lambda step: (step[0], step[1]["case"], step[1]["seq"]))
    return [change for _, change in timed]


def _case(draw: random.Random, number: int, station: str) -> Iterator[tuple[dt.datetime, Change]]:
    day = FIRST_DAY + dt.timedelta(days=number // CASES_PER_DAY)
    fixed = {
        "case": f"{station}-{day:%Y%m%d}-{number % CASES_PER_DAY + 1:06d}",
        "item": draw.choice(ITEMS),
        "name": _name(draw),
        "idno": f"65{draw.randrange(1, 44):02d}{draw.randrange(1, 30):02d}********{draw.randrange(10_000):04d}",
    }
    at = dt.datetime.combine(day, dt.time(9)) + dt.timedelta(milliseconds=draw.randrange(8 * 3_600_000))
    for seq, (act, status) in enumerate(ACTS, 1):
        rejected = act == "decide" and draw.random() < REJECTED_SHARE
        yield at, {
            **fixed,
            "seq": seq,
            "act": act,
            "officer": f"{station}-{draw.randrange(1, 7):02d}",
            "at": at.isoformat(timespec="milliseconds") + "+08:00",
            "status": "rejected" if rejected else status,
            "remark": _remark(draw, act),
        }
        at += dt.timedelta(seconds=draw.randrange(60, 2 * 86_400), milliseconds=draw.randrange(1_000))


def _name(draw: random.Random) -> str:
    if draw.random() < 0.55:
        return f"{draw.choice(FIRST)}·{draw.choice(FATHER)}"
    return draw.choice(FAMILY) + "".join(draw.choice(GIVEN) for _ in range(draw.choice((1, 2, 2))))


def _remark(draw: random.Random, act: str) -> str:
    said = "；".join(draw.sample(REMARKS[act], draw.choice((1, 1, 2))))
    tails = (
        "",
        f"，{draw.choice(STREETS)}{draw.randrange(1, 200)}号",
        f"，回执{draw.randrange(10**6, 10**7)}",
        f"，联系电话1{draw.randrange(30, 99)}****{draw.randrange(10_000):04d}",
    )
    return said + draw.choice(tails)


def save(path: Path, changes: Iterable[Change]) -> None:
    """Write changes as lines of JSON."""
    lines = (json.dumps(change, ensure_ascii=False, separators=(",", ":")) for change in changes)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def load(path: Path) -> list[Change]:
    """Read changes from lines of JSON."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]
