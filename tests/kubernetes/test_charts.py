"""Our charts without a cluster: valid to Kubernetes' schemas, safe as the restricted level asks and beyond, and joined as they should be."""

import json
import re

import kubernetes_validate
import pytest
import yaml
from conftest import CHART, ROOT, SIZES, helm, ours, trial

# The oldest release that the chart allows (kubeVersion), and the newest whose schemas the package has.
VERSIONS = ("1.30", "1.37")


def of_kind(documents: list[dict], *kinds: str) -> list[dict]:
    return [document for document in documents if document["kind"] in kinds]


def workloads(documents: list[dict]) -> list[tuple[str, dict]]:
    found = [(f"{d['kind']} {d['metadata']['name']}", d["spec"]["template"]["spec"]) for d in of_kind(documents, "Deployment", "StatefulSet", "Job")]
    assert found
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(documents, version):
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_pods_are_restricted_and_more(documents):
    for name, pod in workloads(documents):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] > 0, name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
        assert pod["automountServiceAccountToken"] is False, name
        assert not any(pod.get(host) for host in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
            assert ":" in container["image"] and not container["image"].endswith(":latest"), name


def test_what_serves_is_probed(documents):
    served = [(d["metadata"]["name"], d["spec"]["template"]["spec"]) for d in of_kind(documents, "Deployment", "StatefulSet")]
    for name, pod in served:
        for container in pod["containers"]:
            assert "readinessProbe" in container, name


def test_selectors_meet_pods(documents):
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in of_kind(documents, "Deployment", "StatefulSet")]
    for document in of_kind(documents, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = document["spec"]
        selector = spec.get("podSelector", spec["selector"] if document["kind"] == "Service" else spec.get("selector"))
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= labels.items() for labels in pods), document["metadata"]["name"]


@pytest.mark.parametrize("size", SIZES)
def test_a_policy_lets_in_and_out_only_whom_it_must(size):
    policies = {d["metadata"]["name"]: d["spec"] for d in of_kind(ours(size), "NetworkPolicy")}
    assert policies.keys() == {"signalbox-api", "signalbox-worker"}
    ports = {name: sorted({port["port"] for rule in spec["egress"] for port in rule["ports"]}) for name, spec in policies.items()}
    assert ports == {"signalbox-api": [53, 4040, 4318, 5432, 6379, 18081], "signalbox-worker": [53, 4040, 4318, 6379]}
    for spec in policies.values():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        # Names may be asked of anybody, everything else goes to named pods.
        assert all("to" in rule for rule in spec["egress"] if rule["ports"][0]["port"] != 53)
    (worker,) = policies["signalbox-worker"]["ingress"]
    callers = [peer["podSelector"]["matchLabels"] for peer in worker["from"]]
    assert {"app.kubernetes.io/name": "signalbox", "app.kubernetes.io/instance": "signalbox", "app.kubernetes.io/component": "api"} in callers
    assert {"app.kubernetes.io/name": "alloy"} in callers and len(callers) == 2


ZONE, NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


@pytest.mark.parametrize(("when", "spread", "preferred"), [("ScheduleAnyway", [NODE], [ZONE]), ("DoNotSchedule", [NODE, ZONE], [])])
def test_copies_are_spread_with_and_without_zones(when, spread, preferred):
    """Of two preferred constraints the scheduler counts none on a node that lacks the label of one: kind's nodes have no zone."""
    for pod in (d["spec"]["template"]["spec"] for d in of_kind(ours("large", f"--set=topologySpread.whenUnsatisfiable={when}"), "Deployment")):
        assert [s["topologyKey"] for s in pod["topologySpreadConstraints"]] == spread
        assert {s["whenUnsatisfiable"] for s in pod["topologySpreadConstraints"]} == {when}
        terms = pod.get("affinity", {}).get("podAntiAffinity", {}).get("preferredDuringSchedulingIgnoredDuringExecution", [])
        assert [term["podAffinityTerm"]["topologyKey"] for term in terms] == preferred


