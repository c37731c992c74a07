#!/usr/bin/env python3
"""A server of grpc.health.v1 for the tests: grpc_server.py PORT [CERTIFICATE KEY [CLIENT_CA]]

The services "" and "up" are SERVING, "down" is NOT_SERVING, "dark" is UNKNOWN, others are not
known. PORT may have "without" behind it: then there is a gRPC server without that service. It says
"ready" when it answers, and lives until it is killed.
"""

import sys
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICES = {
    "": health_pb2.HealthCheckResponse.SERVING,
    "up": health_pb2.HealthCheckResponse.SERVING,
    "a.b.Deep/service": health_pb2.HealthCheckResponse.SERVING,
    "down": health_pb2.HealthCheckResponse.NOT_SERVING,
    "dark": health_pb2.HealthCheckResponse.UNKNOWN,
}


def credentials(certificate, key, client_ca=None):
    """TLS, with client certificates of this authority asked for if there is one."""
    pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
    if client_ca is None:
        return grpc.ssl_server_credentials([pair])
    return grpc.ssl_server_credentials([pair], Path(client_ca).read_bytes(), True)


def main():
    port, *tls = sys.argv[1:]
    with_health = not port.endswith("without")
    address = "127.0.0.1:" + port.removesuffix("without")
    # Without SO_REUSEPORT a port that somebody has is an error.
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    if with_health:
        servicer = health.HealthServicer()
        for name, status in SERVICES.items():
            servicer.set(name, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if tls:
        server.add_secure_port(address, credentials(*tls))
    else:
        server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


main()
