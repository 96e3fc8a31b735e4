"""k8s/: valid, as restricted as it says, in agreement with the service's own settings and limits; no cluster needed."""

import ipaddress
import re

import pytest

from tests.ops.files import ROOT, Document, document, documents, manifest, manifests, program, said
from ytmp3.config import load
from ytmp3.http.body import MAX_BODY_BYTES
from ytmp3.http.routes import ROUTES
from ytmp3.variables import VARIABLES

FOLDER = ROOT / "k8s"
API = manifest("Deployment", "ytmp3-api")
REDIS = manifest("StatefulSet", "ytmp3-redis")
WORKLOADS = {"api": API, "redis": REDIS}
POLICIES = [one for one in manifests() if one["kind"] == "NetworkPolicy"]
SETTINGS: dict[str, str] = manifest("ConfigMap", "ytmp3")["data"]
END_SECONDS = 12
"""What ending the tools and the last answers may take after the drain."""


def pod(workload: Document) -> Document:
    spec: Document = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Document) -> Document:
    (only,) = pod(workload)["containers"]
    assert isinstance(only, dict)
    return only


def labels(workload: Document) -> Document:
    found: Document = workload["spec"]["template"]["metadata"]["labels"]
    return found


def test_every_object_follows_the_schema() -> None:
    paths = [str(path) for path in sorted(FOLDER.glob("*.yaml")) + sorted((FOLDER / "examples").glob("*.yaml"))]
    code, answer = said(program("kubernetes-validate"), "--strict", *paths)
    assert code == 0, answer
    assert answer.count("passed") == len([one for path in paths for one in documents(ROOT / path)])


def test_apply_f_reads_nothing_but_objects_and_the_namespace_first() -> None:
    """`kubectl apply -f` takes every .yaml of the folder, by name, and stumbles over what is no object of a cluster."""
    first, *rest = manifests()
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "ytmp3")
    assert all(one["metadata"]["namespace"] == "ytmp3" for one in rest)
    assert not {"Kustomization", "ServiceMonitor", "Secret"} & {one["kind"] for one in rest}
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests()]
    assert len(names) == len(set(names))


def test_apply_k_reads_the_same_files() -> None:
    assert sorted(document(FOLDER / "Kustomization")["resources"]) == sorted(
        path.name for path in FOLDER.glob("*.yaml")
    )


def test_the_component_for_one_node_patches_what_is_there() -> None:
    for patch in document(FOLDER / "optional/one-node/Kustomization")["patches"]:
        target = manifest(patch["target"]["kind"], patch["target"]["name"])
        for operation in document_of(patch["patch"]):
            assert operation["op"] == "replace"
            place: object = target
            for step in operation["path"].strip("/").split("/"):
                assert isinstance(place, dict)
                assert step in place, operation["path"]
                place = place[step]


def document_of(text: str) -> list[Document]:
    import yaml

    operations: list[Document] = yaml.safe_load(text)
    return operations


