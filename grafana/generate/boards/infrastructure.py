"""Infrastructure: is it us, or what we stand on? The machine, the database (PostgreSQL, MySQL), Redis."""

from .. import names as n, style
from ..board import board, query_variable
from ..panels import UP_WORDS, graph, prom, read_me, row, scraped, stat, states
from ..promql import quantile

WINDOW = "$__rate_interval"
DATABASE = 'instance=~"$database"'
CACHE = 'instance=~"$cache"'


def database(metric: str) -> str:
    return f"{metric}{{{DATABASE}}}"


def cache(metric: str) -> str:
    return f"{metric}{{{CACHE}}}"


def per_second(series: str, group: str) -> str:
    return f"sum by ({group}) (rate({series}[{WINDOW}]))"


CPU_BUSY = f'1 - avg(rate({n.NODE_CPU}{{mode="idle"}}[{WINDOW}]))'
MEMORY_USED = f"1 - {n.NODE_MEMORY_FREE} / {n.NODE_MEMORY}"
PG_HIT_SHARE = f"{per_second(database(n.PG_HIT), 'instance')} / ({per_second(database(n.PG_HIT), 'instance')} + {per_second(database(n.PG_READ), 'instance')})"
MYSQL_HIT_SHARE = f"1 - {per_second(database(n.MYSQL_READ), 'instance')} / {per_second(database(n.MYSQL_ASKED), 'instance')}"
POOL = f'sum({n.POOL_COUNT}{{{n.POOL_STATE}="used"}}) / sum({n.POOL_MAX})'


