"""The arithmetic of docs/capacity.md; that the page is as computed is checked by `python -m generate --check`."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "kubernetes"))
from generate import capacity  # noqa: E402


def test_work_grows_in_proportion_to_the_rate():
    one, ten = capacity.plan(1_000), capacity.plan(10_000)
    for part in ("API and worker", "Alloy", "Loki", "Tempo"):
        assert ten.cores[part] == pytest.approx(10 * one.cores[part]), part
    # A thousand requests a second of 10.5 ms each.
    assert one.cores["API and worker"] == pytest.approx(capacity.SERVICE_MS.value)


def test_metrics_grow_with_pods():
    plan = capacity.plan(100_000)
    pods = plan.pods["API and worker"]
    assert plan.series == pods * capacity.SERIES_SERVICE.value + capacity.SERIES_GENERATOR.value
    assert pods * capacity.HEADROOM.value >= plan.cores["API and worker"]


def test_sampling_saves_traces_and_nothing_else():
    every, tenth = capacity.plan(10_000), capacity.plan(10_000, 0.1)
    assert tenth.kept_tb["traces"] == pytest.approx(every.kept_tb["traces"] / 10)
    assert {signal: size for signal, size in tenth.kept_tb.items() if signal != "traces"} == {
        signal: size for signal, size in every.kept_tb.items() if signal != "traces"
    }


def test_every_input_has_a_source_and_stands_on_the_page():
    page = capacity.files()[capacity.PAGE]
    inputs = [value for value in vars(capacity).values() if isinstance(value, capacity.Input)]
    assert len(inputs) > 25
    for entry in inputs:
        assert entry.kind in (capacity.MEASURED, capacity.PROJECT, capacity.SET, capacity.ASSUMED), entry.what
        assert entry.source and entry.source in page, entry.what
    assert "1,000,000/s (extrapolated)" in page
