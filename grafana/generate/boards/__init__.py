"""The dashboards in the order in which they lead to one another."""

from . import infrastructure, load_test, logs_traces, overview, pipeline, profiles, runtime, slo, traces

ALL = {
    "overview": overview,
    "logs-traces": logs_traces,
    "traces": traces,
    "profiles": profiles,
    "runtime": runtime,
    "infrastructure": infrastructure,
    "pipeline": pipeline,
    "load-test": load_test,
    "slo": slo,
}