def dashboard():
    question = "Is it us, or what we stand on?"
    return board(
        "infrastructure",
        "Signalbox · Infrastructure",
        f"{question} The machine, the database and Redis: from within, and as the service feels them.",
        variables=(
            query_variable("database", "Database", f"label_values({n.DATABASE_UP}, instance)"),
            query_variable("cache", "Cache instance", f"label_values({n.REDIS_UP}, instance)"),
        ),
        next_board=("database", "Database"),
        content=[
            read_me(
                question,
                "Compare the two views of each dependency: its own counters, and the time the service waits for it. Slow for us but idle there means the way between, or our pool.",
                "what the database itself says: *Database*.",
            ),
            stat("Machine CPU", "Share of all processors that is not idle.", scraped(CPU_BUSY), unit="percentunit", decimals=0, thresholds=style.SATURATION),
            stat("Machine memory", "Share in use; what the kernel could free at once does not count.", scraped(MEMORY_USED), unit="percentunit", decimals=0, thresholds=style.SATURATION),
            stat("Connections used", "Share of the service's pool of database connections that is busy.", prom(POOL), unit="percentunit", decimals=0, thresholds=style.SATURATION),
            stat("Database hits", "Share of blocks found in its memory.", scraped(f"{PG_HIT_SHARE} or {MYSQL_HIT_SHARE}", "{{instance}}"), unit="percentunit", decimals=1, thresholds=style.steps((None, style.WARN), (0.9, style.GOOD))),
            stat("Redis hits", "Share of key look-ups that found something, since Redis started.", scraped(f"sum({cache(n.REDIS_HITS)}) / (sum({cache(n.REDIS_HITS)}) + sum({cache(n.REDIS_MISSES)}))"), unit="percentunit", decimals=0, thresholds=style.plain()),
            stat("Jobs waiting", "Entries of the job stream that no worker has taken yet.", scraped(f"sum({cache(n.REDIS_GROUP_LAG)})"), unit="none", decimals=0, thresholds=style.steps((None, style.GOOD), (10, style.WARN), (100, style.BAD))),
            states("What the service reaches", "Green while the dependency answers the service's own check, which `/readyz` reports.", prom(f"min by ({n.SERVICE}, {n.DEPENDENCY}) ({n.DEPENDENCY_UP})", f"{{{{{n.SERVICE}}}}} → {{{{{n.DEPENDENCY}}}}}"), mappings=UP_WORDS, width=style.FULL, height=5),
            row("The machine"),
            graph("CPU by mode", "Processors in use. `iowait` means the disk, `steal` the neighbours.", scraped(f'sum by (mode) (rate({n.NODE_CPU}{{mode!="idle"}}[{WINDOW}]))', "{{mode}}"), unit="none", stacked=True, width=6),
            graph("Memory", "Of all processes and containers of this machine.", scraped(f"{n.NODE_MEMORY} - {n.NODE_MEMORY_FREE}", "used"), scraped(n.NODE_MEMORY, "all"), unit="bytes", width=6, colors={"used": "blue", "all": style.QUIET}),
            graph("Disk full", "Share of each file system in use; full means that stores stop accepting.", scraped(f"1 - max by (device) ({n.NODE_FS_FREE}) / max by (device) ({n.NODE_FS_SIZE})", "{{device}}"), unit="percentunit", maximum=1, width=6, limit=style.SATURATION),
            graph("Disk", "Bytes per second of all disks.", scraped(f"sum(rate({n.NODE_DISK_READ}[{WINDOW}]))", "read"), scraped(f"sum(rate({n.NODE_DISK_WRITTEN}[{WINDOW}]))", "written"), unit="Bps", width=6, colors={"read": "blue", "written": "orange"}),
            row("The database"),
            graph("Transactions", "Committed and rolled back per second, as the server counts them.", scraped(per_second(database(n.PG_COMMITS), "datname"), "{{datname}} committed"), scraped(per_second(database(n.PG_ROLLBACKS), "datname"), "{{datname}} rolled back"), scraped(f'sum by (command) (rate({n.MYSQL_COMMANDS}{{{DATABASE},command=~"commit|rollback"}}[{WINDOW}]))', "MySQL {{command}}"), unit="cps", width=style.THIRD),
            graph("Connections", "Sessions by database.", scraped(f"sum by (datname) ({database(n.PG_CONNECTIONS)})", "{{datname}}"), scraped(database(n.MYSQL_CONNECTIONS), "MySQL"), unit="none", decimals=0, width=style.THIRD),
            graph("Locks", "Locks held by mode; of MySQL, sessions that wait for a row. A wait for a lock shows here first.", scraped(f"sum by (mode) ({database(n.PG_LOCKS)}) > 0", "{{mode}}"), scraped(f"{database(n.MYSQL_ROW_WAITS)} > 0", "MySQL waits"), unit="none", decimals=0, width=style.THIRD),
            graph("Operations as the service feels them, p95", "Round trip and waiting included.", prom(quantile(0.95, n.DB, group=f"{n.DB_SYSTEM}, {n.DB_OPERATION}"), f"{{{{{n.DB_SYSTEM}}}}} {{{{{n.DB_OPERATION}}}}}", exemplars=True), unit="s"),
            graph("The service's pool", "Connections in use and idle; the line above is the most it may open.", prom(f"sum by ({n.POOL_STATE}) ({n.POOL_COUNT})", f"{{{{{n.POOL_STATE}}}}}"), prom(f"sum({n.POOL_MAX})", "max"), unit="none", decimals=0, width=6, colors={"used": "orange", "idle": "green", "max": style.QUIET}),
            graph("Waiting for a connection, p95", "Time from asking the pool to having a connection.", prom(quantile(0.95, n.POOL_WAIT), "p95", exemplars=True), unit="s", width=6, colors=style.QUANTILES),
            row("Redis"),
            graph("Commands", "Per second, the busiest five.", scraped(f"topk(5, sum by (cmd) (rate({cache(n.REDIS_COMMANDS)}[{WINDOW}])))", "{{cmd}}"), unit="cps", width=style.THIRD, stacked=True),
            graph("Memory", "Of all keys and Redis itself.", scraped(f"sum by (instance) ({cache(n.REDIS_MEMORY)})", "{{instance}}"), unit="bytes", width=style.THIRD, single="blue"),
            graph("Job stream", "Jobs that are not done yet, and those of them that nobody has taken.", scraped(f"sum by (stream) ({cache(n.REDIS_STREAM_LENGTH)})", "{{stream}} length"), scraped(f"sum by (group) ({cache(n.REDIS_GROUP_LAG)})", "{{group}} behind"), unit="none", decimals=0, width=style.THIRD),
            graph("Cache as the service feels it, p95", "By what came of it.", prom(quantile(0.95, n.CACHE, group=f"{n.CACHE_OPERATION}, {n.CACHE_RESULT}"), f"{{{{{n.CACHE_OPERATION}}}}} {{{{{n.CACHE_RESULT}}}}}", exemplars=True), unit="s"),
            graph("Jobs: waiting and working, p95", "From being handed over to being taken, and from there to done.", prom(quantile(0.95, n.QUEUE_WAIT), "waiting"), prom(quantile(0.95, n.MESSAGE_PROCESS), "working"), unit="s", colors={"waiting": "orange", "working": "blue"}),
        ],
    )
