"""The chart as helm renders it: what Kubernetes' own schemas say of it, and what must hold of whatever runs patients' data.

`HELM` names helm. One that is missing is a failure: nothing here may be left out in silence."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
HELM = os.environ.get("HELM", "helm")
KUBERNETES = ["1.29", "1.31", "1.34"]
LEAST: dict[str, Any] = {
    "publicUrl": "https://messages.example",
    "database": {"secretName": "database"},
    "masterKey": {"secretName": "keys"},
    "tokens": {"jwks": "https://issuer.example/jwks.json"},
    "image": {"repository": "images.example/heedwell", "tag": "0.1.0"},
}
MOST: dict[str, Any] = LEAST | {
    "tls": {"secretName": "tls", "clientCa": True},
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"team": "messages"}},
    "settings": {"HEEDWELL_CONTENT_RETENTION": "90d", "HEEDWELL_DRAIN_SECONDS": "12"},
    "priorityClassName": "high",
    "podLabels": {"tier": "messages"},
    "podAnnotations": {"note": "one"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "messages", "operator": "Exists"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": ""}],
}
SETS = {"least": LEAST, "most": MOST}


def helm(*arguments: str, values: dict[str, Any] | None = None, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "values.json"
    file.write_text(json.dumps(values or {}))
    command = [HELM, arguments[0], *arguments[1:], "--values", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def objects(name: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("values")
    done = helm("template", "here", str(CHART), "--kube-version", KUBERNETES[0], values=SETS[name], folder=folder)
    assert done.returncode == 0, done.stderr
    return [it for it in yaml.safe_load_all(done.stdout) if it]


def of(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [it for it in objects if it["kind"] == kind]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [it["spec"]["template"]["spec"] for it in objects if it["kind"] in ("Deployment", "Job")]


def containers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [it for pod in pods(objects) for it in pod["containers"] + pod.get("initContainers", [])]


@pytest.mark.parametrize("values", SETS.values(), ids=SETS.keys())
def test_helm_finds_nothing_to_say(values: dict[str, Any], tmp_path: Path) -> None:
    done = helm("lint", "--strict", str(CHART), values=values, folder=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", SETS.values(), ids=SETS.keys())
def test_kubernetes_knows_every_field(values: dict[str, Any], version: str, tmp_path: Path) -> None:
    done = helm("template", "here", str(CHART), "--kube-version", version, values=values, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(done.stdout)
    command = ["kubernetes-validate", "--strict", "--kubernetes-version", version, str(rendered)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    said = checked.stdout + checked.stderr
    assert checked.returncode == 0, said
    # Of a kind that it does not know it only warns.
    unknown = [line for line in said.splitlines() if "WARN" in line and "ServiceMonitor" not in line]
    assert not unknown, unknown


def test_a_first_installation_fits_one_screen() -> None:
    assert len(yaml.safe_dump(LEAST).splitlines()) <= 24


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"publicUrl": "http://messages.example"}, "publicUrl"),
        ({"publicUrl": ""}, "publicUrl"),
        ({"database": {"secretName": ""}}, "secretName"),
        ({"database": {"url": "postgres://me:secret@db/x"}}, "url"),
        ({"masterKey": {"value": "master.1 ..."}}, "value"),
        ({"tokens": {"jwks": "http://issuer.example"}}, "jwks"),
        ({"image": {"repository": "images.example/heedwell", "tag": "latest"}}, "tag"),
        ({"image": {"repository": "images.example/heedwell", "digest": "sha256:12"}}, "digest"),
        ({"settings": {"HEEDWELL_DATABASE_URL": "postgres://me:secret@db/x"}}, "settings"),
        ({"settings": {"PASSWORD": "secret"}}, "settings"),
        ({"settings": {"HEEDWELL_DRAIN_SECONDS": "soon"}}, "HEEDWELL_DRAIN_SECONDS"),
        ({"replicas": 0}, "replicas"),
        ({"runAs": 0}, "runAs"),
        ({"replica": 3}, "replica"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_installed(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    version = ("--kube-version", KUBERNETES[0])
    done = helm("template", "here", str(CHART), *version, values=LEAST | change, folder=tmp_path)
    assert done.returncode != 0 and said in done.stderr, done.stderr


def test_nobody_is_root_and_nothing_can_be_written(objects: list[dict[str, Any]]) -> None:
    for pod in pods(objects):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] > 0 and security["runAsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            assert key not in pod
        assert all("hostPath" not in volume for volume in pod["volumes"])
    for container in containers(objects):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
        assert security["privileged"] is False and security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
        assert re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)$", container["image"]), container["image"]


def test_secrets_are_named_and_never_written(objects: list[dict[str, Any]]) -> None:
    assert not of(objects, "Secret") and not of(objects, "ConfigMap")
    for container in containers(objects):
        env = {it["name"]: it for it in container["env"]}
        assert set(env["HEEDWELL_DATABASE_URL"]["valueFrom"]["secretKeyRef"]) == {"name", "key"}
        assert "value" not in env["HEEDWELL_DATABASE_URL"]
    for pod in pods(objects):
        for volume in pod["volumes"]:
            if "secret" in volume:
                # Root's, for the group of the process: what the server asks of a file of keys.
                assert volume["secret"]["defaultMode"] == 0o440


def test_each_setting_is_one_that_the_readme_knows(objects: list[dict[str, Any]]) -> None:
    known = set(re.findall(r"`(HEEDWELL_[A-Z_]+)`", (ROOT / "README.md").read_text()))
    for container in containers(objects):
        told = [it["name"] for it in container["env"] if it["name"].startswith("HEEDWELL_")]
        assert len(told) == len(set(told)), "each once"
        assert set(told) <= known, set(told) - known


def test_the_server_has_time_to_end(objects: list[dict[str, Any]]) -> None:
    (deployment,) = of(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    env = {it["name"]: it.get("value") for it in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] >= int(env["HEEDWELL_DRAIN_SECONDS"]) + 25
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod["containers"][0][probe]
    assert len(pod["topologySpreadConstraints"]) == 2


def test_the_number_of_replicas_is_said_once(objects: list[dict[str, Any]]) -> None:
    (deployment,) = of(objects, "Deployment")
    assert ("replicas" in deployment["spec"]) != bool(of(objects, "HorizontalPodAutoscaler"))
    (budget,) = of(objects, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_schema_comes_first(objects: list[dict[str, Any]]) -> None:
    (job,) = of(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
    # A server is none of its pods: no service leads to it.
    labels = job["spec"]["template"]["metadata"]["labels"]
    for service in of(objects, "Service"):
        assert not service["spec"]["selector"].items() <= labels.items()
    # What it needs is there before it is: hooks run before everything else.
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


def test_each_service_leads_to_a_port_that_is_there(objects: list[dict[str, Any]]) -> None:
    (deployment,) = of(objects, "Deployment")
    pod = deployment["spec"]["template"]
    ports = {it["name"] for it in pod["spec"]["containers"][0]["ports"]}
    for service in of(objects, "Service"):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {it["targetPort"] for it in service["spec"]["ports"]} <= ports
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP", "nothing is open to the world by itself"


def test_who_may_talk_to_whom_is_said_both_ways(objects: list[dict[str, Any]]) -> None:
    policies = of(objects, "NetworkPolicy")
    assert len(policies) == 2
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"]["ingress"]:
            assert rule["from"] and rule["ports"]
        for rule in policy["spec"]["egress"]:
            assert rule["to"] and rule["ports"]
    (server,) = (it for it in policies if not it["metadata"]["name"].endswith("-migrate"))
    outside = [rule for rule in server["spec"]["ingress"] if {it["port"] for it in rule["ports"]} == {8080}]
    assert len(outside) == 1, "from outside only the sidecar is reached"
    blocks = [to["ipBlock"] for rule in server["spec"]["egress"] for to in rule["to"] if "except" in to.get("ipBlock", {})]
    assert blocks and all("169.254.0.0/16" in block["except"] for block in blocks), "no cloud's metadata"
    metrics = [rule for rule in server["spec"]["ingress"] if {it["port"] for it in rule["ports"]} == {9464}]
    assert bool(metrics) == bool(of(objects, "ServiceMonitor"))
