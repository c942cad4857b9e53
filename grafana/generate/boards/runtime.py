"""Rust runtime: is the process itself at ease? Threads, tasks, memory, as the runtime and the allocator see them."""

from .. import names as n, style
from ..board import board, service_variable
from ..panels import graph, prom, read_me, row, stat
from ..promql import rate, selector

SERVICE = f'{n.SERVICE}=~"$service"'
BY_SERVICE = f"{{{{{n.SERVICE}}}}}"


def total(metric: str) -> str:
    return f"sum by ({n.SERVICE}) ({selector(metric, SERVICE)})"


BUSY = f"{rate(selector(n.TOKIO_BUSY, SERVICE), n.SERVICE)} / {total(n.TOKIO_WORKERS)}"


def dashboard():
    question = "Is the process itself at ease?"
    return board(
        "runtime",
        "Signalbox · Rust runtime",
        f"{question} The process, tokio's workers and jemalloc, as they count themselves.",
        variables=(service_variable(),),
        next_board=("infrastructure", "Infrastructure"),
        content=[
            read_me(
                question,
                "Workers near 100 % busy, or tasks that queue while CPU is idle, mean that something blocks the async threads. Memory is healthy when *allocated* falls back after load; *resident* follows later.",
                "what the process leans on: *Infrastructure*.",
            ),
            stat("CPU", "Cores in use.", prom(rate(selector(n.CPU_TIME, SERVICE), n.SERVICE), BY_SERVICE), unit="none", decimals=2, thresholds=style.plain(style.PROFILES)),
            stat("Resident memory", "Physical memory of the process.", prom(total(n.MEMORY), BY_SERVICE), unit="bytes", thresholds=style.plain(style.PROFILES)),
            stat("Workers busy", "Share of the time that tokio's worker threads ran tasks.", prom(BUSY, BY_SERVICE), unit="percentunit", decimals=1, thresholds=style.SATURATION),
            stat("Tasks", "Tasks spawned and not finished.", prom(total(n.TOKIO_TASKS), BY_SERVICE), unit="none", decimals=0, thresholds=style.plain()),
            stat("Open files", "File descriptors, sockets among them.", prom(total(n.DESCRIPTORS), BY_SERVICE), unit="none", decimals=0, thresholds=style.plain()),
            stat("Up for", "Since the process started.", prom(f"min by ({n.SERVICE}) ({selector(n.UPTIME, SERVICE)})", BY_SERVICE), unit="s", thresholds=style.plain(style.GOOD), sparkline=False),
            row("Process"),
            graph("CPU by mode", "Cores in use: `user` is our code, `system` the kernel working for us.", prom(rate(selector(n.CPU_TIME, SERVICE), f"{n.SERVICE}, {n.CPU_MODE}"), f"{BY_SERVICE} {{{{{n.CPU_MODE}}}}}"), unit="none", stacked=True),
            graph("Threads", "Runtime workers, blocking pool, exporters, profilers.", prom(total(n.THREADS), BY_SERVICE), unit="none", decimals=0, width=6),
            graph("Page faults", "`minor`: memory touched for the first time. `major`: had to be read from disk.", prom(rate(selector(n.FAULTS, SERVICE), n.FAULT_TYPE), f"{{{{{n.FAULT_TYPE}}}}}"), unit="cps", width=6),
            row("tokio"),
            graph("Workers busy", "Share of the time spent running tasks; the rest is sleep.", prom(BUSY, BY_SERVICE), unit="percentunit", maximum=1, limit=style.SATURATION, width=style.THIRD),
            graph("Tasks", "Alive, and waiting in the global queue: the second should stay at nought.", prom(total(n.TOKIO_TASKS), f"{BY_SERVICE} alive"), prom(total(n.TOKIO_QUEUE), f"{BY_SERVICE} waiting"), unit="none", decimals=0, width=style.THIRD),
            graph("Parks", "Times per second that a worker found nothing to do and went to sleep.", prom(rate(selector(n.TOKIO_PARKED, SERVICE), n.SERVICE), BY_SERVICE), unit="cps", width=style.THIRD),
            row("Memory"),
            graph(
                "jemalloc",
                "`allocated` is what the program asked for, `active` the pages behind it, `resident` what the machine gave. The gap between first and last is fragmentation and reserve.",
                *(prom(f"sum({selector(n.JEMALLOC[kind], SERVICE)})", kind) for kind in ("allocated", "active", "resident")),
                unit="bytes",
                colors={"allocated": style.PROFILES, "active": "blue", "resident": style.QUIET},
            ),
            graph("Resident memory", "What the kernel counts, and what the memory lesson holds at this moment.", prom(total(n.MEMORY), BY_SERVICE), prom(f"sum({selector(n.MEMORY_HELD, SERVICE)})", "held by /demo/memory"), unit="bytes"),
        ],
    )