def test_the_namespace_enforces_the_restricted_standard() -> None:
    found = manifest("Namespace", "ytmp3")["metadata"]["labels"]
    assert {found[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_pods_keep_the_restricted_standard_and_more(name: str) -> None:
    spec, one = pod(WORKLOADS[name]), container(WORKLOADS[name])
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not [port for port in one["ports"] if "hostPort" in port]
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert (
        {"cpu", "memory", "ephemeral-storage"} == set(one["resources"]["limits"]) == set(one["resources"]["requests"])
    )
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", one["image"])


def test_the_user_is_the_images() -> None:
    context = pod(API)["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (10001, 10001, 10001)


def test_selectors_meet_their_pods() -> None:
    for workload in WORKLOADS.values():
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels(workload).items()
        name = workload["metadata"]["name"]
        service = manifest("Service", name)
        assert service["spec"]["selector"].items() <= labels(workload).items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {
            p["name"] for p in container(workload)["ports"]
        }
    for spread in pod(API)["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels(API).items()
    assert (
        manifest("PodDisruptionBudget", "ytmp3-api")["spec"]["selector"]["matchLabels"].items() <= labels(API).items()
    )


def test_the_number_of_instances_is_left_to_whoever_scales() -> None:
    assert "replicas" not in API["spec"]
    scaler = manifest("HorizontalPodAutoscaler", "ytmp3-api")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "ytmp3-api"}
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]


def test_probes_ask_the_routes_that_mean_it() -> None:
    one = container(API)
    asked = {kind: one[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health"}
    assert set(asked.values()) <= {route.path for route in ROUTES}


def test_there_is_time_to_drain() -> None:
    (_, sleep) = container(API)["lifecycle"]["preStop"]["exec"]["command"]
    needed = int(sleep) + int(SETTINGS["DRAIN_SECONDS"]) + END_SECONDS
    assert pod(API)["terminationGracePeriodSeconds"] >= needed


def test_the_service_takes_the_settings_and_knows_every_name() -> None:
    secrets = {variable["name"] for variable in container(API)["env"]}
    assert set(SETTINGS) | secrets <= {variable.name for variable in VARIABLES}
    config = load(SETTINGS)
    service = manifest("Service", "ytmp3-redis")
    assert config.redis is not None
    assert config.redis.address == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    cores = int(container(API)["resources"]["limits"]["cpu"])
    assert config.tools.encode_concurrency == cores, "the service counts the node's cores"
    assert config.engine.client_max_jobs < config.engine.queue_capacity, "one client alone does not fill the queue"


def test_all_instances_share_the_volume_and_redis_has_its_own() -> None:
    assert manifest("PersistentVolumeClaim", "ytmp3-data")["spec"]["accessModes"] == ["ReadWriteMany"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(API)["volumeMounts"]}
    assert mounts == {"data": "/data", "tmp": "/tmp", "files": "/files"}
    assert REDIS["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"


def test_redis_keeps_what_it_is_given() -> None:
    lines = manifest("ConfigMap", "ytmp3-redis")["data"]["redis.conf"].splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert settings["maxmemory-policy"] == "noeviction"
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
    assert settings["maxmemory"] == "512mb"


def test_the_ingress_shows_what_is_for_clients_and_nothing_else() -> None:
    (rule,) = manifest("Ingress", "ytmp3")["spec"]["rules"]
    paths = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]

    def is_shown(route: str) -> bool:
        return any(route == path or (kind == "Prefix" and route.startswith(path + "/")) for path, kind in paths)

    for route in ROUTES:
        assert is_shown(route.path) is (route.path not in {"/metrics", "/stats"}), route.path


def test_whoever_stands_in_front_lets_pass_as_large_a_body_as_the_service_takes() -> None:
    annotations = manifest("Ingress", "ytmp3")["metadata"]["annotations"]
    (of_nginx,) = re.findall(r"client_max_body_size (\w+);", (ROOT / "nginx" / "nginx.conf").read_text())
    names = ("nginx.ingress.kubernetes.io/proxy-body-size", "nginx.org/client-max-body-size")
    assert {of_nginx, *(annotations[name] for name in names)} == {f"{MAX_BODY_BYTES // 1024}k"}


def _meets(selector: Document | None, of: Document) -> bool:
    return selector is None or (selector.get("matchLabels") or {}).items() <= of.items()


def _policies(of: Document, direction: str) -> list[Document]:
    return [
        policy["spec"]
        for policy in POLICIES
        if direction in policy["spec"]["policyTypes"] and _meets(policy["spec"]["podSelector"], of)
    ]


def may_reach(address: str, port: int) -> bool:
    """Whether the policies let an instance connect to an address outside."""
    target = ipaddress.ip_address(address)
    for policy in _policies(labels(API), "Egress"):
        for rule in policy.get("egress", []):
            for peer in rule["to"]:
                block = peer.get("ipBlock")
                if block is None or port not in {one["port"] for one in rule["ports"]}:
                    continue
                outside = any(target in ipaddress.ip_network(part) for part in block["except"])
                if target in ipaddress.ip_network(block["cidr"]) and not outside:
                    return True
    return False


@pytest.mark.parametrize("address", ["142.250.74.110", "208.65.153.238", "2a00:1450:4009:820::200e"])
def test_youtube_is_reached(address: str) -> None:
    assert may_reach(address, 443)
    assert not may_reach(address, 80)
    assert not may_reach(address, 6379)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "10.96.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1",
        "::1", "fd00::1", "fe80::1", "ff02::1", "fec0::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1",
        "2001::1",
    ],
)  # fmt: skip
def test_nothing_inside_is_reached(address: str) -> None:
    assert not any(may_reach(address, port) for port in (22, 53, 80, 443, 6379, 10250))


def test_nothing_is_allowed_that_is_not_named() -> None:
    anybody: Document = {}
    assert [sorted(policy) for policy in _policies(anybody, "Ingress")] == [["podSelector", "policyTypes"]]
    assert [sorted(policy) for policy in _policies(anybody, "Egress")] == [["podSelector", "policyTypes"]]


def test_redis_hears_the_api_alone_and_calls_nobody() -> None:
    rules = [rule for policy in _policies(labels(REDIS), "Ingress") for rule in policy.get("ingress", [])]
    assert rules == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ytmp3-api"}}}],
            "ports": [{"protocol": "TCP", "port": 6379}],
        }
    ]
    assert not [rule for policy in _policies(labels(REDIS), "Egress") for rule in policy.get("egress", [])]


def test_the_api_hears_the_ingress_and_the_scraper_alone() -> None:
    rules = [rule for policy in _policies(labels(API), "Ingress") for rule in policy.get("ingress", [])]
    (rule,) = rules
    names = {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule["from"]}
    assert names == {"ingress-nginx", "monitoring"}
    assert [port["port"] for port in rule["ports"]] == [container(API)["ports"][0]["containerPort"]]


def test_name_resolution_goes_to_the_clusters_resolver_alone() -> None:
    rules = [rule for policy in _policies(labels(API), "Egress") for rule in policy.get("egress", [])]
    (resolver,) = [rule for rule in rules if {port["port"] for port in rule["ports"]} == {53}]
    assert [set(peer) for peer in resolver["to"]] == [{"namespaceSelector", "podSelector"}]


def test_the_service_monitor_finds_the_service_under_the_name_of_the_rules() -> None:
    monitor = document(FOLDER / "optional/servicemonitor.yaml")
    service = manifest("Service", "ytmp3-api")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "ytmp3"}]
