"""The dashboards in the order in which they lead to one another."""

from . import database, infrastructure, k6, load_test, logs_traces, overview, pipeline, profiles, push_and_pull, runtime, slo, traces

ALL = {
    "overview": overview,
    "logs-traces": logs_traces,
    "traces": traces,
    "profiles": profiles,
    "runtime": runtime,
    "infrastructure": infrastructure,
    "database": database,
    "pipeline": pipeline,
    "load-test": load_test,
    "slo": slo,
}

#: Those of the systems in systems/, each shown only with its system.
SYSTEMS = {"k6": k6, "prometheus": push_and_pull}
