"""k8s/: the manifests are valid and restricted, and agree with the settings of the service. No cluster is needed."""

import ipaddress
import re
from typing import Any

import pytest
import yaml

from tests.ops.files import ROOT, Document, checked, document, documents, manifest, manifests, program
from ytmp3.config import load
from ytmp3.http.body import MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES
from ytmp3.http.page.handlers import MAX_FORM_BYTES
from ytmp3.http.routes import ROUTES
from ytmp3.variables import VARIABLES

FOLDER = ROOT / "k8s"
API = manifest("Deployment", "ytmp3-api")
REDIS = manifest("StatefulSet", "ytmp3-redis")
LISTEN = manifest("Deployment", "ytmp3-listen")
WORKLOADS = {"api": API, "redis": REDIS, "listen": LISTEN}
POLICIES = [one for one in manifests() if one["kind"] == "NetworkPolicy"]
SETTINGS: dict[str, str] = manifest("ConfigMap", "ytmp3")["data"]
END_SECONDS = 12
"""How long ending the child processes and the last answers may take after the drain."""


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
    code, answer = checked(program("kubernetes-validate"), "--strict", *paths)
    assert code == 0, answer
    assert answer.count("passed") == len([one for path in paths for one in documents(ROOT / path)])


def test_kubectl_apply_f_creates_the_namespace_first_and_reads_only_objects() -> None:
    """`kubectl apply -f` reads every .yaml file of the folder in the order of names, and fails on other documents."""
    first, *rest = manifests()
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "ytmp3")
    assert all(one["metadata"]["namespace"] == "ytmp3" for one in rest)
    assert not {"Kustomization", "ServiceMonitor", "Secret"} & {one["kind"] for one in rest}
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests()]
    assert len(names) == len(set(names))


def test_kubectl_apply_k_reads_the_same_files() -> None:
    assert sorted(document(FOLDER / "Kustomization")["resources"]) == sorted(
        path.name for path in FOLDER.glob("*.yaml")
    )


def test_the_one_node_component_patches_fields_that_exist() -> None:
    check_patches("one-node")


