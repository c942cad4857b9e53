"""docs/capacity.md: from the measured cost of one request to pods, cores, memory, disk and object store.

Change an input here and run `make kubernetes-files`. Every input carries where it comes from; `MEASURED` ones were taken on this stack,
`PROJECT` ones are what a project's own documentation says, `SET` ones are settings of ours, `ASSUMED` ones nobody has measured here, and what they carry is no better.
"""

from dataclasses import dataclass
from math import ceil

PAGE = "docs/capacity.md"

MEASURED, PROJECT, SET, ASSUMED = "measured", "project", "set", "assumed"


@dataclass(frozen=True)
class Input:
    """One figure: what it is, its unit, and where it comes from."""

    value: float
    what: str
    unit: str
    kind: str
    source: str


COST = "[systems/cost.md](systems/cost.md): 3,000 requests of the mixed load, every trace kept"
MIMIR_DOC = "Mimir 3.0, *Planning Grafana Mimir capacity*"

# The work of a request, by part: processor milliseconds.
SERVICE_MS = Input(10.5, "API and worker, telemetry included", "ms a request", MEASURED, COST)
TELEMETRY_INSTRUCTIONS = Input(23_000, "of which the instrumentation of a request: instructions", "a request", MEASURED, "[overhead.md](overhead.md): all three signals over a bare handler, without optimisation at link time, rounded up")
INSTRUCTIONS_SECOND = Input(1e9, "instructions that a busy core does", "a second", ASSUMED, "one a nanosecond; processors of these years do more")
ALLOY_MS = Input(0.29, "Alloy", "ms a request", MEASURED, COST)
TEMPO_MS = Input(0.67, "Tempo with its generator", "ms a request", MEASURED, COST)
LOKI_MS = Input(0.58, "Loki", "ms a request", MEASURED, COST)
MIMIR_MS = Input(0.11, "Mimir", "ms a request", MEASURED, COST)

# What a request leaves behind.
SPANS = Input(7.0, "spans", "a request", MEASURED, COST)
SPAN_BYTES = Input(1900, "spans, as received", "bytes a request", MEASURED, COST)
RECORDS = Input(3.1, "log records", "a request", MEASURED, COST)
LOG_BYTES = Input(1000, "log records, as received", "bytes a request", MEASURED, COST)
SERIES_SERVICE = Input(524, "series of one pod of API or worker", "a pod", MEASURED, COST + " (1,048 of one API and one worker)")
SERIES_GENERATOR = Input(2497, "series that Tempo's generator makes of spans", "in all", MEASURED, COST)
EXPORT_SECONDS = Input(5, "between two exports of metrics", "s", SET, "`OTEL_METRIC_EXPORT_INTERVAL` of values/large: what the dashboards ask for")
PROFILE_MS = Input(50, "Pyroscope, for what one pod sends in 10 s", "ms", ASSUMED, "not measured yet")
PROFILE_BYTES = Input(60_000, "CPU and heap profiles of one pod, compressed", "bytes every 10 s", ASSUMED, "not measured yet")

# From one process of each store to a replicated one.
REPLICATION = Input(3, "copies that Loki's and Mimir's ingesters hold", "", SET, "values/large: replication_factor")
KAFKA_READERS = Input(3, "readers of what Tempo writes to Kafka: live store, block builder, generator", "", PROJECT, "Tempo 3's microservices mode")
INGESTER_SERIES_CORE = Input(300_000, "series in memory that one core of an ingester carries", "series", PROJECT, MIMIR_DOC)
INGESTER_SERIES_GB = Input(2.5, "memory for as many", "GB", PROJECT, MIMIR_DOC)
DISTRIBUTOR_SAMPLES = Input(25_000, "samples a second that one core of a distributor carries", "samples/s", PROJECT, MIMIR_DOC)

