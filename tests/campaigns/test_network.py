"""Commands open no internet socket; the ones of cases.py run under this ban in every campaign."""

import socket

import pytest

from tests.campaigns.cases import CASES, Bench, forbid_network
from tests.helpers.processes import Fork


def try_sockets():
    forbid_network()
    for call in (
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.create_connection(("127.0.0.1", 1)),
        lambda: socket.create_server(("127.0.0.1", 0)),
    ):
        with pytest.raises(AssertionError):
            call()
    socket.gethostname()  # TensorBoard names its files so
    print("all were refused")  # noqa: T201


def test_the_ban_is_one():
    code, text = Fork(try_sockets).end()
    assert (code, text) == (0, "all were refused\n")


@pytest.mark.parametrize("name", ["evaluate images"])
def test_a_command_runs_without_network(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    code, text = Bench(case, tmp_path).finish()
    assert code == 0, text
