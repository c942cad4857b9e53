"""Pipeline: does all telemetry arrive, and if not, at which hop is it lost?"""

from .. import names as n, style
from ..board import board
from ..panels import UP_WORDS, graph, prom, read_me, row, scraped, stat, states
from ..promql import selector, zero_while

WINDOW = "$__rate_interval"
OTLP = ("logs", "metrics", "traces")
#: Remote write counts what it was told to leave out as dropped, too.
NOT_ON_PURPOSE = 'reason!="dropped_series"'


def summed(series: str) -> str:
    return f"sum(rate({series}[{WINDOW}]))"


def by_alloy(counter: str) -> str:
    return f"sum by (instance) (rate({selector(counter, n.REMOTE_WRITE)}[{WINDOW}]))"


def by_hop(signal: str):
    """The same flow, counted at each hop: lines that lie on one another mean that nothing was lost between."""
    yield scraped(summed(f'{n.SDK_EXPORTED[signal]}{{error_type=""}}'), "1 service sent")
    if signal == "profiles":
        yield scraped(summed(selector(n.PROFILES_SENT, n.FIRST_ALLOY)), "3 Alloy sent")
    else:
        yield scraped(summed(selector(n.collector("receiver_accepted", signal), n.FIRST_ALLOY)), "2 Alloy accepted")
        yield scraped(summed(selector(n.collector("exporter_sent", signal), n.FIRST_ALLOY)), "3 Alloy sent")
    yield scraped(summed(n.STORE_RECEIVED[signal]), f"4 {n.STORES[signal]} received")


HOPS = {"1 service sent": "green", "2 Alloy accepted": "blue", "3 Alloy sent": "purple"} | {
    f"4 {store}" + " received": "orange" for store in n.STORES.values()
}


def lost(signal: str) -> list[tuple[str, str]]:
    """(where, rate) of all losses of a signal; 0 while the pipeline is alive, nothing when it is not."""
    exported = summed(f'{n.SDK_EXPORTED[signal]}{{error_type=""}}')
    found = [("service: export failed", summed(f'{n.SDK_EXPORTED[signal]}{{error_type!=""}}'))]
    if signal in n.SDK_PROCESSED:
        found.append(("service: queue full", summed(f'{n.SDK_PROCESSED[signal]}{{error_type!=""}}')))
    if signal == "profiles":
        found.append(("Alloy: dropped", zero_while(summed(n.PROFILES_DROPPED), exported)))
    else:
        found.append(("Alloy: refused", zero_while(summed(n.collector("receiver_refused", signal)), exported)))
        found.append(("Alloy: gave up", zero_while(summed(n.collector("exporter_send_failed", signal)), exported)))
        found.append(("Alloy: queue full", zero_while(summed(n.collector("exporter_enqueue_failed", signal)), exported)))
    if signal == "logs":
        found.append(("Alloy: pushed in vain", zero_while(summed(n.LOKI_DROPPED), exported)))
    if signal == "metrics":
        found.append(("Alloy: scraped, refused", zero_while(summed(selector(n.REMOTE_FAILED, n.REMOTE_WRITE)), exported)))
        found.append(("Alloy: scraped, too old", zero_while(summed(selector(n.REMOTE_DROPPED, n.REMOTE_WRITE, NOT_ON_PURPOSE)), exported)))
    found.append((f"{n.STORES[signal]}: discarded", zero_while(summed(n.STORE_DISCARDED[signal]), exported)))
    return found


def all_lost(signal: str) -> str:
    return " + ".join(f"({query})" for _, query in lost(signal))


