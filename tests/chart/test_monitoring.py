"""Alerts and dashboard: as `promtool` reads them, and held to what README says and to what the server tells."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support import CHART, MOST, ROOT, Object, of, one, rendered

ALERTS = CHART / "alerts/heedwell.yaml"
TESTS = Path(__file__).with_name("alerts.yaml")
DASHBOARD = CHART / "dashboards/heedwell.json"
HISTOGRAM = ("_bucket", "_sum", "_count")
# What the server tells, each with its labels, and those of histograms without what they end in.
METRICS = {
    "up": set(),
    "rpc_server_call_duration_seconds": {"rpc_method", "rpc_response_status_code"},
    "http_server_request_duration_seconds": {"http_route", "http_response_status_code"},
    "heedwell_provider_call_duration_seconds": {"channel", "provider", "outcome"},
    "heedwell_deliveries_settled_total": {"channel", "state"},
    "heedwell_due_lag_seconds": {"class"},
    "heedwell_queue_depth": {"class"},
    "heedwell_oldest_due_seconds": {"class"},
    "heedwell_unconfirmed_open": set(),
    "heedwell_reconciliations_total": {"provider", "outcome"},
    "heedwell_leases_rescued_total": set(),
    "heedwell_oldest_expired_lease_seconds": set(),
    "heedwell_duplicates_proven_total": set(),
    "heedwell_streams_open": set(),
    "heedwell_feed_lag_seconds": set(),
    "heedwell_callbacks_total": {"provider", "outcome"},
    "heedwell_key_use_ratio": set(),
    "heedwell_alarms_total": {"alarm"},
    "heedwell_database_connections": {"pool", "state"},
    "heedwell_measured_timestamp_seconds": set(),
    "heedwell_quiet": {"reason"},
    "heedwell_build_info": {"version"},
}
# Read from the database: every replica tells the same.
SHARED = {
    "heedwell_queue_depth", "heedwell_oldest_due_seconds", "heedwell_unconfirmed_open", "heedwell_oldest_expired_lease_seconds",
    "heedwell_key_use_ratio", "heedwell_measured_timestamp_seconds", "heedwell_quiet",
}  # fmt: skip
FROM_TARGETS = {"job", "namespace", "pod", "instance", "le"}


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[Object]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[Object]:
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[Object]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def shown() -> list[str]:
    """The dashboard's expressions as Grafana would ask them."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in {"$namespace": ".*", "$__rate_interval": "1m", "$__range": "6h"}.items():
        asked = [it.replace(variable, value) for it in asked]
    return asked


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from shown()


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that is asked for, and the labels that it is asked by; recorded ones have colons and are left out."""
    expression = re.sub(r"\b(?:by|ignoring) ?\([\w, ]+\)", "", expression)
    for name, after in re.findall(r"(?<![\w:.])([a-zA-Z_][\w:]*)(\{[^}]*\}|\s*\(|)", re.sub(r"\[\w+\]|offset \w+", "", expression)):
        if after.endswith("(") or name in ("and", "or", "unless", "sum", "max", "count") or ":" in name:
            continue
        base = next((name.removesuffix(it) for it in HISTOGRAM if name.removesuffix(it) in METRICS), name)
        yield base, set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', after))


def test_promtool_reads_the_rules() -> None:
    promtool("check", "rules", str(ALERTS))


def test_each_alert_fires_in_time_and_never_in_health() -> None:
    promtool("test", "rules", str(TESTS))


def test_each_alert_is_tried() -> None:
    fired = re.findall(r"alertname=\"(\w+)\"", TESTS.read_text())
    assert set(fired) == {it["alert"] for it in alerts()}


def test_each_alert_says_what_to_do_and_readme_knows_it() -> None:
    chapter = (ROOT / "README.md").read_text().split("\n## Operating it\n")[1].split("\n## ")[0].split("\n### Alerts\n")[1]
    book = dict(re.findall(r"^\| `(\w+)` \| .{20,} \| (.{20,}|the same.*) \|$", chapter, re.MULTILINE))
    found = alerts()
    assert [it["alert"] for it in found] == list(book), "one line for each, in the same order"
    for alert in found:
        said = alert["annotations"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(said) == {"summary", "description", "runbook"} and said["runbook"] == f"README.md#alerts, {alert['alert']}"
        # A label that is not left over would be an empty place in the text.
        kept = set(re.findall(r"\$labels\.(\w+)", said["description"])) - {"instance"}
        for each in re.findall(r"by \(([\w, ]+)\)", alert["expr"]):
            assert kept <= set(each.split(", ")), alert["alert"]


@pytest.mark.parametrize("window", ["5m", "30m", "1h", "6h"])
def test_errors_are_recorded_for_each_window(window: str) -> None:
    (rule,) = (it for it in rules() if it.get("record") == f"heedwell:rpc_errors:ratio_rate{window}")
    assert set(re.findall(r"\[(\w+)\]\)", rule["expr"])) == {window}


def test_only_what_the_server_tells_is_asked_for() -> None:
    seen = set()
    for expression in expressions():
        for name, labels in selectors(expression):
            assert name in METRICS, f"{name} in {expression}"
            assert labels <= METRICS[name] | FROM_TARGETS, f"{name} has no {labels - METRICS[name] - FROM_TARGETS}"
            seen.add(name)
    assert seen == set(METRICS), f"nobody looks at {set(METRICS) - seen}"


def test_names_that_others_have_as_well_are_asked_of_heedwell_alone() -> None:
    for expression in expressions():
        for name, labels in selectors(expression):
            assert name.startswith("heedwell_") or "job" in labels, expression


def test_what_every_replica_tells_alike_is_never_added_up() -> None:
    for expression in expressions():
        for name in SHARED & {it for it, _ in selectors(expression)}:
            around = re.findall(rf"(\w+)(?: by \([\w, ]+\))? ?\({name}\b", expression)
            assert around and set(around) == {"max"}, expression
            assert len(around) == len(re.findall(rf"\b{name}\b", expression)), expression


def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    file = tmp_path / "asked.yaml"
    asked = [{"record": f"asked:{place}", "expr": expression} for place, expression in enumerate(shown())]
    file.write_text(json.dumps({"groups": [{"name": "asked", "rules": asked}]}))
    promtool("check", "rules", str(file))


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "heedwell" and dashboard["schemaVersion"] >= 39
    ids = [it["id"] for it in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not cells & taken and grid["x"] + grid["w"] <= 24, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}", "of no installation in particular"
    variables = {it["name"] for it in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text()))
    assert used <= variables | {"__rate_interval", "__range", "__all"}


def test_the_chart_carries_both_as_they_are(objects: list[Object], name: str, tmp_path: Path) -> None:
    if name == "least":
        assert not {it["kind"] for it in objects} & {"PrometheusRule", "ServiceMonitor", "ConfigMap"}
        return
    rule = one(objects, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
    config = one(objects, "ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["heedwell.json"]) == json.loads(DASHBOARD.read_text())


def test_prometheus_finds_the_metrics_under_the_name_that_the_rules_use(tmp_path: Path) -> None:
    objects = rendered(MOST, tmp_path)
    monitor = one(objects, "ServiceMonitor")
    (service,) = (
        it for it in of(objects, "Service") if monitor["spec"]["selector"]["matchLabels"].items() <= it["metadata"]["labels"].items()
    )
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "heedwell"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {it["name"]: it["port"] for it in service["spec"]["ports"]} == {endpoint["port"]: 9464}
    for kind in ("ServiceMonitor", "PrometheusRule", "ConfigMap"):
        assert one(objects, kind)["metadata"]["labels"].items() >= MOST["monitoring"]["labels"].items()