# On the way to the object store.
TRACE_RATIO = Input(0.35, "share of a span's bytes that is left in a block (Parquet)", "", ASSUMED, "not measured yet")
LOG_RATIO = Input(0.15, "share of a record's bytes that is left in a chunk (snappy)", "", ASSUMED, "not measured yet; nearly all of a record repeats")
SAMPLE_BYTES = Input(2.0, "bytes of a sample in a compacted block", "bytes", PROJECT, MIMIR_DOC)
RETENTION_DAYS = Input(7, "how long everything is kept", "days", SET, "RETENTION of .env")
KAFKA_HOURS = Input(4, "how long Kafka keeps spans", "h", SET, "kubernetes/trial")
ALLOY_QUEUE_HOURS = Input(1, "outage of the stores that Alloy's disks bridge", "h", ASSUMED, "chosen")
CHUNK_BYTES = Input(1_500_000, "size at which Loki closes a chunk", "bytes", PROJECT, "Loki 3.7: chunk_target_size")
BLOCK_BYTES = Input(100_000_000, "size of a block of spans when it is written", "bytes", ASSUMED, "a block builder's cycle")

# Memory of a pod, as values/large requests it for the part that holds most.
API_GB = Input(0.19, "memory of a pod of API or worker", "GB", ASSUMED, "requested in kubernetes/signalbox/values.yaml; at rest 48 MB was measured (README)")
ALLOY_GB = Input(1.0, "memory of an Alloy", "GB", ASSUMED, "requested in values/large/alloy.yaml; at 20 requests/s 114 MB was measured (README)")
LOKI_GB = Input(2.0, "memory of a pod of Loki", "GB", ASSUMED, "requested in values/large/loki.yaml for an ingester")
MIMIR_GB = Input(0.5, "memory of a pod of Mimir beside its series", "GB", ASSUMED, "requested in values/large/mimir.yaml for a distributor; at rest each module takes 81 to 99 MB")
TEMPO_GB = Input(1.0, "memory of a pod of Tempo", "GB", ASSUMED, "requested in values/large/tempo.yaml for a live store")
PYROSCOPE_GB = Input(1.0, "memory of a pod of Pyroscope", "GB", ASSUMED, "requested in values/large/pyroscope.yaml for a segment writer")

# Sizes of pods, as values/large asks for them.
HEADROOM = Input(0.6, "share of a pod's cores that is planned for", "", ASSUMED, "the autoscaler's target; the rest is for peaks and for a pod that is gone")
SAMPLED = Input(0.1, "share of traces that tail sampling keeps, beside the failed and the slow", "", ASSUMED, "chosen")

# The highest rate at which the real stack was seen to lose nothing on two cores for ten minutes, with its load. With the costliest request of the mix, so less than the mix would reach.
TWO_CORES_SEEN = Input(100, "requests a second that the real stack carried for ten minutes without loss on two cores", "requests/s", MEASURED, "`/demo/work` alone, 19 spans a request, with a Kubernetes node starting beside it: docs/reliability.md")

RATES = [1_000, 10_000, 100_000, 1_000_000]
# Cores that a pod of each part may use; requests in values/large are half of it or less.
CORES_OF_A_POD = {"API and worker": 1, "Alloy": 2, "Loki": 2, "Mimir": 2, "Tempo": 2, "Pyroscope": 1}


@dataclass(frozen=True)
class Plan:
    """What one rate needs."""

    cores: dict[str, float]
    pods: dict[str, int]
    memory_gb: dict[str, float]
    disk_gb: dict[str, float]
    kept_tb: dict[str, float]
    puts: dict[str, float]
    series: float
    samples: float


