"""What keeps processes from finding each other is told before JAX would end the process with a signal."""

import socket

import pytest

from amsdff_jax import UserError
from amsdff_jax.parallel.hosts import join_hosts


def test_a_port_that_is_taken():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--coordinator_address: port {port} cannot be listened on .*in use"):
            join_hosts(f"localhost:{port}", 2, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "no-such-host.invalid"])
def test_a_coordinator_that_is_not_there(host):
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
    with pytest.raises(UserError, match=rf"nothing answers at .*:{port} within 0 s .*; start process 0 there"):
        join_hosts(f"{host}:{port}", 2, 1, connection_timeout=0)


@pytest.mark.parametrize("port", ["0", "65536", "99999999999"])
@pytest.mark.parametrize("process", [0, 1])
def test_a_port_that_is_none(port, process):
    with pytest.raises(UserError, match="--coordinator_address: expected a port from 1 to 65535"):
        join_hosts(f"localhost:{port}", 2, process)
