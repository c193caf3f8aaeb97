"""The chart as helm renders it: what Kubernetes' own schemas say of it, and what must hold of whatever runs patients' data."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from support import CHART, FIRST, KUBERNETES, LEAST, MOST, ROOT, SETS, Object, helm, of, one, rendered

# Kinds of Prometheus' operator, which Kubernetes does not know.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
SELECTOR = {"app.kubernetes.io/name": "heedwell", "app.kubernetes.io/instance": "here"}


def pods(objects: list[Object]) -> list[Object]:
    return [it["spec"]["template"]["spec"] for it in objects if it["kind"] in ("Deployment", "Job")]


def containers(objects: list[Object]) -> list[Object]:
    return [it for pod in pods(objects) for it in pod["containers"] + pod.get("initContainers", [])]


def server(objects: list[Object]) -> Object:
    return one(objects, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", SETS.values(), ids=SETS.keys())
def test_helm_finds_nothing_to_say(values: Object, tmp_path: Path) -> None:
    done = helm("lint", str(CHART), "--strict", values=values, folder=tmp_path)
    assert done.returncode == 0 and "[WARNING]" not in done.stdout, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])
def test_kubernetes_knows_every_field(values: Object, version: str, tmp_path: Path) -> None:
    for it in rendered(values, tmp_path, version):
        if it["kind"] not in FOREIGN:
            kubernetes_validate.validate(it, version, strict=True)


def test_a_first_installation_fits_one_screen(tmp_path: Path) -> None:
    chapter = (ROOT / "README.md").read_text().split("\n## Kubernetes\n")[1]
    shown = re.search(r"^```yaml\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    assert shown and len(shown[1].splitlines()) < 25
    for key in LEAST:
        version = ("--kube-version", KUBERNETES[0])
        done = helm("template", "here", str(CHART), *version, values={k: v for k, v in FIRST.items() if k != key}, folder=tmp_path)
        assert done.returncode != 0 and key in done.stderr, f"{key} is not needed"



@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"publicUrl": "http://messages.example"}, "publicUrl"),
        ({"publicUrl": ""}, "publicUrl"),
        ({"database": {"secretName": ""}}, "secretName"),
        ({"database": {"secretName": "d", "url": "postgres://me:secret@db/x"}}, "url"),
        ({"masterKey": {"secretName": "k", "value": "master.1 ..."}}, "value"),
        ({"tokens": {"jwks": "http://issuer.example"}}, "jwks"),
        ({"tokens": {"jwks": "https://issuer.example", "audiences": ""}}, "audiences"),
        ({"image": {"repository": "images.example/heedwell", "tag": "latest"}}, "tag"),
        ({"image": {"repository": "images.example/heedwell", "digest": "sha256:12"}}, "digest"),
        ({"image": {"repository": "images.example/heedwell", "name": "x"}}, "name"),
        ({"tls": {"secret": "tls"}}, "secret"),
        ({"settings": {"HEEDWELL_DATABASE_URL": "postgres://me:secret@db/x"}}, "settings"),
        ({"settings": {"HEEDWELL_METRICS_ADDR": ""}}, "settings"),
        ({"settings": {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret"}}, "settings"),
        ({"settings": {"PASSWORD": "secret"}}, "settings"),
        ({"settings": {"HEEDWELL_DRAIN_SECONDS": "soon"}}, "HEEDWELL_DRAIN_SECONDS"),
        ({"extraEnv": [{"name": "TOKEN", "value": "secret"}]}, "value"),
        ({"extraEnv": [{"name": "TOKEN"}]}, "valueFrom"),
        ({"extraEnv": [{"name": "HEEDWELL_GRPC_ADDR", "valueFrom": {}}]}, "extraEnv"),
        ({"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "extraVolumes"),
        ({"networkPolicy": {"database": []}}, "database"),
        ({"networkPolicy": {"egress": [{}]}}, "egress"),
        ({"networkPolicy": {"on": True}}, "on"),
        ({"monitoring": {"namespace": ""}}, "namespace"),
        ({"monitoring": {"enable": True}}, "enable"),
        ({"autoscaling": {"min": 3}}, "min"),
        ({"replicas": 0}, "replicas"),
        ({"runAs": 0}, "runAs"),
        ({"replica": 3}, "replica"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_installed(change: Object, said: str, tmp_path: Path) -> None:
    version = ("--kube-version", KUBERNETES[0])
    done = helm("template", "here", str(CHART), *version, values=LEAST | change, folder=tmp_path)
    assert done.returncode != 0 and "values don't meet" in done.stderr and said in done.stderr, done.stderr


def test_nobody_is_root_and_nothing_can_be_written(objects: list[Object]) -> None:
    for pod in pods(objects):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] > 0 and security["runAsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            assert key not in pod
        assert all("hostPath" not in volume for volume in pod["volumes"])
    for container in containers(objects):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
        assert security["privileged"] is False and security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
        assert re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)$", container["image"]), container["image"]


def test_no_pod_can_ask_kubernetes_for_anything(objects: list[Object]) -> None:
    for pod in pods(objects):
        assert pod["automountServiceAccountToken"] is False
        assert not any("serviceAccountToken" in source for it in pod["volumes"] for source in it.get("projected", {}).get("sources", []))
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    assert not {it["kind"] for it in objects} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_secrets_are_named_and_never_written(objects: list[Object]) -> None:
    assert not of(objects, "Secret")
    assert {it["metadata"]["name"] for it in of(objects, "ConfigMap")} <= {"here-dashboard"}
    for container in containers(objects):
        env = {it["name"]: it for it in container["env"]}
        assert set(env["HEEDWELL_DATABASE_URL"]["valueFrom"]["secretKeyRef"]) == {"name", "key"}
        assert "value" not in env["HEEDWELL_DATABASE_URL"]
    for pod in pods(objects):
        for volume in pod["volumes"]:
            if "secret" in volume:
                # Root's, for the group of the process: what the server asks of a file of keys.
                assert volume["secret"]["defaultMode"] == 0o440
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_each_setting_is_one_that_the_readme_knows(objects: list[Object]) -> None:
    table = re.findall(r"^\| (`HEEDWELL_[^|]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    known = set(re.findall(r"`(\w+)`", " ".join(table)))
    for container in containers(objects):
        names = [it["name"] for it in container["env"]]
        assert len(names) == len(set(names)), "each once"
        assert {it for it in names if it.startswith("HEEDWELL_")} <= known


def test_the_server_has_time_to_end(objects: list[Object]) -> None:
    pod = server(objects)
    container = pod["containers"][0]
    drain = int(next(it["value"] for it in container["env"] if it["name"] == "HEEDWELL_DRAIN_SECONDS"))
    before = container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})["sleep"]["seconds"]
    limit = re.search(r"STOP_LIMIT: Duration = Duration::from_secs\((\d+)\)", (ROOT / "src/app.rs").read_text())
    assert limit, "the server's own limit is not where it was"
    assert pod["terminationGracePeriodSeconds"] >= before + drain + int(limit[1]) + 5


def test_each_probe_asks_what_the_server_answers(name: str, objects: list[Object]) -> None:
    container = server(objects)["containers"][0]
    ports = {it["name"]: it["containerPort"] for it in container["ports"]}
    routes = set(re.findall(r'\.route\("(/\w+)", get', (ROOT / "src/http.rs").read_text()))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe].get("httpGet")
        assert not asked or (asked["path"] in routes and ports[asked["port"]] == 8080), probe
    # Whoever is dead to a database that is away would be killed for it.
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/healthz"
    ready = container["readinessProbe"]
    assert ready["httpGet"]["path"] == "/readyz" if "tls" in SETS[name] else ready["grpc"] == {"port": ports["grpc"]}


def test_replicas_are_spread_and_replaced_one_by_one(objects: list[Object]) -> None:
    deployment = one(objects, "Deployment")
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert deployment["spec"]["strategy"] == strategy
    spread = server(objects)["topologySpreadConstraints"]
    assert [it["topologyKey"] for it in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for it in spread:
        assert it["maxSkew"] == 1 and it["labelSelector"]["matchLabels"] == SELECTOR


def test_the_number_of_replicas_is_said_once(name: str, objects: list[Object]) -> None:
    deployment = one(objects, "Deployment")
    scalers = of(objects, "HorizontalPodAutoscaler")
    assert bool(scalers) == (name == "most") and ("replicas" in deployment["spec"]) != bool(scalers)
    for scaler in scalers:
        kind = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]}
        assert scaler["spec"]["scaleTargetRef"] == kind
        assert 2 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]
    assert deployment["spec"].get("replicas", 3) >= 2
    budget = one(objects, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == SELECTOR and budget["maxUnavailable"] == 1


def test_the_schema_comes_first(objects: list[Object]) -> None:
    job = one(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    template = job["spec"]["template"]
    assert template["spec"]["containers"][0]["args"] == ["migrate"] and template["spec"]["restartPolicy"] == "Never"
    # Servers never do, whatever starts first.
    assert server(objects)["containers"][0]["args"] == ["serve"]
    assert template["spec"]["containers"][0]["image"] == server(objects)["containers"][0]["image"]
    # A server is none of its pods: no service leads to it.
    for service in of(objects, "Service"):
        assert not service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    # What it needs is there before it is: hooks run before everything else.
    assert "serviceAccountName" not in template["spec"]
    (policy,) = (it for it in of(objects, "NetworkPolicy") if it["metadata"]["name"].endswith("-migrate"))
    hooks = [it["metadata"]["annotations"] for it in (policy, job)]
    assert hooks[0]["helm.sh/hook"] == hooks[1]["helm.sh/hook"]
    assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1]["helm.sh/hook-weight"])


def test_each_service_leads_to_a_port_that_is_there(objects: list[Object]) -> None:
    pod = one(objects, "Deployment")["spec"]["template"]
    ports = {it["name"] for it in pod["spec"]["containers"][0]["ports"]}
    for service in of(objects, "Service"):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {it["targetPort"] for it in service["spec"]["ports"]} <= ports
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP", "nothing is open to the world by itself"


def policies(objects: list[Object]) -> dict[str, Object]:
    return {it["metadata"]["name"]: it["spec"] for it in of(objects, "NetworkPolicy")}


def opened(rules: list[Object], direction: str) -> dict[Any, list[Object]]:
    """The peers of each port."""
    found: dict[Any, list[Object]] = {}
    for rule in rules:
        assert rule[direction] and rule["ports"], "anybody, or anything"
        for port in rule["ports"]:
            found.setdefault(port["port"], []).extend(rule[direction])
    return found


def test_who_may_talk_to_whom_is_said_both_ways(objects: list[Object]) -> None:
    found = policies(objects)
    assert set(found) == {"here", "here-migrate"}
    for spec, labels in (
        (found["here"], one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]),
        (found["here-migrate"], one(objects, "Job")["spec"]["template"]["metadata"]["labels"]),
    ):
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert found["here-migrate"]["ingress"] == []


def test_who_comes_in(name: str, objects: list[Object]) -> None:
    found = opened(policies(objects)["here"]["ingress"], "from")
    assert set(found) == {50051, 8080, 9464}
    assert found[50051] == [{"podSelector": {"matchLabels": {"heedwell-caller": "true"}}}]
    outside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    assert found[8080] == [*found[50051], outside], "from outside only the sidecar is reached"
    namespace = SETS[name].get("monitoring", {}).get("namespace", "monitoring")
    assert found[9464] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]


def test_what_goes_out(name: str, objects: list[Object]) -> None:
    found = {who: opened(spec["egress"], "to") for who, spec in policies(objects).items()}
    further = {4317} if name == "most" else set()
    assert set(found["here"]) == {53, 5432, 443, 465, 587, 2525} | further
    assert set(found["here-migrate"]) == {53, 5432} | further, "it has no business with providers"
    database = [{"ipBlock": {"cidr": "10.1.0.0/24"}}] if name == "most" else [{"ipBlock": {"cidr": it}} for it in ("0.0.0.0/0", "::/0")]
    for each in found.values():
        assert each[5432] == database
        assert all(peer["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"} for peer in each[53])
    private = {"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
    for port in (443, 465, 587, 2525):
        blocks = {peer["ipBlock"]["cidr"]: set(peer["ipBlock"].get("except", [])) for peer in found["here"][port]}
        assert blocks == {"0.0.0.0/0": private, "2000::/3": set()}, "public addresses alone, and no cloud's metadata"
