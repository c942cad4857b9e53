"""Writes the dashboards and the burn-rate rules; with `--check`, fails where a committed file differs from what the code says."""

import difflib
import sys
from pathlib import Path

from . import slo
from .board import render
from .boards import ALL, SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = Path("grafana/dashboards")
RULES = Path("mimir/rules/anonymous/slo.yaml")


def main(arguments: list[str]) -> int:
    wanted = {DASHBOARDS / f"{name}.json": render(module.dashboard()) for name, module in ALL.items()}
    wanted |= {Path(f"systems/{name}/dashboards/{name}.json"): render(module.dashboard()) for name, module in SYSTEMS.items()}
    wanted[RULES] = slo.rules_yaml()
    boards = [*(ROOT / DASHBOARDS).glob("*.json"), *(ROOT / "systems").glob("*/dashboards/*.json")]
    committed = [path.relative_to(ROOT) for path in boards] + [RULES]
    present = {path: (ROOT / path).read_text(encoding="utf-8") for path in committed if (ROOT / path).exists()}
    if arguments == ["--check"]:
        drifted = [path for path in sorted(wanted.keys() | present.keys()) if wanted.get(path) != present.get(path)]
        for path in drifted:
            before, after = present.get(path, "").splitlines(), wanted.get(path, "").splitlines()
            print("\n".join(list(difflib.unified_diff(before, after, f"committed {path}", f"generated {path}", lineterm="", n=1))[:40]))
        print(f"{len(drifted)} of {len(wanted)} generated files differ from the committed ones")
        return 1 if drifted else 0
    if arguments:
        print("usage: python -m generate [--check]", file=sys.stderr)
        return 2
    for path in present.keys() - wanted.keys():
        (ROOT / path).unlink()
    for path, text in wanted.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    print(f"wrote {len(wanted)} files")
    return 0


sys.exit(main(sys.argv[1:]))
