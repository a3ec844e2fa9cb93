"""MMBench-CN dev: MMBench in Chinese."""

from __future__ import annotations

from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.mmbench import MMBench


class MMBenchCN(MMBench):
    """As MMBench; the letter rule reads no full-width letters and no "选A", as the official one."""

    name = "mmbench_cn"
    title = "MMBench-CN"
    rank = 7
    sets = frozenset({"llava"})
    home = "mmbench_cn"
    question_file = "mmbench_cn/mmbench_dev_cn_20231003.tsv"
    official = Counts(questions=4329, labels=4329, known_from="card")
    fixes = {"questions": "put mmbench_dev_cn_20231003.tsv (MMBench's download page) into mmbench_cn/"}
    instruction = "请直接回答选项字母。"
    convention = "circular, exact matching; LLaVA's 58.3 was matched otherwise: look at the unparsed count"
    part = "cn"


class MMBenchCN2024(MMBenchCN):
    """The letter rule as it was until August 2025."""

    name = "mmbench_cn.vlmeval-2024"
    title = "MMBench-CN (letter rule of 2024)"
    rule = "mmbench_cn.vlmeval-2024"
    sets = frozenset()
    state = "2024"


class MMBenchCN202508(MMBenchCN):
    """The letter rule from August 2025 to June 2026."""

    name = "mmbench_cn.vlmeval-2025-08"
    title = "MMBench-CN (letter rule of 2025-08)"
    rule = "mmbench_cn.vlmeval-2025-08"
    sets = frozenset()
    state = "2025-08"
