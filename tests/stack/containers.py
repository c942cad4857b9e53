"""The containers of the stack that runs, as the engine runs them, held against section 5 of the CIS Docker Benchmark 1.6: `make audit-stack`.

The compose file says what is wanted; this asks the engine and the kernel what is. An exception without a reason below is a failure. Afterwards
the secrets of .env are looked for where none belongs: in the layers and history of our image, in command lines, and in what containers have logged.
A secret that is an everyday word or another setting too (`signalbox`) cannot be told from that word and is not looked for: start the stack with
unmistakable ones to try them, as docs/reliability.md does.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from page import put_between

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "SECURITY.md"
BEGIN, END = "<!-- made by make audit-stack -->", "<!-- end of what make audit-stack makes -->"

SHORTEST_SECRET = 8
# Ends of the ways in which a secret is named in .env.
SECRET = re.compile(r"(PASSWORD|SECRET_KEY|ACCESS_KEY|TOKEN)$")
# What `make up` prints on purpose, out of the environment of `probe`: the demo logins of Grafana and of MinIO's console.
PRINTED = ("GRAFANA_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY")
PRINTED_BY = "probe"

SENSITIVE = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/root", "/home")


def host(container):
    return container["HostConfig"]


def published(container):
    return [(port, binding["HostIp"]) for port, bindings in (container["NetworkSettings"]["Ports"] or {}).items() for binding in bindings or []]


def effective_capabilities(container):
    status = Path(f"/proc/{container['State']['Pid']}/status").read_text()
    return int(re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[1], 16)


def is_root(container):
    status = Path(f"/proc/{container['State']['Pid']}/status").read_text()
    return re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)[1] == "0"


def checked(container):
    return bool((container["State"].get("Health") or {}).get("Status"))


# Number in the benchmark, what it asks for, and whether a container has it.
RULES = [
    ("4.1", "a user that is not root", lambda c: not is_root(c)),
    ("5.2", "an AppArmor profile", lambda c: c["AppArmorProfile"] not in ("", "unconfined")),
    ("5.4", "no capability in effect", lambda c: effective_capabilities(c) == 0 and host(c)["CapDrop"] == ["ALL"] and not host(c)["CapAdd"]),
    ("5.5", "not privileged", lambda c: not host(c)["Privileged"]),
    ("5.6", "no directory of the system mounted", lambda c: not any(mount["Type"] == "bind" and mount["Source"].rstrip("/") in SENSITIVE for mount in c["Mounts"])),
    ("5.6", "what it mounts of ours is read-only", lambda c: not any(mount["Type"] == "bind" and mount["RW"] for mount in c["Mounts"])),
    ("5.8", "no port below 1024 published", lambda c: all(int(binding["HostPort"]) >= 1024 for bindings in (c["NetworkSettings"]["Ports"] or {}).values() for binding in bindings or [])),
    ("5.10", "not the host's network", lambda c: host(c)["NetworkMode"] != "host"),
    ("5.11", "a limit of memory", lambda c: host(c)["Memory"] > 0),
    ("5.12", "a share of the processors", lambda c: host(c)["CpuShares"] > 0 or host(c)["NanoCpus"] > 0),
    ("5.13", "a read-only root", lambda c: host(c)["ReadonlyRootfs"]),
    ("5.14", "ports on 127.0.0.1 alone", lambda c: all(ip == "127.0.0.1" for _, ip in published(c))),
    ("5.15", "restarted at most 5 times, and only after a failure", lambda c: host(c)["RestartPolicy"]["Name"] in ("no", "on-failure")),
    ("5.16", "a process space of its own", lambda c: host(c)["PidMode"] == ""),
    ("5.17", "a shared memory of its own", lambda c: host(c)["IpcMode"] in ("private", "none")),
    ("5.18", "no device of the host", lambda c: not host(c)["Devices"]),
    ("5.20", "no shared propagation of mounts", lambda c: not any(mount.get("Propagation") == "shared" for mount in c["Mounts"])),
    ("5.21", "a host name space of its own", lambda c: host(c)["UTSMode"] == ""),
    ("5.22", "the default seccomp profile", lambda c: not any("seccomp" in option for option in host(c)["SecurityOpt"] or [])),
    ("5.26", "no new privileges", lambda c: "no-new-privileges:true" in (host(c)["SecurityOpt"] or [])),
    ("5.27", "a health check", checked),
    ("5.29", "a limit of processes", lambda c: (host(c)["PidsLimit"] or 0) > 0),
    ("5.30", "not the engine's default bridge", lambda c: "bridge" not in c["NetworkSettings"]["Networks"]),
    ("5.31", "not the host's user name space by name", lambda c: host(c)["UsernsMode"] != "host"),
    ("5.32", "no socket of the engine", lambda c: not any("docker.sock" in mount["Source"] for mount in c["Mounts"])),
]

ALL = "all"
ROOTS = "its image has no directory that another user may write to; it has no capability, so it is its volume's owner and no more"
# For each rule the containers that do not keep it, and why.
EXCUSED = {
    "a user that is not root": {
        **dict.fromkeys(("mimir-1", "mimir-2", "mimir-3", "minio"), ROOTS),
        "alloy-containers": "the engine's socket belongs to root",
        "beyla": "it loads programs into the kernel",
    },
    "an AppArmor profile": {ALL: "where the engine's machine has AppArmor, its default profile is used; this one has none"},
    "no capability in effect": {"beyla": "it loads programs into the kernel"},
    "not privileged": {"beyla": "it loads programs into the kernel"},
    "a share of the processors": {ALL: "which part may be slow on a busy machine is for whoever runs it to say"},
    "a read-only root": {"beyla": "it is root of the machine whatever is written here"},
    "restarted at most 5 times, and only after a failure": {ALL: "whoever waits for a neighbour that is away for long shall come back by itself"},
    "a process space of its own": {"beyla": "it watches the processes of the machine"},
    "no new privileges": {"beyla": "it loads programs into the kernel"},
    "a health check": {
        **dict.fromkeys(("loki", "mimir-1", "mimir-2", "mimir-3", "tempo", "pyroscope"), "`probe` asks it over HTTP; a check of its own starts a program of 100 MB every 5 s"),
        "beyla": "it listens on no port",
    },
    "no socket of the engine": {"alloy-containers": "it reads what containers write; a profile of its own for that reason"},
}


def docker(*arguments):
    return subprocess.run(["docker", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def containers():
    """What the engine says of each that runs, by its service's name."""
    ids = docker("compose", "ps", "--quiet", "--status", "running").split()
    if not ids:
        sys.exit("the stack is not up: make up")
    inspected = json.loads(docker("inspect", *ids))
    return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in inspected}


