"""nginx starts with the name servers of its container, which Docker, Podman and Kubernetes set differently."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.ops.files import ROOT, compose
from tests.stand.nginx import kubernetes_file, nginx_binary
from ytmp3.http.connections import Timeouts

DOCKER, PODMAN = "nameserver 127.0.0.11\noptions ndots:0\n", "search dns.podman\nnameserver 10.89.0.1\n"


def start(folder: Path, resolv_conf: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run start.sh with this resolv.conf; it writes resolver.conf into `folder`."""
    (folder / "resolv.conf").write_text(resolv_conf)
    script = ["/bin/sh", str(ROOT / "nginx/start.sh"), str(folder / "resolv.conf"), str(folder / "resolver.conf")]
    return subprocess.run([*script, *command], capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize(
    ("resolv_conf", "servers"),
    [
        (DOCKER, "127.0.0.11"),
        (PODMAN, "10.89.0.1"),
        ("# nameserver 192.0.2.9\nnameserver fd00::1\nnameserver fe80::1%eth0\n", "[fd00::1] [fe80::1]"),
    ],
)
def test_the_name_servers_of_the_container_are_given_to_nginx(tmp_path: Path, resolv_conf: str, servers: str) -> None:
    started = start(tmp_path, resolv_conf, "echo", "daemon off;")
    assert (started.returncode, started.stdout) == (0, "daemon off;\n"), started.stderr
    assert (tmp_path / "resolver.conf").read_text() == f"resolver {servers} valid=5s ipv6=off;\n"


def test_a_container_without_a_name_server_is_refused(tmp_path: Path) -> None:
    started = start(tmp_path, "search example.org\n", "echo", "started")
    assert (started.returncode, started.stdout) == (1, "")
    assert "names no name server" in started.stderr


@pytest.mark.parametrize("resolv_conf", [DOCKER, PODMAN])
def test_nginx_accepts_the_upstream_of_compose_with_these_name_servers(tmp_path: Path, resolv_conf: str) -> None:
    upstream = (ROOT / "nginx/upstream.conf").read_text().replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{upstream}}}\n")
    nginx = (
        str(nginx_binary()),
        "-p",
        str(tmp_path),
        "-c",
        str(tmp_path / "nginx.conf"),
        "-e",
        f"{tmp_path}/log",
        "-t",
    )
    tested = start(tmp_path, resolv_conf, *nginx)
    assert tested.returncode == 0, tested.stderr


KUBERNETES = "search ytmp3.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"


def start_in_kubernetes(folder: Path, resolv_conf: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the start.sh of k8s/listen.yaml with this resolv.conf; it writes two files into `folder`."""
    (folder / "resolv.conf").write_text(resolv_conf)
    (folder / "start.sh").write_text(kubernetes_file("start.sh"))
    script = ["/bin/sh", str(folder / "start.sh"), str(folder / "resolv.conf"), str(folder)]
    return subprocess.run([*script, *command], capture_output=True, text=True, check=False, timeout=600)


def test_in_kubernetes_nginx_resolves_the_instances_in_the_domain_of_its_pod(tmp_path: Path) -> None:
    text = kubernetes_file("nginx.conf").replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(text)
    nginx = (str(nginx_binary()), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", f"{tmp_path}/log")
    tested = start_in_kubernetes(tmp_path, KUBERNETES, *nginx, "-t")
    assert tested.returncode == 0, tested.stderr
    assert (tmp_path / "resolver.conf").read_text() == "resolver 10.96.0.10 valid=5s ipv6=off;\n"
    assert (tmp_path / "instances.conf").read_text() == (
        "server ytmp3-instances.ytmp3.svc.cluster.local:8080 resolve max_fails=0;\n"
    )


@pytest.mark.parametrize("resolv_conf", ["nameserver 10.96.0.10\n", "search ytmp3.svc.cluster.local\n"])
def test_in_kubernetes_a_pod_without_the_names_of_the_cluster_is_refused(tmp_path: Path, resolv_conf: str) -> None:
    started = start_in_kubernetes(tmp_path, resolv_conf, "echo", "started")
    assert (started.returncode, started.stdout) == (1, "")
    assert started.stderr == "start.sh: resolv.conf names no name server or no search domain\n"


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_nginx_closes_idle_connections_before_an_instance_does(where: str) -> None:
    text = kubernetes_file("nginx.conf") if where == "kubernetes" else (ROOT / "nginx/upstream.conf").read_text()
    (upstream,) = re.findall(r"upstream ytmp3 \{.*?\}", text, re.DOTALL)
    (seconds,) = re.findall(r"^ *keepalive_timeout (\d+)s;", upstream, re.MULTILINE)
    assert int(seconds) < Timeouts().keepalive_seconds


def test_every_folder_of_this_machine_that_is_mounted_can_be_read_where_selinux_is_on() -> None:
    mounts = [mount for service in compose()["services"].values() for mount in service.get("volumes", ())]
    folders = [mount for mount in mounts if isinstance(mount, str) and re.match(r"[./]", mount)]
    assert len(folders) > 8
    # Docker's own log files are read by a container without a label.
    assert {mount.split(":")[0] for mount in folders if not mount.endswith(":ro,z")} == {"/var/lib/docker/containers"}
