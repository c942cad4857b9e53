"""The balancers, once for each nginx there is."""

import balancer
import pytest
from balancer import PROGRAMS, Balancer


def name(program):
    return "nginx-" + ".".join(map(str, balancer.version(program)))


def only(able):
    """For a test of what not every nginx can."""
    return pytest.mark.parametrize("program", [program for program in PROGRAMS if able(program)], ids=name, indirect=True)


@pytest.fixture(params=PROGRAMS, ids=name)
def program(request):
    return request.param


@pytest.fixture
def push(program):
    with Balancer(program, "push") as running:
        yield running


@pytest.fixture
def query(program):
    with Balancer(program, "query") as running:
        yield running


@pytest.fixture(params=["push", "query"])
def either(program, request):
    with Balancer(program, request.param) as running:
        yield running
