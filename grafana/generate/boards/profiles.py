"""Profiles: which code burns the CPU and which holds the memory?"""

from .. import names as n, style
from ..board import board, choice
from ..panels import PYROSCOPE, flame, graph, profile, prom, read_me, row, stat
from ..promql import rate, selector

LABELS = f'{{{n.SERVICE}="$service"}}'
SERVICE = f'{n.SERVICE}="$service"'


def dashboard():
    question = "Which code burns the CPU, and which holds the memory?"
    return board(
        "profiles",
        "Signalbox · Profiles",
        f"{question} Continuous profiles of the chosen service, sampled all the time.",
        variables=(choice("service", "Service", (n.API, n.WORKER)),),
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
            flame("CPU", "Where processor time went within the range. Search a function's name to light it up.", profile(n.CPU_PROFILE, LABELS)),
            row("Heap"),
            flame("Heap in use", "Which call held memory when the samples were taken. `/demo/memory?hold_ms=` stands out while it holds.", profile(n.HEAP_PROFILE, LABELS), height=16),
        ],
    )
