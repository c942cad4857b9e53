"""Writes grafana/dashboards/*.json; with `--check`, fails where a committed file differs from what the code says."""

import difflib
import sys
from pathlib import Path

from .board import render
from .boards import ALL

TARGET = Path(__file__).resolve().parents[1] / "dashboards"


def main(arguments: list[str]) -> int:
    wanted = {f"{name}.json": render(module.dashboard()) for name, module in ALL.items()}
    present = {path.name: path.read_text(encoding="utf-8") for path in sorted(TARGET.glob("*.json"))}
    if arguments == ["--check"]:
        drifted = [name for name in sorted(wanted.keys() | present.keys()) if wanted.get(name) != present.get(name)]
        for name in drifted:
            before, after = present.get(name, "").splitlines(), wanted.get(name, "").splitlines()
            print("\n".join(list(difflib.unified_diff(before, after, f"committed/{name}", f"generated/{name}", lineterm="", n=1))[:40]))
        print(f"dashboards: {len(wanted) - len(drifted)} of {len(wanted)} as generated")
        return 1 if drifted else 0
    if arguments:
        print("usage: python -m generate [--check]", file=sys.stderr)
        return 2
    TARGET.mkdir(exist_ok=True)
    for name in present.keys() - wanted.keys():
        (TARGET / name).unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")
    return 0


sys.exit(main(sys.argv[1:]))