def plan(rate: int, kept: float = 1.0) -> Plan:
    """For `rate` requests a second, of whose traces the share `kept` is stored."""
    second = rate / 1000  # requests a second times milliseconds a request = cores
    service = second * SERVICE_MS.value
    pods = {"API and worker": _pods(service, "API and worker")}
    series = pods["API and worker"] * SERIES_SERVICE.value + SERIES_GENERATOR.value
    samples = series / EXPORT_SECONDS.value
    # Every core of a store was measured with one copy. Ingesters do the work once for each copy, so that three times is the upper bound.
    mimir = max(samples / DISTRIBUTOR_SAMPLES.value, 0.1) + series * REPLICATION.value / INGESTER_SERIES_CORE.value
    cores = {
        "API and worker": service,
        "Alloy": second * ALLOY_MS.value * 2,  # the one in front and the one behind
        "Loki": second * LOKI_MS.value * REPLICATION.value,
        "Mimir": mimir,
        "Tempo": second * TEMPO_MS.value * KAFKA_READERS.value * kept,
        "Pyroscope": pods["API and worker"] * PROFILE_MS.value / 10_000,
    }
    pods |= {part: _pods(cores[part], part) for part in cores if part not in pods}
    bytes_a_second = {"logs": rate * LOG_BYTES.value, "traces": rate * SPAN_BYTES.value * kept}
    profiles = pods["API and worker"] * PROFILE_BYTES.value / 10
    day = 86_400
    days = RETENTION_DAYS.value
    stored = {
        "logs": bytes_a_second["logs"] * LOG_RATIO.value,
        "metrics": samples * SAMPLE_BYTES.value,
        "traces": bytes_a_second["traces"] * TRACE_RATIO.value,
        "profiles": profiles,
    }
    return Plan(
        cores=cores,
        pods=pods,
        memory_gb={
            "API and worker": pods["API and worker"] * API_GB.value,
            "Alloy": pods["Alloy"] * ALLOY_GB.value,
            "Loki": pods["Loki"] * LOKI_GB.value,
            "Mimir": series * REPLICATION.value / INGESTER_SERIES_CORE.value * INGESTER_SERIES_GB.value + pods["Mimir"] * MIMIR_GB.value,
            "Tempo": pods["Tempo"] * TEMPO_GB.value,
            "Pyroscope": pods["Pyroscope"] * PYROSCOPE_GB.value,
        },
        disk_gb={
            "Alloy's queues": (rate * (LOG_BYTES.value + SPAN_BYTES.value)) * ALLOY_QUEUE_HOURS.value * 3600 / 1e9,
            "Kafka, three copies": bytes_a_second["traces"] * KAFKA_HOURS.value * 3600 * 3 / 1e9,
            "Loki's write-ahead logs": bytes_a_second["logs"] * REPLICATION.value * 3600 / 1e9,
        },
        kept_tb={signal: value * day * days / 1e12 for signal, value in stored.items()},
        puts={
            "logs": stored["logs"] / CHUNK_BYTES.value,
            "metrics": 3 * REPLICATION.value / 7200,  # three files of a block, each ingester every two hours
            "traces": max(stored["traces"] / BLOCK_BYTES.value * 6, 3 * 6 / 60),
            "profiles": pods["API and worker"] / 10 / 5,  # segments are shared by whoever writes within half a second
        },
        series=series,
        samples=samples,
    )


def _pods(cores: float, part: str) -> int:
    return max(3, ceil(cores / CORES_OF_A_POD[part] / HEADROOM.value))


def files() -> dict[str, str]:
    return {PAGE: _page()}


