"""Writes the computed files; with `--check`, fails where a committed one differs from what its sources say."""

import difflib
import sys
from pathlib import Path

from . import capacity, shared

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m generate [--check]", file=sys.stderr)
        return 2
    wanted = {**shared.files(ROOT), **capacity.files()}
    if not arguments:
        for path, text in wanted.items():
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, encoding="utf-8")
        print(f"wrote {len(wanted)} files")
        return 0
    committed = {str(path.relative_to(ROOT)) for path in (ROOT / shared.FOLDER).glob("*.yaml")}
    drifted = sorted(committed - wanted.keys())
    for path in drifted:
        print(f"{path} is not generated any more")
    for path, text in wanted.items():
        present = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else ""
        if present != text:
            drifted.append(path)
            difference = difflib.unified_diff(present.splitlines(), text.splitlines(), f"committed {path}", f"generated {path}", lineterm="", n=1)
            print("\n".join(list(difference)[:40]))
    print(f"{len(drifted)} of {len(wanted)} generated files differ from the committed ones")
    return 1 if drifted else 0


sys.exit(main(sys.argv[1:]))
