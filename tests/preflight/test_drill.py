"""What the drills tell Docker Compose while the stack is up (scripts/drill.sh), with a Compose that writes down what it is told."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = """#!/bin/sh
echo "$COMPOSE_FILE: $*" >>"$TOLD"
case "$*" in
  *"ps --quiet --all mimir-2"*) echo "$MIMIR_2" ;;
  *"ps --quiet"*) echo id ;;
  *"drill compose begin"*) printf '%b' "$BEGIN" ;;
  *"drill compose heal"*) printf '%b' "$HEAL" ;;
  *"signalboxctl drill"*) exit "$GRADED" ;;
  *"$FAILS"*) exit 1 ;;
esac
"""


@pytest.fixture
def drill(tmp_path):
    compose = tmp_path / "compose"
    compose.write_text(COMPOSE, encoding="utf-8")
    compose.chmod(0o755)

    def run(*arguments, begin="", heal="", graded=0, mimir_2="id", fails="nothing of this name"):
        told = tmp_path / "told"
        told.write_text("", encoding="utf-8")
        environment = {
            **os.environ,
            "COMPOSE": str(compose),
            "COMPOSE_FILE": "docker-compose.yml",
            "TOLD": str(told),
            "BEGIN": begin,
            "HEAL": heal,
            "GRADED": str(graded),
            "MIMIR_2": mimir_2,
            "FAILS": fails,
        }
        ran = subprocess.run(["sh", "scripts/drill.sh", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)
        quiet = [line.replace("--progress quiet ", "") for line in told.read_text(encoding="utf-8").splitlines() if " ps --quiet" not in line]
        return ran, quiet

    return run


def test_a_drill_on_the_shop_is_begun_in_its_container(drill):
    ran, told = drill("start", "3")
    assert ran.returncode == 0, ran.stderr
    assert told == [
        "docker-compose.yml: up --detach --no-deps drill",
        "docker-compose.yml: exec -T drill signalboxctl drill start 3",
        "docker-compose.yml: exec -T drill signalboxctl drill compose begin",
    ]


def test_what_a_drill_changes_is_done_with_its_overlay_and_healed_without(drill):
    begin = "drills/stack/exemplars-of-mimir.yml up --detach --no-deps mimir-1 mimir-2\n- stop loki\n"
    heal = "- up --detach --no-deps mimir-1 mimir-2\n- start loki\n"
    _, told = drill("start", "18", begin=begin, heal=heal)
    assert told[-2:] == [
        "docker-compose.yml:drills/stack/exemplars-of-mimir.yml: up --detach --no-deps mimir-1 mimir-2",
        "docker-compose.yml: stop loki",
    ]
    for ends in (("stop",), ("answer", "part=mimir")):
        ran, told = drill(*ends, heal=heal)
        assert ran.returncode == 0, ran.stderr
        assert told[-3:] == [
            f"docker-compose.yml: exec -T drill signalboxctl drill {' '.join(ends)}",
            "docker-compose.yml: up --detach --no-deps mimir-1 mimir-2",
            "docker-compose.yml: start loki",
        ]


def test_a_wrong_answer_heals_nothing(drill):
    ran, told = drill("answer", "part=loki", heal="- start loki\n", graded=1)
    assert ran.returncode == 1
    assert told[-1] == "docker-compose.yml: exec -T drill signalboxctl drill answer part=loki"


def test_a_change_that_fails_is_taken_back(drill):
    ran, told = drill("start", "19", begin="- stop loki\n", heal="- start loki\n", fails="stop loki")
    assert ran.returncode == 1
    assert told[-3:] == [
        "docker-compose.yml: exec -T drill signalboxctl drill compose heal",
        "docker-compose.yml: start loki",
        "docker-compose.yml: exec -T drill signalboxctl drill stop",
    ]


def test_the_light_stack_keeps_its_settings_and_is_told_what_it_lacks(drill):
    ran, told = drill("start", "17", begin="- kill mimir-2\n", mimir_2="")
    assert (ran.returncode, "make up" in ran.stderr) == (1, True)
    light = "docker-compose.yml: --env-file .env --env-file .env.light "
    assert told[-1] == f"{light}exec -T drill signalboxctl drill stop"
    _, told = drill("start", "19", begin="- stop loki\n", mimir_2="")
    assert told[-1] == f"{light}stop loki"


def test_what_a_drill_starts_is_not_built():
    """A checkout that was changed would be built for minutes, and where there is no internet it fails."""
    drills = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "drills").glob("*.toml"))]
    told = [fault[what] for drill in drills for fault in drill["fault"] if fault["kind"] == "compose" for what in ("begin", "heal")]
    starts = [words for words in told if words.startswith("up ")]
    assert len(starts) >= 5
    assert [words for words in starts if "--no-build" not in words] == []


def test_every_function_that_a_drill_asks_for_has_a_name_in_profiles():
    """The image has the release build, which would take a small function into its caller: nobody could find it there."""
    drills = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "drills").glob("*.toml"))]
    asked = {table["function"] for drill in drills for table in drill.get("one_of", []) if "function" in table}
    assert len(asked) >= 6
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "shop" / "src").rglob("*.rs"))
    kept = set(re.findall(r"#\[inline\(never\)\][^\n]*\n\s*(?:pub )?fn (\w+)", source))
    assert asked <= kept


@pytest.mark.parametrize(("folder", "played"), [(str(ROOT), "in the stack"), (f"{ROOT}-2", "here"), ("/elsewhere", "here")])
def test_make_plays_on_the_stack_of_this_checkout_alone(tmp_path, folder, played):
    """Two checkouts have one project name, unless somebody sets COMPOSE_PROJECT_NAME: a drill of one would be played, or ended, on the other's stack."""
    if (ROOT / "data/drill/run.json").exists():
        pytest.skip("a drill is on in this checkout, and is played on")
    compose = tmp_path / "compose"
    compose.write_text(
        f"""#!/bin/sh
case "$*" in
  *"ps --format json"*) echo '{{"Labels":"a=b,com.docker.compose.project.working_dir={folder},c=d"}}' ;;
  *"ps --quiet"*) echo id ;;
  *"signalboxctl drill"*) echo in the stack ;;
esac
""",
        encoding="utf-8",
    )
    compose.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "ARGS")}
    command = ["make", "--no-print-directory", "drill", f"COMPOSE={compose}", "CTL=echo here:", "programs=true"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0 and ran.stdout.startswith(played), ran
