"""What `make up` says before it starts anything. Docker and Compose are the real ones; nothing is started."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The shells that /bin/sh is on the systems we name.
SHELLS = [["sh"], ["bash", "--posix"]]


def preflight(*arguments, shell=("sh",), **environment):
    """Exit status, and the lines about what is in the way."""
    environment = {**os.environ, "FIRST_GB": "0", "LATER_GB": "0", **environment}
    done = subprocess.run(
        [*shell, "scripts/preflight.sh", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    return done.returncode, [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")]


def engine_runs():
    return subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode == 0


def compose_works(**options):
    return subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60, check=False, **options).returncode == 0


needs_engine = pytest.mark.skipif(not engine_runs(), reason="Docker does not run here")


@pytest.fixture(name="free")
def every_port_of_its_own():
    """All ports of .env, each on a number that is free now, so that a running stack does not matter."""
    names = [line.split("=")[0] for line in (ROOT / ".env").read_text().splitlines() if "_PORT=" in line]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: str(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return ports


@needs_engine
@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_said_where_the_stack_can_start(free, shell):
    assert preflight(shell=shell, **free) == (0, [])


@needs_engine
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_owner_and_its_variable(free, shell, address):
    with socket.create_server((address, int(free["GRAFANA_PORT"]))):
        status, lines = preflight(shell=shell, **free)
    assert status == 1
    [line] = lines
    start = f"port {free['GRAFANA_PORT']} on 127.0.0.1, wanted for grafana, is taken by process {os.getpid()} ("
    assert line.startswith(start), line


@needs_engine
def test_the_same_port_of_another_address_is_free(free):
    with socket.create_server(("127.0.0.2", int(free["GRAFANA_PORT"]))):
        assert preflight(**free) == (0, [])


@needs_engine
def test_a_port_wanted_twice_is_named(free):
    status, [line] = preflight(**{**free, "API_PORT": free["GRAFANA_PORT"]})
    assert status == 1
    assert line == f"port {free['GRAFANA_PORT']}: wanted by both grafana and signalbox-api: change one of them in .env"


@needs_engine
@pytest.mark.parametrize("system", ["sampling", "tenants"])
def test_what_alloy_does_is_refused_where_the_collector_stands_in_its_place(free, system):
    for profile in [f"collector {system}", f"{system},prometheus,collector"]:
        status, [line] = preflight(PROFILE=profile, **free)
        assert status == 1
        assert line == f"PROFILE: {system} is Alloy's work, and with collector the signals do not pass Alloy: choose one of the two"
    assert preflight(PROFILE=f"prometheus {system}", **free) == (0, [])


@needs_engine
def test_too_little_memory_and_disk_are_told_with_both_figures(free):
    status, lines = preflight(NEED_MB="99000000", **{**free, "FIRST_GB": "9000000", "LATER_GB": "9000000"})
    assert status == 1
    assert lines[0].startswith("memory: Docker has ") and "the stack needs 99000000: " in lines[0]
    if len(lines) > 1:  # its disk can be seen
        assert lines[1].startswith("disk: ") and ", 9000000 are needed: " in lines[1]


@needs_engine
def test_the_light_shape_wants_only_its_own_ports(free):
    light = ["--env-file", ".env", "--env-file", ".env.light"]
    assert preflight(*light, **free) == (0, [])


@pytest.mark.skipif(not compose_works(), reason="Compose does not work here")
def test_an_engine_that_does_not_run_is_told_in_one_line():
    status, lines = preflight(DOCKER_HOST="unix:///nonexistent.sock")
    assert status == 1
    assert lines == ["Docker: it does not run: start Docker Desktop, or `sudo systemctl start docker`"]


@pytest.mark.skipif(compose_works(), reason="Compose works here")
def test_a_docker_without_compose_is_told_in_one_line():
    status, [line] = preflight()
    assert status == 1
    assert line == "Compose: `docker compose` does not work; version 2.20.3 or newer is needed (https://docs.docker.com/compose/install/)"


@needs_engine
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_use_docker_is_told_so(tmp_path):
    # A socket of root's that nobody else may write to, which is what an engine's is.
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        path.chmod(0o600)
        for folder in [tmp_path, *tmp_path.parents]:
            if folder.owner() == "root" and folder != Path("/") and str(folder).startswith("/tmp/"):
                folder.chmod(0o755)
        somebody = {"cwd": "/", "user": "nobody", "env": {"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{path}", "HOME": "/nonexistent"}}
        if not compose_works(**somebody):
            pytest.skip("Compose is installed for this user alone")
        script = (ROOT / "scripts/preflight.sh").read_text()
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=60, check=False, **somebody)
    assert done.returncode == 1
    assert "  Docker: it runs, but you may not use it: " in done.stderr


@pytest.mark.parametrize(
    ("version", "told"),
    [("2.20.2", True), ("1.29.2", True), ("v2.20.3", False), ("2.21.0", False), ("2.20.3-desktop.1", False), ("5.5.0", False)],
)
def test_a_compose_that_is_too_old_is_told(tmp_path, version, told):
    compose = tmp_path / "compose"
    compose.write_text(f"#!/bin/sh\necho {version}\n")
    compose.chmod(0o755)
    _, lines = preflight(COMPOSE=str(compose), DOCKER_HOST="unix:///nonexistent.sock")
    number = version.removeprefix("v")
    assert lines[0].startswith(f"Compose: version {number} is too old, 2.20.3 or newer is needed") == told


def test_a_compose_that_is_not_there_is_told(tmp_path):
    assert preflight(COMPOSE=str(tmp_path / "docker"))[1][0].startswith("Docker: there is no program ")
    assert preflight(COMPOSE="docker nonsense")[1][0].startswith("Compose: `docker nonsense` does not work; version 2.20.3 or newer")


def test_it_can_be_switched_off():
    assert preflight(PREFLIGHT="off", DOCKER_HOST="unix:///nonexistent.sock") == (0, [])


@needs_engine
def test_make_up_starts_nothing_when_a_port_is_taken(free):
    project = f"preflight{os.getpid()}"
    environment = {**os.environ, **free, "COMPOSE_PROJECT_NAME": project, "FIRST_GB": "0", "LATER_GB": "0"}
    with socket.create_server(("127.0.0.1", int(free["ALLOY_PORT"]))):
        done = subprocess.run(["make", "up"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert f"port {free['ALLOY_PORT']} on 127.0.0.1, wanted for alloy, is taken by process {os.getpid()} (" in done.stderr
    label = f"label=com.docker.compose.project={project}"
    assert subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("target", ["wait", "doctor", "verify", "alloy-reload", "test-alloy-logs", "k6"])
def test_what_asks_the_stack_says_how_to_start_it(target):
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": f"nothing{os.getpid()}"}
    done = subprocess.run(["make", target], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "the stack is not up: make up"
