"""Queries of the drills' walk-throughs. The names that they ask for are the shop's, which no schema of ours declares: they are parsed alone."""

import re
import tomllib
from collections.abc import Iterator

from .queries import ROOT, Query


def walks() -> Iterator[Query]:
    """Each query, with the first of what a run may choose in its place."""
    for path in sorted((ROOT / "drills").glob("*.toml")):
        drill = tomllib.loads(path.read_text(encoding="utf-8"))
        chosen = {name: values[0] for name, values in drill.get("choose", {}).items()} | (drill.get("one_of") or [{}])[0]
        for number, step in enumerate(drill["walk"], 1):
            for language, text in step.get("stack", {}).items():
                yield Query(f"{path.relative_to(ROOT)}, step {number}", language, re.sub(r"\{(\w+)\}", lambda name: chosen.get(name[1], name[0]), text))