def test_a_pod_has_time_to_end():
    pods = dict(workloads(ours("large")))
    for name in ("Deployment signalbox-api", "Deployment signalbox-worker"):
        (container,) = pods[name]["containers"]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        ends = int(variables["SIGNALBOX_SHUTDOWN_TIMEOUT_S"]) + int(variables["SIGNALBOX_FLUSH_TIMEOUT_MS"]) / 1000
        assert pods[name]["terminationGracePeriodSeconds"] >= waits + ends + 1


def test_links_lead_to_the_grafana_that_was_named():
    (api,) = dict(workloads(ours("small", "--set=grafanaUrl=https://grafana.example")))["Deployment signalbox-api"]["containers"]
    links = {variable["name"]: variable["value"] for variable in api["env"] if variable["name"].startswith("SIGNALBOX_LINK_")}
    assert len(links) >= 5
    assert all(link.startswith("https://grafana.example/explore?") for link in links.values()), links


@pytest.mark.parametrize("arguments", [(), ("--set=api.autoscaling.enabled=false,api.replicas=2",)], ids=["autoscaling", "two replicas"])
def test_more_than_one_replica_refuses_sqlite(arguments):
    done = helm("template", "signalbox", str(CHART), *arguments)
    assert done.returncode != 0
    assert "SQLite is a file of one pod" in done.stderr


def test_one_replica_may_have_sqlite():
    done = helm("template", "signalbox", str(CHART), "--set=api.autoscaling.enabled=false,api.replicas=1")
    assert done.returncode == 0, done.stderr
    assert "sqlite:/data/signalbox.db" in done.stdout


@pytest.mark.parametrize("size", SIZES)
def test_the_way_has_the_shape_that_verify_reads(size):
    """As ctl/src/stack/verify/way.json, which verify's own tests read."""
    shape = json.loads((ROOT / "ctl/src/stack/verify/way.json").read_text(encoding="utf-8"))
    (given,) = [d for d in of_kind(ours(size), "ConfigMap") if "way.json" in d["data"]]
    way = json.loads(given["data"]["way.json"])
    assert way.keys() == shape.keys()
    for direction, doors in way.items():
        assert doors[0]["name"] == "store"
        for door in doors:
            assert door.keys() == shape[direction][0].keys()
            assert not any(url.endswith("/") for url in door.values())


def test_values_of_the_projects_charts_parse():
    files = sorted((ROOT / "kubernetes/values").glob("*/*.yaml"))
    assert len(files) >= 20
    for path in files:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert isinstance(content, dict) and content, path


def test_lint():
    done = helm("lint", "--strict", str(CHART), "--set=database.secret=d")
    assert done.returncode == 0, done.stdout + done.stderr


def variables_of_the_cluster(size: str) -> set[str]:
    """What Alloy, Grafana and the stores are given: the settings of k8s.sh, the trial's Secrets, and the values files themselves."""
    script = (ROOT / "kubernetes/k8s.sh").read_text(encoding="utf-8")
    settings = set(re.findall(r'"([A-Z0-9_]+)=[$/]', script[script.index("addresses()") : script.index("everything()")]))
    secrets = {key for d in of_kind(trial(), "Secret") for key in d["stringData"]}
    files = [*(ROOT / "kubernetes/values/small").glob("*.yaml"), *(ROOT / f"kubernetes/values/{size}").glob("*.yaml")]
    written = {name for path in files for name in re.findall(r"\{ name: ([A-Z0-9_]+), value: ", path.read_text(encoding="utf-8"))}
    return settings | secrets | written


