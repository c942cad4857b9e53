"""What both sizes come to with the projects' charts: a chart's new version, or a key of ours that it does not know, fails here and not on a cluster."""

import json
import os
import re
import subprocess
from functools import partial

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT, of_kind, replicas, stack, workloads

SIZES = ("small", "large")
# A pod of it cannot be made restricted by the chart's values; it belongs to `helm test`, which no target runs.
UNRESTRICTED = {"Job mimir-smoke-test"}


@pytest.fixture(params=SIZES)
def size(request) -> str:
    return request.param


@pytest.fixture
def documents(size) -> list[dict]:
    return stack(size)


def test_every_object_is_valid(documents):
    assert len(documents) > 60
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)


def restriction(pod: dict) -> list[str]:
    """Fields by which this pod would be refused at the restricted level. kubernetes.io/docs/concepts/security/pod-security-standards."""
    whole = pod.get("securityContext") or {}
    wrong = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    wrong += [f"volume {volume['name']}" for volume in pod.get("volumes") or [] if not volume.keys() - {"name"} <= allowed]
    for container in [*pod["containers"], *(pod.get("initContainers") or [])]:
        own, name = container.get("securityContext") or {}, container["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            wrong.append(f"{name}: allowPrivilegeEscalation")
        capabilities = own.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []) or set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
            wrong.append(f"{name}: capabilities")
        if not own.get("runAsNonRoot", whole.get("runAsNonRoot")) or own.get("runAsUser", whole.get("runAsUser")) == 0:
            wrong.append(f"{name}: runAsNonRoot")
        if (own.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            wrong.append(f"{name}: seccompProfile")
        if own.get("privileged") or any("hostPort" in port for port in container.get("ports") or []):
            wrong.append(f"{name}: privileged or hostPort")
    return wrong


def test_every_pod_is_restricted(documents):
    found = {name: restriction(d["spec"]["template"]["spec"]) for name, d in workloads(documents).items()}
    assert {name for name, wrong in found.items() if wrong} == UNRESTRICTED, {name: wrong for name, wrong in found.items() if wrong}


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_memory_is_limited_and_small_fits_its_node(documents, size):
    limits = {}
    for name, document in workloads(documents).items():
        if document["kind"] == "Job":
            continue
        for container in document["spec"]["template"]["spec"]["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            limits[name, container["name"]] = bytes_of(container["resources"]["limits"]["memory"]) * replicas(documents, name)
    if size == "small":
        assert sum(limits.values()) < 8 * 2**30
        assert not any("cache" in name or "memcached" in name for name, _ in limits)


def doors(documents: list[dict]) -> set[tuple[str, int]]:
    """Names and ports that answer inside the namespace."""
    return {(s["metadata"]["name"], port["port"]) for s in of_kind(documents, "Service") for port in s["spec"]["ports"]}


def addresses(documents: list[dict]) -> dict[str, str]:
    """Where our own files send and ask: the settings, the way of k8s-verify, and what the service is told."""
    maps = {d["metadata"]["name"]: d["data"] for d in of_kind(documents, "ConfigMap")}
    found = {name: value for name, value in maps["signalbox-settings"].items() if value.startswith("http://")}
    found["KAFKA"] = "http://" + maps["signalbox-settings"]["KAFKA_ADDRESS"]
    for name, document in workloads(documents).items():
        for container in document["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env") or []:
                value = variable.get("value") or ""
                if re.match(r"http://[a-z-]+(:\d+)?$", value) and name.startswith("Deployment signalbox"):
                    found[f"{name} {variable['name']}"] = value
    return found


def way(size: str) -> dict:
    return yaml.safe_load((ROOT / f"kubernetes/values/{size}/signalbox.yaml").read_text(encoding="utf-8"))["verify"]["way"]


def test_every_address_is_a_port_of_a_service(documents, size):
    asked = addresses(documents)
    for direction, hops in way(size).items():
        asked |= {f"way {direction} {hop['name']} {signal}": url for hop in hops for signal, url in hop.items() if url.startswith("http://")}
    if size == "small":
        del asked["KAFKA"]  # nobody uses it there
    assert len(asked) > 15
    there = doors(documents)
    for name, url in asked.items():
        host, port = re.match(r"http://([a-z-]+)(?::(\d+))?", url).groups()
        assert (host, int(port or 80)) in there, f"{name}: {url}"


def test_those_behind_are_chosen_among_the_ready():
    documents = stack("large")
    (front,) = workloads(documents)["Deployment alloy-front"]["spec"]["template"]["spec"]["containers"]
    behind = next(variable["value"] for variable in front["env"] if variable["name"] == "ALLOY_BEHIND")
    (service,) = [d["spec"] for d in of_kind(documents, "Service") if d["metadata"]["name"] == behind]
    assert service["clusterIP"] == "None" and not service.get("publishNotReadyAddresses")
    labels = workloads(documents)["StatefulSet alloy"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert 4317 in {port["port"] for port in service["ports"]}


def test_a_drain_may_take_one_of_each_and_no_more():
    documents = stack("large")
    budgets = of_kind(documents, "PodDisruptionBudget")
    assert len(budgets) > 30
    for name, document in workloads(documents).items():
        labels = document["spec"]["template"]["metadata"]["labels"]
        if document["kind"] == "Job":
            continue
        mine = [b["spec"] for b in budgets if b["spec"]["selector"]["matchLabels"].items() <= labels.items()]
        count = replicas(documents, name)
        # The API server refuses the eviction of a pod that two budgets want to keep.
        assert len(mine) <= 1, name
        if count > 1:
            assert len(mine) == 1, f"{name} has {count} copies and no budget"
        for budget in mine:
            free = budget["maxUnavailable"] if "maxUnavailable" in budget else count - budget["minAvailable"]
            assert free == 1, f"{name}: {free} of {count} may be taken at once"


def test_copies_are_spread():
    documents = stack("large")
    for name, document in workloads(documents).items():
        pod = document["spec"]["template"]["spec"]
        if document["kind"] != "Job" and replicas(documents, name) > 1:
            away = pod.get("topologySpreadConstraints") or (pod.get("affinity") or {}).get("podAntiAffinity")
            assert away, f"{name}: its copies may all stand on one node"
        # A node that lacks the label of one of several preferred constraints is left out of all of them: kind's nodes have no zone.
        preferred = {s["topologyKey"] for s in pod.get("topologySpreadConstraints") or [] if s["whenUnsatisfiable"] == "ScheduleAnyway"}
        assert len(preferred) <= 1, f"{name}: {preferred}"


def test_kafka_makes_a_partition_for_each_live_store():
    """Tempo refuses the traces of a partition that the topic lacks, and Kafka makes a topic with the number that it was started with."""
    documents = stack("large")
    tempo = yaml.safe_load(next(d["data"]["tempo.yaml"] for d in of_kind(documents, "ConfigMap") if d["metadata"]["name"] == "tempo-config"))
    (kafka,) = workloads(documents)["StatefulSet kafka"]["spec"]["template"]["spec"]["containers"]
    counts = [
        int({e["name"]: e.get("value") for e in kafka["env"]}["KAFKA_NUM_PARTITIONS"]),
        tempo["ingest"]["kafka"]["auto_create_topic_default_partitions"],
        replicas(documents, "StatefulSet tempo-live-store"),
        replicas(documents, "StatefulSet tempo-block-builder") * tempo["block_builder"]["partitions_per_instance"],
    ]
    assert len(set(counts)) == 1, counts


@pytest.mark.parametrize(("size", "workload", "target"), [("small", "StatefulSet loki", "all"), ("large", "Deployment loki-distributor", "distributor")])
def test_loki_makes_the_tenants_settings_before_what_takes_records(size, workload, target):
    """github.com/grafana/loki/issues/23075: made in a random order, it panics now and then at its first record. The last -target counts."""
    (container,) = workloads(stack(size))[workload]["spec"]["template"]["spec"]["containers"]
    assert [a for a in container["args"] if a.startswith("-target=")][-1] == f"-target=tenant-configs,{target}"


def test_tempo_gets_no_flag_that_it_does_not_know():
    """Tempo 3 ends at once when it is given -mem-ballast-size-mbs, which its chart of one process, made for Tempo 2, always hands over."""
    (container,) = workloads(stack("small"))["StatefulSet tempo"]["spec"]["template"]["spec"]["containers"]
    assert sorted(container["args"]) == ["-config.expand-env=true", "-config.file=/conf/tempo.yaml"]


def test_whoever_writes_something_down_at_its_end_has_the_time():
    """As long as compose gives it, which was seen to be needed; Kubernetes' own 30 s, and several charts', are too short."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    given = workloads(stack("small"))
    for service, name in {"mimir-1": "mimir-ingester", "loki": "loki", "tempo": "tempo", "pyroscope": "pyroscope", "alloy": "alloy"}.items():
        seconds = given[f"StatefulSet {name}"]["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        assert seconds >= int(compose[service]["stop_grace_period"].removesuffix("s")), name


def test_loki_finds_itself_before_it_is_ready():
    """It joins the members that its Service names before it becomes ready; one process has nobody but itself to join."""
    (service,) = (d for d in of_kind(stack("small"), "Service") if d["metadata"]["name"] == "loki-memberlist")
    assert service["spec"]["publishNotReadyAddresses"] is True


def insists_on_a_node_each(pod: dict) -> bool:
    away = (pod.get("affinity") or {}).get("podAntiAffinity") or {}
    terms = away.get("requiredDuringSchedulingIgnoredDuringExecution") or []
    spreads = [s for s in pod.get("topologySpreadConstraints") or [] if s["whenUnsatisfiable"] == "DoNotSchedule"]
    return any(term["topologyKey"] == "kubernetes.io/hostname" for term in [*terms, *spreads])


def test_a_rolling_update_ends_on_three_nodes():
    """Who insists on a node for each copy, has three, and takes none away before a fourth is ready, waits for ever."""
    documents = stack("large")
    seen = 0
    for name, document in workloads(documents).items():
        if document["kind"] != "Deployment" or not insists_on_a_node_each(document["spec"]["template"]["spec"]):
            continue
        seen += 1
        update = (document["spec"].get("strategy") or {}).get("rollingUpdate") or {}
        # Kubernetes' default is a quarter, rounded down: none of three.
        assert replicas(documents, name) < 3 or update.get("maxUnavailable", 0) >= 1, name
    assert seen > 5


def test_every_pod_finds_a_node(documents):
    """Nodes of kind and k3d carry no zone, and an autoscaler must not stop because one node is full."""
    scaled = {f"Deployment {d['spec']['scaleTargetRef']['name']}" for d in of_kind(documents, "HorizontalPodAutoscaler")}
    for name, document in workloads(documents).items():
        pod = document["spec"]["template"]["spec"]
        hard = {s["topologyKey"] for s in pod.get("topologySpreadConstraints") or [] if s["whenUnsatisfiable"] == "DoNotSchedule"}
        terms = ((pod.get("affinity") or {}).get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []
        hard |= {term["topologyKey"] for term in terms}
        assert hard <= (set() if name in scaled else {"kubernetes.io/hostname"}), name


def test_what_reads_the_settings_starts_anew_when_they_change(size):
    """Another module for traces changes the settings: every pod that has its variables from there must become another one."""
    before, after = (workloads(stack(size, profile)) for profile in ("", "sampling"))
    # Loki's chart gives its variables to the caches as well, which use none of them.
    reading = [
        name
        for name, d in before.items()
        if d["kind"] != "Job" and "memcached" not in name and "cache" not in name and "signalbox-settings" in json.dumps(d["spec"]["template"]["spec"])
    ]
    assert len(reading) >= (5 if size == "small" else 30)
    for name in reading:
        assert before[name]["spec"]["template"]["metadata"] != after[name]["spec"]["template"]["metadata"], name


def test_sampling_switches_both_ends(size):
    for profile, module, processors in (("", "traces-all", None), ("sampling", "traces-sampled", "[]")):
        (settings,) = [d["data"] for d in of_kind(stack(size, profile), "ConfigMap") if d["metadata"]["name"] == "signalbox-settings"]
        assert settings["TRACES_MODULE"] == f"/etc/alloy-modules/{module}.alloy"
        assert settings.get("TEMPO_PROCESSORS") == processors


def test_values_of_ones_own_are_laid_over(tmp_path):
    """Each changes what it says and nothing else; they come last, so that they win over every file of ours."""
    (tmp_path / "loki.yaml").write_text("ingester: { resources: { requests: { memory: 3Gi } } }\n", encoding="utf-8")
    (tmp_path / "signalbox.yaml").write_text("worker: { autoscaling: { enabled: false }, replicas: 4 }\n", encoding="utf-8")
    before, after = stack("large"), stack("large", values=str(tmp_path))
    changed = {name for name, d in workloads(after).items() if d["spec"] != workloads(before)[name]["spec"]}
    assert changed == {"StatefulSet loki-ingester", "Deployment signalbox-worker"}
    (ingester,) = workloads(after)["StatefulSet loki-ingester"]["spec"]["template"]["spec"]["containers"]
    assert ingester["resources"] == {"requests": {"cpu": "1", "memory": "3Gi"}, "limits": {"memory": "4Gi"}}
    assert replicas(after, "Deployment signalbox-worker") == 4


@pytest.mark.parametrize(("file", "complaint"), [("mimir-distributed.yaml", "is of no release"), ("loki.yml", "is of no release"), (None, "no values in VALUES=")])
def test_values_that_no_release_would_read_are_refused(tmp_path, file, complaint):
    if file:
        (tmp_path / file).write_text("{}\n", encoding="utf-8")
    environment = os.environ | {"VALUES": str(tmp_path)}
    done = subprocess.run(["sh", "kubernetes/k8s.sh", "template"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and complaint in done.stderr and done.stdout == "", done.stderr


def test_verify_has_the_values_of_ones_own_too(tmp_path):
    """Whoever runs the stores elsewhere says in them which way a request takes."""
    (tmp_path / "values").mkdir()
    (tmp_path / "values/signalbox.yaml").write_text("verify: { grafana: 'http://grafana.example' }\n", encoding="utf-8")
    # In place of kubectl: keeps what it is given, and says that the Job has ended well.
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\ncase "$*" in *apply*) cat >{tmp_path}/job ;; *"get job"*) echo 1/ ;; esac\n', encoding="utf-8")
    (tmp_path / "kubectl").chmod(0o755)
    environment = os.environ | {"CONTEXT": "my-trial", "VALUES": str(tmp_path / "values"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "kubernetes/k8s.sh", "verify"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (job,) = of_kind(yaml.safe_load_all((tmp_path / "job").read_text(encoding="utf-8")), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][container["args"].index("--grafana") + 1] == "http://grafana.example"


CHARTS = {
    "alloy": ("GRAFANA", "alloy", "ALLOY_CHART"),
    "alloy-front": ("GRAFANA", "alloy", "ALLOY_CHART"),
    "alloy-watch": ("GRAFANA", "alloy", "ALLOY_CHART"),
    "loki": ("COMMUNITY", "loki", "LOKI_CHART"),
    "mimir": ("GRAFANA", "mimir-distributed", "MIMIR_CHART"),
    "pyroscope": ("GRAFANA", "pyroscope", "PYROSCOPE_CHART"),
    "grafana": ("COMMUNITY", "grafana", "GRAFANA_CHART"),
    "small/tempo": ("COMMUNITY", "tempo", "TEMPO_CHART"),
    "tempo": ("COMMUNITY", "tempo-distributed", "TEMPO_DISTRIBUTED_CHART"),
}
# Maps that go through as they are, and keys that a template reads though values.yaml does not name them.
FREE = {"structuredConfig", "extraArgs", "resources", "env", "securityContext", "podSecurityContext", "containerSecurityContext", "topologySpreadConstraints"}
READ = {
    "small/loki.yaml": {"loki.storage.bucketNames", "loki.rulerConfig.storage", "loki.rulerConfig.rule_path", "loki.pattern_ingester.lifecycler"},
    "small/pyroscope.yaml": {"pyroscope.terminationGracePeriodSeconds"},
    "large/tempo.yaml": {"storage.trace.s3", "backendWorker.podDisruptionBudget", "backendWorker.maxUnavailable"},
    "large/pyroscope.yaml": {"architecture.microservices.v2.metastore.persistence.size"},
}


def unknown(ours: dict, theirs: dict, path: str = "") -> set[str]:
    found = set()
    for key, value in ours.items():
        here = f"{path}.{key}".lstrip(".")
        if key not in theirs:
            found.add(here)
        elif key not in FREE and isinstance(value, dict) and isinstance(theirs[key], dict) and theirs[key]:
            found |= unknown(value, theirs[key], here)
    return found


@pytest.mark.parametrize("file", sorted(str(p.relative_to(ROOT / "kubernetes/values")) for p in (ROOT / "kubernetes/values").glob("*/*.yaml")))
def test_charts_know_every_key(file):
    """helm drops a key that no template reads, and says nothing."""
    name = file.split("/")[1].removesuffix(".yaml")
    chart = CHARTS.get(file.removesuffix(".yaml"), CHARTS.get(name))
    if chart is None:
        assert name in ("signalbox", "trial")
        return
    theirs = yaml.safe_load(show_values(*chart))
    ours = yaml.safe_load((ROOT / "kubernetes/values" / file).read_text(encoding="utf-8"))
    assert unknown(ours, theirs) == READ.get(file, set())


def show_values(repository: str, chart: str, version: str) -> str:
    script = f'. ./.env; if [ -n "${{CHARTS:-}}" ]; then helm show values "$CHARTS/{chart}"; else helm show values {chart} --repo "${repository}_CHARTS" --version "${version}"; fi'
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["up", "down", "verify"])
@pytest.mark.parametrize(("context", "refused"), [("prod-eu", True), ("kind-kind", False), ("my-trial", False)])
def test_a_cluster_that_looks_like_no_trial_is_refused(tmp_path, command, context, refused):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
        # Nobody listens on port 1: whoever gets past the question fails there.
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "config").write_text(yaml.dump(config), encoding="utf-8")
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "config"), "CONTEXT": ""}
    done = subprocess.run(["sh", "kubernetes/k8s.sh", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert (f"the current context is {context}, which does not look like a trial cluster" in done.stderr) is refused, done.stderr
    assert ("127.0.0.1:1" in done.stdout + done.stderr) is not refused, done.stderr
    # Without the list of releases none is removed: the namespace stays, so that `down` can be run again.
    if command == "down" and not refused:
        assert done.stderr.startswith("Error: kubernetes cluster unreachable") and done.stderr.count("\n") == 1, done.stderr


def test_an_image_is_built_only_if_it_can_be_handed_on(tmp_path):
    """To a cluster of which nobody knows how it takes images, none is built: that takes minutes."""
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "my-trial", "contexts": [{"name": "my-trial", "context": {"cluster": "c", "user": "u"}}]}
    (tmp_path / "config").write_text(yaml.dump(config), encoding="utf-8")
    (tmp_path / "docker").write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/asked\n", encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "config"), "CONTEXT": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    image = partial(subprocess.run, ["sh", "kubernetes/k8s.sh", "image"], cwd=ROOT, capture_output=True, text=True, check=False)
    refused = image(env=environment | {"REGISTRY": ""})
    assert refused.returncode == 1 and "how an image gets into my-trial is not known here" in refused.stderr
    assert not (tmp_path / "asked").exists()
    assert image(env=environment | {"REGISTRY": "registry.example/team"}).returncode == 0
    build, push = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert build.startswith("build ") and "--tag registry.example/team/signalbox:" in build and push.startswith("push registry.example/team/signalbox:")
