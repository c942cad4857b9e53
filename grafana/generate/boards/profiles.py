"""Profiles: which code burns the CPU and which holds the memory?"""

from .. import names as n, style
from ..board import board, profiled_service_variable, query_variable
from ..panels import PYROSCOPE, TEMPO, explore, flame, graph, profile, prom, read_me, row, stat, trace_table
from ..promql import rate, selector

LABELS = f'{{{n.SERVICE}="$service"}}'
SERVICE = f'{n.SERVICE}="$service"'
#: Only work that a request waits for off the async threads carries its route. *All* takes the samples without one too.
OF_ROUTE = f'{{{n.SERVICE}="$service",route=~"$route"}}'
WITH_ROUTE = f'{{{n.SERVICE}="$service",route=~".+"}}'


def burnt_by(route: str) -> str:
    """Traces of requests of which a span has samples of its own. Not `>>`: that finds no trace whose caller is unknown to Tempo."""
    return f'{{ resource.service.name = "${{service}}" && span.http.route {route} }} && {{ span."pyroscope.profile.id" != nil }}'


def dashboard():
    question = "Which code burns the CPU, and which holds the memory?"
    return board(
        "profiles",
        "Signalbox · Profiles",
        f"{question} Continuous profiles of the chosen service, sampled all the time.",
        variables=(
            profiled_service_variable(n.API),
            query_variable("route", "Route", f'label_values({selector(n.HTTP_SERVER_COUNT, SERVICE)}, {n.ROUTE})', description="Whose CPU profile to show; heap samples carry no route."),
        ),
        next_board=("runtime", "Rust runtime"),
        content=[
            read_me(
                question,
                "A flame graph's width is its share of the samples, its depth the call stack; read it from the top down to the widest leaf. Drag across a peak above to profile just that moment.",
                "the runtime beneath the code: *Rust runtime*.",
            ),
            stat("CPU", "Cores in use, as the process counts them.", prom(rate(selector(n.CPU_TIME, SERVICE))), unit="none", decimals=2, thresholds=style.plain(style.PROFILES), width=6),
            stat("Resident memory", "What the process holds of the machine's memory.", prom(f"sum({selector(n.MEMORY, SERVICE)})"), unit="bytes", thresholds=style.plain(style.PROFILES), width=6),
            stat(
                "Profiles sent", "Profiles that left the service within the range; one each 10 s and kind.",
                prom(f'sum(rate({n.SDK_EXPORTED["profiles"]}{{{SERVICE},error_type=""}}[$__rate_interval])) * 60', "per minute"),
                unit="none", decimals=1, thresholds=style.plain(style.PROFILES), width=6,
            ),
            stat("Threads", "Threads of the process.", prom(f"sum({selector(n.THREADS, SERVICE)})"), unit="none", decimals=0, thresholds=style.plain(style.PROFILES), width=6),
            graph("CPU samples", "Processor time found in the profiles.", profile(n.CPU_PROFILE, LABELS, kind="metrics"), unit="ns", single=style.PROFILES, datasource=PYROSCOPE, height=6),
            graph("Heap in use", "Memory allocated and not freed yet, found in the profiles.", profile(n.HEAP_PROFILE, LABELS, kind="metrics"), unit="bytes", single=style.PROFILES, datasource=PYROSCOPE, height=6),
            row("CPU"),
            graph(
                "CPU by route", "Processor time of work that carries its route. A click on a line leads to the traces of the requests that burnt it.",
                profile(n.CPU_PROFILE, WITH_ROUTE, kind="metrics", group=("route",)),
                unit="ns", datasource=PYROSCOPE, height=8,
                links=[explore("Traces that burnt this", TEMPO, {"queryType": "traceql", "limit": 200, "query": burnt_by('= "${__field.labels.route}"')})],
            ),
            trace_table("Traces with a flame graph of their own", "Requests of which a span was sampled. The trace leads to that span's flame graph alone.", burnt_by('=~ "$route"'), height=8),
            flame("CPU", "Where processor time went within the range. Search a function's name to light it up.", profile(n.CPU_PROFILE, OF_ROUTE)),
            row("Heap"),
            flame("Heap in use", "Which call held memory when the samples were taken. `/demo/memory?hold_ms=` stands out while it holds.", profile(n.HEAP_PROFILE, LABELS), height=16),
        ],
    )