@pytest.mark.parametrize("size", SIZES)
def test_what_compose_files_ask_for_is_given_here_too(size):
    """A variable that is added to one of them would be empty on Kubernetes otherwise."""
    asked = {}
    for path in [*(ROOT / "alloy").rglob("*.alloy"), *(ROOT / "kubernetes/alloy").glob("*.alloy")]:
        asked |= dict.fromkeys(re.findall(r'sys\.env\("([A-Z0-9_]+)"\)', path.read_text(encoding="utf-8")), path.name)
    for path in [*(ROOT / "grafana/provisioning").glob("*/*.yaml"), *(ROOT / "kubernetes/values/shared").glob("*.yaml"), ROOT / "tempo/tempo.yaml"]:
        # Not those with a default.
        asked |= dict.fromkeys(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)\}", path.read_text(encoding="utf-8")), path.name)
    assert {"TRACES_TO", "LOKI_URL", "RETENTION", "S3_ENDPOINT"} <= asked.keys()
    # Only what stands in front, of size large, is told who is behind.
    missing = asked.keys() - variables_of_the_cluster(size) - ({"ALLOY_BEHIND"} if size == "small" else set())
    assert not missing, {name: asked[name] for name in missing}


@pytest.mark.parametrize("change", ["--set=images.minio=example/minio:2,images.postgres=example/postgres:2", "--set-file=buckets=LICENSE"])
def test_another_job_has_another_name(change):
    """A Job cannot be changed: an upgrade that keeps its name is refused by the API server."""
    names = [{d["metadata"]["name"] for d in of_kind(documents, "Job")} for documents in (trial(), trial(change))]
    assert len(names[0]) == 2 and not names[0] & names[1]


def test_the_job_at_the_database_asks_again():
    """psql waits for two minutes for an answer that does not come; the Job's pod starts as soon as that of the database, whose address the node may not know yet."""
    (observer,) = [d for d in of_kind(trial(), "Job") if d["metadata"]["name"].startswith("trial-observer-")]
    pod = observer["spec"]["template"]["spec"]
    environment = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    assert 0 < int(environment["PGCONNECT_TIMEOUT"]) <= 10 and pod["restartPolicy"] == "OnFailure"


@pytest.mark.parametrize("size", SIZES)
def test_the_database_has_a_connection_for_every_pod(size):
    """PostgreSQL allows 100 unless told otherwise, three of them for its administrator; Alloy looks in with a few."""
    (pool,) = re.findall(r'"SIGNALBOX_DATABASE_CONNECTIONS", (\d+),', (ROOT / "src/settings.rs").read_text(encoding="utf-8"))
    documents = ours(size)
    most = {d["spec"]["scaleTargetRef"]["name"]: d["spec"]["maxReplicas"] for d in of_kind(documents, "HorizontalPodAutoscaler")}
    (api,) = [d["spec"] for d in of_kind(documents, "Deployment") if d["metadata"]["name"] == "signalbox-api"]
    surge = api["strategy"]["rollingUpdate"]["maxSurge"]
    assert (most.get("signalbox-api", api.get("replicas")) + surge) * (int(pool) + 1) <= 90  # and one for readiness


@pytest.mark.parametrize("size", ["small", "large"])
def test_metrics_come_as_often_as_the_dashboards_ask(size):
    """They and the links look at windows of a minute or less: with the SDK's minute between two exports a rate finds nothing."""
    sources = yaml.safe_load((ROOT / "grafana/provisioning/datasources/signalbox.yaml").read_text(encoding="utf-8"))["datasources"]
    (interval,) = {source["jsonData"]["timeInterval"] for source in sources if "timeInterval" in source.get("jsonData", {})}
    pods = [d["spec"]["template"]["spec"] for d in of_kind(ours(size), "Deployment")]
    told = [{v["name"]: v.get("value") for v in pod["containers"][0]["env"]}.get("OTEL_METRIC_EXPORT_INTERVAL") for pod in pods]
    assert told == [str(int(interval.removesuffix("s")) * 1000)] * 2


def test_a_search_at_the_small_loki_reads_no_more_at_a_time_than_with_compose():
    compose = yaml.safe_load((ROOT / "loki/loki.yaml").read_text())
    small = yaml.safe_load((ROOT / "kubernetes/values/small/loki.yaml").read_text())["loki"]["structuredConfig"]
    for part, limit in [("querier", "max_concurrent"), ("storage_config", "max_chunk_batch_size")]:
        assert small[part][limit] == compose[part][limit]