def test_with_a_bucket_no_instance_has_the_shared_volume() -> None:
    check_patches("s3")
    volume, *others = pod(API)["volumes"]
    assert volume == {"name": "data", "persistentVolumeClaim": {"claimName": "ytmp3-data"}}
    assert not [other for other in others if "persistentVolumeClaim" in other]
    bucket = {"STORAGE_URL": "s3://tracks", "S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "secret"}
    assert load(SETTINGS | bucket).s3 is not None
    assert set(bucket) - {"STORAGE_URL"} <= {variable["name"] for variable in container(API)["env"]}


def check_patches(component: str) -> None:
    """Check that each patch of a component changes a field that exists, or deletes a whole object."""
    for patch in document(FOLDER / f"optional/{component}/Kustomization")["patches"]:
        target = manifest(patch["target"]["kind"], patch["target"]["name"])
        operations = yaml.safe_load(patch["patch"])
        if isinstance(operations, dict):
            assert operations.pop("$patch") == "delete"
            assert all(target[name] == operations[name] for name in ("apiVersion", "kind"))
            assert operations["metadata"].items() <= target["metadata"].items()
            continue
        for operation in operations_of(patch["patch"]):
            assert operation["op"] == "replace"
            place: object = target
            for step in operation["path"].strip("/").split("/"):
                if isinstance(place, list):
                    place = place[int(step)]
                    continue
                assert isinstance(place, dict)
                assert step in place, operation["path"]
                place = place[step]


def operations_of(text: str) -> list[Document]:
    """Return the operations of a JSON patch that a Kustomization holds as text."""
    operations: list[Document] = yaml.safe_load(text)
    return operations


def test_the_namespace_enforces_the_restricted_standard() -> None:
    found = manifest("Namespace", "ytmp3")["metadata"]["labels"]
    assert {found[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_meets_the_restricted_standard_and_more(name: str) -> None:
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


def test_the_pod_runs_as_the_user_of_the_image() -> None:
    context = pod(API)["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (10001, 10001, 10001)


def test_selectors_select_the_pods_they_are_for() -> None:
    for workload in WORKLOADS.values():
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels(workload).items()
        name = workload["metadata"]["name"]
        service = manifest("Service", name)
        assert service["spec"]["selector"].items() <= labels(workload).items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {
            p["name"] for p in container(workload)["ports"]
        }
    for workload in (API, LISTEN):
        budget = manifest("PodDisruptionBudget", workload["metadata"]["name"])
        for selecting in (budget["spec"]["selector"], *_spread_selectors(workload)):
            assert selecting["matchLabels"].items() <= labels(workload).items()


def _spread_selectors(workload: dict[str, Any]) -> list[dict[str, Any]]:
    return [spread["labelSelector"] for spread in pod(workload)["topologySpreadConstraints"]]


def test_the_deployment_leaves_the_number_of_instances_to_the_autoscaler() -> None:
    assert "replicas" not in API["spec"]
    scaler = manifest("HorizontalPodAutoscaler", "ytmp3-api")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "ytmp3-api"}
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]


def test_each_probe_asks_the_route_made_for_it() -> None:
    one = container(API)
    asked = {kind: one[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health"}
    assert set(asked.values()) <= {route.path for route in ROUTES}


def test_the_grace_period_is_long_enough_to_drain() -> None:
    (_, sleep) = container(API)["lifecycle"]["preStop"]["exec"]["command"]
    needed = int(sleep) + int(SETTINGS["DRAIN_SECONDS"]) + END_SECONDS
    assert pod(API)["terminationGracePeriodSeconds"] >= needed


def test_the_service_accepts_the_settings_of_the_config_map() -> None:
    secrets = {variable["name"] for variable in container(API)["env"]}
    assert set(SETTINGS) | secrets <= {variable.name for variable in VARIABLES}
    config = load(SETTINGS)
    service = manifest("Service", "ytmp3-redis")
    assert config.redis is not None
    assert config.redis.address == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    cores = int(container(API)["resources"]["limits"]["cpu"])
    assert config.tools.encode_concurrency == cores, "the default would be the number of the node's cores"
    assert config.engine.client_max_jobs < config.engine.queue_capacity, "one client alone must not fill the queue"


def test_all_instances_share_one_volume_and_redis_has_another() -> None:
    assert manifest("PersistentVolumeClaim", "ytmp3-data")["spec"]["accessModes"] == ["ReadWriteMany"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(API)["volumeMounts"]}
    assert mounts == {"data": "/data", "tmp": "/tmp", "files": "/files"}
    assert REDIS["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"


def test_redis_is_configured_not_to_lose_jobs() -> None:
    lines = manifest("ConfigMap", "ytmp3-redis")["data"]["redis.conf"].splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert settings["maxmemory-policy"] == "noeviction"
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
    assert settings["maxmemory"] == "512mb"


def test_the_ingress_shows_every_route_but_metrics_and_stats() -> None:
    (rule,) = manifest("Ingress", "ytmp3")["spec"]["rules"]
    paths = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]

    def is_shown(route: str) -> bool:
        return any(route == path or (kind == "Prefix" and route.startswith(path + "/")) for path, kind in paths)

    for route in ROUTES:
        assert is_shown(route.path) is (route.path not in {"/metrics", "/stats"}), route.path


def test_every_proxy_in_front_accepts_as_large_a_body_as_the_service() -> None:
    annotations = manifest("Ingress", "ytmp3")["metadata"]["annotations"]
    config = "".join((ROOT / "nginx" / name).read_text() for name in ("nginx.conf", "site.conf"))
    assert re.findall(r"client_max_body_size (\w+);", config) == [
        f"{MAX_BODY_BYTES // 1024}k",
        "0",  # the internal location of error documents, whose requests were checked before
        f"{MAX_BATCH_BODY_BYTES // 1024}k",
        f"{MAX_BATCH_BODY_BYTES // 1024}k",  # a batch with an idempotency key
        f"{MAX_FORM_BYTES // 1024}k",
    ]
    names = ("nginx.ingress.kubernetes.io/proxy-body-size", "nginx.org/client-max-body-size")
    assert {annotations[name] for name in names} == {f"{MAX_BATCH_BODY_BYTES // 1024}k"}


def _meets(selector: Document | None, of: Document) -> bool:
    return selector is None or (selector.get("matchLabels") or {}).items() <= of.items()


def _policies(of: Document, direction: str) -> list[Document]:
    return [
        policy["spec"]
        for policy in POLICIES
        if direction in policy["spec"]["policyTypes"] and _meets(policy["spec"]["podSelector"], of)
    ]


def may_reach(address: str, port: int) -> bool:
    """Tell whether the policies let an instance connect to an address outside the cluster."""
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
def test_an_instance_can_reach_youtube_over_https_only(address: str) -> None:
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
def test_an_instance_cannot_reach_a_private_address(address: str) -> None:
    assert not any(may_reach(address, port) for port in (22, 53, 80, 443, 6379, 10250))


def test_a_pod_without_a_policy_of_its_own_can_connect_to_nothing() -> None:
    anybody: Document = {}
    assert [sorted(policy) for policy in _policies(anybody, "Ingress")] == [["podSelector", "policyTypes"]]
    assert [sorted(policy) for policy in _policies(anybody, "Egress")] == [["podSelector", "policyTypes"]]


def test_only_the_instances_can_reach_redis_and_redis_can_reach_nothing() -> None:
    rules = [rule for policy in _policies(labels(REDIS), "Ingress") for rule in policy.get("ingress", [])]
    assert rules == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ytmp3-api"}}}],
            "ports": [{"protocol": "TCP", "port": 6379}],
        }
    ]
    assert not [rule for policy in _policies(labels(REDIS), "Egress") for rule in policy.get("egress", [])]


def test_only_the_ingress_the_nginx_for_sound_and_prometheus_can_reach_an_instance() -> None:
    rules = [rule for policy in _policies(labels(API), "Ingress") for rule in policy.get("ingress", [])]
    (rule,) = rules
    own, *others = rule["from"]
    assert own == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ytmp3-listen"}}}
    names = {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in others}
    assert names == {"ingress-nginx", "monitoring"}
    assert [port["port"] for port in rule["ports"]] == [container(API)["ports"][0]["containerPort"]]


def test_the_ingress_passes_listeners_to_an_nginx_that_can_reach_all_instances() -> None:
    (rule,) = manifest("Ingress", "ytmp3")["spec"]["rules"]
    backends = {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    assert [path for path, name in backends.items() if name != "ytmp3-api"] == ["/listen"]
    service = manifest("Service", backends["/listen"])
    assert service["spec"]["selector"].items() <= labels(LISTEN).items()
    (rule,) = [rule for policy in _policies(labels(LISTEN), "Ingress") for rule in policy.get("ingress", [])]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ingress-nginx"}
    resolver, instances = [r for policy in _policies(labels(LISTEN), "Egress") for r in policy.get("egress", [])]
    assert {port["port"] for port in resolver["ports"]} == {53}
    assert instances["to"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ytmp3-api"}}}]
    all_instances = manifest("Service", "ytmp3-instances")["spec"]
    assert all_instances["clusterIP"] == "None", "its name has the address of each instance"
    assert all_instances["selector"].items() <= labels(API).items()
    assert [port["port"] for port in instances["ports"]] == [container(API)["ports"][0]["containerPort"]]


def test_an_instance_asks_only_the_resolver_of_the_cluster() -> None:
    rules = [rule for policy in _policies(labels(API), "Egress") for rule in policy.get("egress", [])]
    (resolver,) = [rule for rule in rules if {port["port"] for port in rule["ports"]} == {53}]
    assert [set(peer) for peer in resolver["to"]] == [{"namespaceSelector", "podSelector"}]


def test_the_service_monitor_selects_the_service_and_sets_the_job_name_of_the_rules() -> None:
    monitor = document(FOLDER / "optional/servicemonitor.yaml")
    service = manifest("Service", "ytmp3-api")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "ytmp3"}]