def dashboard():
    question = "Does all telemetry arrive, and if not, where is it lost?"
    return board(
        "pipeline",
        "Signalbox · Pipeline",
        f"{question} Accepted, sent, refused, queued and dropped at every hop: service, Alloy, balancers, stores, object store.",
        next_board=("load-test", "Load test"),
        content=[
            read_me(
                question,
                "In each graph the same items are counted at every hop: lines on top of one another mean that nothing is lost. A gap between two lines is being queued, see *Waiting*, or lost, see *Lost*.",
                "push it until it gives: *Load test*.",
            ),
            *(
                stat(
                    f"{signal.capitalize()} lost",
                    "Items per second lost anywhere on the way: failed exports, full queues, refusals, discards. Nought in the normal run.",
                    scraped(all_lost(signal)),
                    unit="cps", decimals=1, thresholds=style.NEVER,
                )
                for signal in (*OTLP, "profiles")
            ),
            stat("Waiting", "Requests in Alloy's queues on disk: what a store that is away will get later.", scraped(f"sum({n.COLLECTOR_QUEUE_SIZE})"), unit="none", decimals=0, thresholds=style.steps((None, style.GOOD), (20, style.WARN), (200, style.BAD))),
            stat("Parts up", "Share of all scraped parts that answer.", scraped(f"avg({n.UP})"), unit="percentunit", decimals=0, thresholds=style.steps((None, style.BAD), (1, style.GOOD)), sparkline=False),
            row("The same items, hop by hop"),
            *(
                graph(
                    f"{signal.capitalize()}",
                    {
                        "logs": "Records per second.",
                        "metrics": "Points per second at the first three hops. Mimir counts samples, one for each bucket of a histogram, and what Alloy scrapes besides: its line lies higher.",
                        "traces": "Spans per second. Alloy adds a tenth of its own.",
                        "profiles": "Profiles per second. They are not queued: Alloy retries within the push. Pyroscope counts every sample type of a profile.",
                    }[signal],
                    *by_hop(signal),
                    unit="cps", fill=0, colors=HOPS,
                )
                for signal in (*OTLP, "profiles")
            ),
            row("What Alloy scrapes"),
            graph("Remote write", "Samples per second that Alloy scraped of stores, exporters and itself, and those that it sent to Mimir. It keeps them in a log on disk: after an outage the second line catches up.", scraped(by_alloy(n.REMOTE_SCRAPED), "{{instance}} scraped"), scraped(by_alloy(n.REMOTE_SENT), "{{instance}} sent"), unit="cps", fill=0, width=style.THIRD),
            graph("Samples that wait", "Read from the log and not sent yet.", scraped(f"sum by (instance) ({selector(n.REMOTE_PENDING, n.REMOTE_WRITE)})", "{{instance}}"), unit="none", decimals=0, width=style.THIRD),
            graph("Shards", "Senders at work side by side, and how many the load asks for: above those at work, Mimir takes samples too slowly.", scraped(f"sum by (instance) ({selector(n.REMOTE_SHARDS, n.REMOTE_WRITE)})", "{{instance}} at work"), scraped(f"sum by (instance) ({selector(n.REMOTE_SHARDS_WANTED, n.REMOTE_WRITE)})", "{{instance}} wanted"), unit="none", decimals=1, width=style.THIRD),
            row("Waiting"),
            graph("Alloy's queues", "Requests waiting on disk, by exporter. They grow while a store is away and drain when it is back.", scraped(f"sum by (data_type) ({n.COLLECTOR_QUEUE_SIZE})", "{{data_type}}"), unit="none", decimals=0, colors=style.SIGNALS),
            graph("The service's queues", "Spans and records that wait in the batch processors. Full at 2,048: then new ones are dropped.", *(prom(f"sum({n.SDK_QUEUE[signal]})", signal) for signal in n.SDK_QUEUE), unit="none", decimals=0, colors=style.SIGNALS),
            row("Lost"),
            *(
                graph(
                    f"{signal.capitalize()} lost",
                    "Items per second by place and reason.",
                    *(scraped(query, where) for where, query in lost(signal)),
                    unit="cps", width=6, stacked=True,
                )
                for signal in (*OTLP, "profiles")
            ),
            row("The parts"),
            states("Who answers", "Green while Alloy's scrape of the part succeeds.", scraped(f"min by (job, instance) ({n.UP})", "{{job}} {{instance}}"), mappings=UP_WORDS, height=10),
            graph("Object store, requests", "Per second, by what is asked for.", scraped(f"sum by (api) (rate({n.S3_REQUESTS}[{WINDOW}]))", "{{api}}"), unit="reqps", width=6, height=10, stacked=True),
            graph("Balancers, connections", "Open client connections of the push and the query balancer.", scraped(f'sum by (instance) ({n.NGINX_CONNECTIONS}{{state="active"}})', "{{instance}}"), unit="none", decimals=0, width=6, height=10),
        ],
    )