def judge(running):
    """A row of the table for each rule, and what nobody has excused."""
    rows, faults = [], []
    for number, wanted, kept in RULES:
        excused = EXCUSED.get(wanted, {})
        without = sorted(name for name, container in running.items() if not kept(container))
        faults += [f"{name} has not: {wanted} (CIS {number})" for name in without if name not in excused and ALL not in excused]
        reasons = {}
        for name in without:
            reasons.setdefault(excused.get(name, excused.get(ALL, "**no reason**")), []).append(name)
        told = "; ".join(f"{'all' if len(names) == len(running) else ', '.join(names)}: {reason}" for reason, names in reasons.items())
        rows.append((number, wanted, f"{len(running) - len(without)} of {len(running)}", told or "–"))
    return rows, faults


def secrets():
    """Of .env, or of the environment where that says otherwise, and which of them can be told from other words."""
    found = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env").read_text(), re.MULTILINE))
    found = {name: os.environ.get(name, value) for name, value in found.items()}
    values = {name: value for name, value in found.items() if SECRET.search(name)}
    others = {value for name, value in found.items() if name not in values}
    clear = {name: value for name, value in values.items() if len(value) >= SHORTEST_SECRET and value not in others}
    return clear, sorted(values.keys() - clear.keys())


def layers(image, wanted):
    """Which secrets stand in a file of the image, by the file's name."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        docker("image", "save", "--output", str(archive), image)
        with tarfile.open(archive) as outer:
            for member in outer:
                if not member.isfile():
                    continue
                content = outer.extractfile(member).read()
                found += [f"{name} in {member.name} of {image}" for name, value in wanted.items() if value.encode() in content]
    return found


def leaks(running):
    """Where a secret stands that should not, and what was looked at."""
    wanted, unclear = secrets()
    image = json.loads(docker("compose", "config", "--format", "json"))["services"]["signalbox-api"]["image"]
    found = layers(image, wanted)
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    found += [f"{name} in the history of {image}" for name, value in wanted.items() if value in history]
    lines = 0
    for service, container in running.items():
        arguments = " ".join([container["Path"], *container["Args"]])
        processes = docker("top", container["Id"], "-eo", "pid,args")
        done = subprocess.run(["docker", "logs", container["Id"]], check=True, capture_output=True, text=True, errors="replace")
        log = done.stdout + done.stderr
        lines += log.count("\n")
        for name, value in wanted.items():
            found += [f"{name} in the {place} of {service}" for place, text in (("command line", arguments + processes), ("log", log))
                      if value in text and not (service == PRINTED_BY and name in PRINTED)]
    return found, f"{len(wanted)} secrets ({', '.join(sorted(wanted))}) looked for in the layers and history of {image}, the command lines of {len(running)} containers and {lines} lines of their logs: {len(found)} found" + (
        f". Not looked for, because they are words that stand elsewhere too: {', '.join(unclear)}" if unclear else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into SECURITY.md")
    arguments = parser.parse_args()
    running = containers()
    rows, faults = judge(running)
    head = ("CIS 1.6", "asked for", "kept by", "not by, and why")
    table = "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * 4, *rows))
    print(table)
    found, looked = leaks(running)
    print(f"\n{looked}")
    if arguments.write:
        put_between(PAGE, BEGIN, END, table)
    for fault in [*faults, *found]:
        print(fault, file=sys.stderr)
    return 1 if faults or found else 0


if __name__ == "__main__":
    sys.exit(main())
