"""What helm makes of the chart, as all tests here look at it."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
KUBERNETES = ["1.29", "1.33", "1.37"]
Object = dict[str, Any]


def _first_installation() -> Object:
    """The values that the README shows."""
    chapter = (ROOT / "README.md").read_text().split("\n## Kubernetes\n")[1]
    found = re.search(r"^```yaml\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    assert found, "the README shows no values"
    return yaml.safe_load(found[1])


FIRST = _first_installation()
LEAST: Object = {key: FIRST[key] for key in ("publicUrl", "database", "masterKey", "tokens", "image")}
MOST: Object = FIRST | {
    "tls": {"secretName": "tls", "clientCa": True},
    "autoscaling": {"enabled": True},
    "monitoring": {"enabled": True, "namespace": "watchers", "labels": {"release": "prometheus"}},
    "settings": {
        "HEEDWELL_CONTENT_RETENTION": "90d",
        "HEEDWELL_DRAIN_SECONDS": "12",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel.watchers:4317",
    },
    "networkPolicy": {
        "database": [{"ipBlock": {"cidr": "10.1.0.0/24"}}],
        "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"name": "watchers"}}}], "ports": [{"port": 4317}]}],
    },
    "priorityClassName": "high",
    "podLabels": {"tier": "messages"},
    "podAnnotations": {"note": "one"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "messages", "operator": "Exists"}],
    "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": {"secretKeyRef": {"name": "otel", "key": "headers"}}}],
    "extraVolumes": [{"name": "vault", "secret": {"secretName": "vault", "defaultMode": 0o440}}],
    "extraMounts": [{"name": "vault", "mountPath": "/run/heedwell/vault", "readOnly": True}],
}
SETS = {"least": LEAST, "first": FIRST, "most": MOST}


def helm(verb: str, *arguments: str, values: Object, folder: Path) -> subprocess.CompletedProcess[str]:
    """`HELM` names it. One that is missing is a failure: nothing here may be left out in silence."""
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    command = [os.environ.get("HELM", "helm"), verb, *arguments, "--values", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(values: Object, folder: Path, version: str = KUBERNETES[0]) -> list[Object]:
    """All objects, hooks as well."""
    done = helm("template", "here", str(CHART), "--namespace", "messages", "--kube-version", version, values=values, folder=folder)
    assert done.returncode == 0, done.stderr
    return [it for it in yaml.safe_load_all(done.stdout) if it]


def of(objects: list[Object], kind: str) -> list[Object]:
    """Those of a kind."""
    return [it for it in objects if it["kind"] == kind]


def one(objects: list[Object], kind: str) -> Object:
    """The only one of a kind."""
    (it,) = of(objects, kind)
    return it