def _page() -> str:
    plans = {rate: plan(rate) for rate in RATES}
    sampled = {rate: plan(rate, SAMPLED.value) for rate in RATES}
    head = ["", *(f"{rate:,}/s" + (" (extrapolated)" if rate == RATES[-1] else "") for rate in RATES)]

    def table(rows: dict[str, list[str]]) -> str:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()])

    def by_part(pick) -> dict[str, list[str]]:
        return {part: [pick(plans[rate], part) for rate in RATES] for part in CORES_OF_A_POD}

    total_cores = [_number(sum(plans[rate].cores.values())) for rate in RATES]
    work = by_part(lambda plan, part: f"{_number(plan.cores[part])} in {plan.pods[part]:,} pods, {_number(plan.memory_gb[part])} GB")
    work["**together, cores**"] = [f"**{cores}**" for cores in total_cores]
    work["Tempo, a tenth of the traces"] = [f"{_number(sampled[rate].cores['Tempo'])} in {sampled[rate].pods['Tempo']:,} pods" for rate in RATES]
    metrics = {
        "series": [f"{plans[rate].series:,.0f}" for rate in RATES],
        "samples a second": [_number(plans[rate].samples) for rate in RATES],
    }
    disk = {name: [f"{_number(plans[rate].disk_gb[name])} GB" for rate in RATES] for name in plans[RATES[0]].disk_gb}
    kept = {f"{signal} kept": [f"{_number(plans[rate].kept_tb[signal])} TB" for rate in RATES] for signal in plans[RATES[0]].kept_tb}
    kept["traces kept, a tenth"] = [f"{_number(sampled[rate].kept_tb['traces'])} TB" for rate in RATES]
    puts = {f"{signal}, writes a second": [_number(plans[rate].puts[signal]) for rate in RATES] for signal in plans[RATES[0]].puts}
    one = SERVICE_MS.value + ALLOY_MS.value + TEMPO_MS.value + LOKI_MS.value + MIMIR_MS.value
    predicted = 2000 / one
    held = f"Seen: {TWO_CORES_SEEN.value:,.0f} ({TWO_CORES_SEEN.source}), which is {TWO_CORES_SEEN.value / predicted:.0%} of it."
    inputs = [value for value in globals().values() if isinstance(value, Input)]
    listed = "\n".join(f"| {entry.what} | {entry.value:g} {entry.unit} | {entry.kind} | {entry.source} |" for entry in inputs)
    return f"""# Capacity: from one request to a million a second

Generated by kubernetes/generate/capacity.py (`make kubernetes-files`); the figures it starts from stand at the end, each with its source. `measured` was
seen on this stack at 38 requests a second on two cores; `project` is what a project's documentation says; `set` is a setting of ours; `assumed` nobody has measured here. Every column is
computed from the cost of one request and grows in proportion, so each is an extrapolation of that measurement; the last one lies beyond anything that was tried
with these programs here, and is marked.

## Work

Cores in use, pods that carry them at {HEADROOM.value:.0%}, and their memory. A store's pods are those of its write path; what queries need depends on who asks.

{table(work)}

The instrumentation itself is {TELEMETRY_INSTRUCTIONS.value:,.0f} instructions of a request: {_number(TELEMETRY_INSTRUCTIONS.value * 1000 / INSTRUCTIONS_SECOND.value)} of a core for every 1,000 requests a second.

## Metrics

They grow with the number of pods, not with the number of requests.

{table(metrics)}

## Disks

{table(disk)}

## Object store

For {RETENTION_DAYS.value:g} days.

{table(kept | puts)}

## Two cores, predicted and seen

One request of the mixed load is {one:.2f} ms of processor time in all, so that two cores carry {predicted:.0f} requests a second, with one process of each store, and
nothing left for queries. {held}

## Where each part stops growing, and what to change there

| part | stops because | then |
|---|---|---|
| API and worker | the database: every order is a row, and 9 connections a pod (a pool of 8, one for readiness) meet PostgreSQL's `max_connections` (100) at the eleventh pod, so `large` stops at nine (`maxReplicas`) | a connection pooler in front, then a database for each group of clients; the service itself keeps no state |
| job stream in Redis | one stream is one Redis thread | a stream for each shard of orders, or a queue that is made of partitions |
| Alloy in front | nothing is shared: it grows with pods | |
| Alloys that queue | the writing of their disks: each accepted byte is written before it is sent | more of them, on disks of their own. With tail sampling a trace's spans must meet in one: adding one moves the traces of the next seconds. Until it is decided a trace waits in memory, 5 s after its root: each holds 50,000 (`num_traces`), 10,000 new traces a second, or what `limit` in `receive.alloy` allows; the counter `…_trace_dropped_too_early_total`, and `make doctor`, say when it is too few |
| Loki | few streams: two services are two streams, and a stream above 1.5 MB/s is split by Loki itself (`shard_streams`). Ingesters' memory | more ingesters. From a few tens of MB/s on sample the debug and access records at their source: a tenth of them is a tenth of the cost |
| Mimir, classic | every sample waits for two of three ingesters, and a heavy query loads the very processes that accept | ingest storage, which parts writing from reading: [adr/0005-classic-mimir.md](adr/0005-classic-mimir.md) says when |
| series | {SERIES_SERVICE.value:g} of each pod: a thousand pods are half a million | leave `service.instance.id` out of the promoted attributes and sum over pods in Alloy; native histograms in place of buckets |
| Tempo's generator | each of its replicas keeps all series of the spans that it sees | make the span metrics in Alloy before the sampling, so that the generator can be switched off |
| Tempo | partitions of Kafka: a live store and a block builder for each | more partitions. Above 10,000 requests a second nobody reads every trace: tail sampling keeps the failed, the slow, and a tenth of the rest |
| Pyroscope | its metastore is one Raft group | profile a tenth of the pods: the flame graph of a hundred is the same |
| object store | requests a second for each prefix, not bytes | fewer, larger objects: longer cycles and larger chunks, at the cost of what a crash of all copies loses |

## Inputs

| what | figure | kind | source |
|---|---|---|---|
{listed}
"""


def _number(value: float) -> str:
    """Two digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.2g}"
