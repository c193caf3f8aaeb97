"""Prometheus itself reads what a server tells, under our rules; and what the dashboard asks, it answers."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from support.contract import ROOT
from support.network import http
from support.practice import DELIVERED, SMS, Practice, patient
from support.processes import Process, Sandbox, Server, environment, free_port
from support.waiting import until
from support.watching import Follower

CONFIGURATION = """\
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [RULES]
scrape_configs:
  - job_name: heedwell
    static_configs: [{targets: [SERVER], labels: {namespace: default, pod: heedwell-0}}]
"""


class Prometheus(Process):
    """A Prometheus with our rules, which reads one server."""

    def __init__(self, folder: Path, target: str) -> None:
        super().__init__("prometheus", folder)
        self.address = f"127.0.0.1:{free_port()}"
        rules = ROOT / "helm" / "alerts" / "heedwell.yaml"
        text = CONFIGURATION.replace("RULES", json.dumps(str(rules))).replace("SERVER", json.dumps(target))
        (folder / "prometheus.yml").write_text(text)

    def start(self) -> "Prometheus":
        program = shutil.which("prometheus")
        assert program, "prometheus is missing: apt-get install prometheus"
        listen = f"--web.listen-address={self.address}"
        files = ["--config.file=prometheus.yml", f"--storage.tsdb.path={self.folder / 'tsdb'}"]
        self.spawn([program, *files, listen], environment())
        self.wait_for("it is ready", self._is_ready)
        return self

    def _is_ready(self) -> bool:
        try:
            return http("GET", f"http://{self.address}/-/ready").status == 200
        except OSError:
            return False

    def ask(self, path: str) -> Any:
        answer = http("GET", f"http://{self.address}/api/v1/{path}").json()
        assert answer["status"] == "success", (path, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        return self.ask(f"query?query={quote(expression)}")["result"]


def test_prometheus_reads_a_server_and_answers_what_the_dashboard_asks(
    sandboxed: Callable[..., Server], sandbox: Sandbox, processes: list[Process], tmp_path: Path
) -> None:
    target = f"127.0.0.1:{free_port()}"
    server = sandboxed(None, HEEDWELL_METRICS_ADDR=target)
    practice = Practice(server).furnish([patient()], sandbox=sandbox)
    prometheus = Prometheus(tmp_path, target)
    processes.append(prometheus)
    prometheus.start()
    follower = Follower(practice, practice.cursor())
    # What was counted between two looks is a rate; what had been counted at the first is not.
    for number, told in enumerate(("heedwell_feed_lag_seconds_count > 0", "rate(heedwell_feed_lag_seconds_count[1m]) > 0")):
        practice.wait_for(practice.send(f"text-{number}", "system", channels=[SMS]), {SMS: DELIVERED})
        until("it sees that a text arrived", 30, lambda: prometheus.query(told))
    follower.stop()

    targets = prometheus.ask("targets")["activeTargets"]
    assert [(it["health"], it["lastError"]) for it in targets] == [("up", "")]
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 10 and {(rule["health"], rule.get("lastError", "")) for rule in rules} <= {("ok", ""), ("unknown", "")}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
    panels = json.loads((ROOT / "helm" / "dashboards" / "heedwell.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(asked) > 20
    silent = []
    for expression in asked:
        plain = expression.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$namespace", ".*")
        assert "$" not in re.sub(r"\$$", "", plain), f"what Grafana puts in here: {plain}"
        if not prometheus.query(plain):
            silent.append(plain)
    # Nothing failed.
    failures = ('rpc_response_status_code=~"INTERNAL', 'rpc_response_status_code!="OK"', 'outcome!="accepted"')
    assert [it for it in silent if not any(failure in it for failure in failures)] == []
