"""What starts and ends pods: systemd, containers, Kubernetes; their numbers fit those of the library."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.files import FILES, PAGES

from trioqueue import Drain, Lease
from trioqueue._open import END_PATIENCE

DRAIN, LEASE = Drain(), Lease()
ENDS_WITHIN = DRAIN.soft + DRAIN.hard + END_PATIENCE
SLACK = 5.0
"""Seconds for the process itself: to leave its imports, and flush its log."""

SERVE = ["trioqueue", "serve", "shop.commands:registry"]
PORT = 9464


# ------------------------------------------------------------------------------------ systemd
UNIT = FILES / "shop-pod@.service"


@pytest.fixture
def unit() -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_unit_lets_a_pod_drain(unit: dict[str, dict[str, str]]) -> None:
    service = unit["Service"]
    assert float(service["TimeoutStopSec"]) >= ENDS_WITHIN + SLACK
    assert (service["Type"], service["KillSignal"], service["Restart"]) == ("exec", "SIGTERM", "on-failure")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    program, *args = service["ExecStart"].split()
    assert [Path(program).name, *args[:2]] == SERVE
    assert args[2:] == ["--monitor-port", "946%i"]


def test_the_unit_has_no_secret_and_few_rights(unit: dict[str, dict[str, str]]) -> None:
    assert "redis://" not in unit["Service"]["ExecStart"] + unit["Service"]["Environment"]
    for setting in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectKernelTunables"):
        assert unit["Service"][setting] == "yes"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    (program := tmp_path / "trioqueue").write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", UNIT.read_text())
    (copy := tmp_path / "shop-pod@4.service").write_text(text)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )

    # What it says of other units of this machine is none of ours.
    assert [line for line in ran.stderr.splitlines() if "shop-pod" in line] == []


# ------------------------------------------------------------------------------------ containers
def instructions() -> list[tuple[str, str]]:
    text = (FILES / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, rest in lines]


def test_a_container_hears_signals_and_is_not_root() -> None:
    final = instructions()
    while any(word == "FROM" for word, _ in final[1:]):
        final.pop(0)
    said = dict(final)
    assert said["FROM"].endswith("-slim")
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert int(said["USER"]) > 1000
    entrypoint, given = json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])
    assert entrypoint == SERVE
    assert given == ["--monitor-host", "0.0.0.0", "--monitor-port", said["EXPOSE"]]
    assert said["EXPOSE"] == str(PORT)
    assert "redis://" not in "".join(rest for _, rest in instructions())


def test_stages_take_only_what_earlier_ones_made() -> None:
    named: set[str] = set()
    for word, rest in instructions():
        if word == "FROM" and " AS " in rest:
            named.add(rest.rpartition(" AS ")[2])
        if copied := re.match(r"--from=(\S+)", rest):
            assert word == "COPY"
            assert copied[1] in named


def test_the_page_gives_containers_time_to_drain() -> None:
    (seconds,) = re.findall(r"--stop-timeout (\d+) ", (PAGES / "run-in-a-container.md").read_text())
    assert float(seconds) >= ENDS_WITHIN + SLACK


# ------------------------------------------------------------------------------------ Kubernetes
@pytest.fixture
def objects() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())}


@pytest.fixture
def pod(objects: dict[str, Any]) -> Any:
    return objects["Deployment"]["spec"]["template"]["spec"]


def test_kubernetes_lets_a_pod_drain(pod: Any) -> None:
    assert pod["terminationGracePeriodSeconds"] >= ENDS_WITHIN + SLACK
    (container,) = pod["containers"]
    assert "lifecycle" not in container
    assert "command" not in container, "the image says it"


def test_probes_ask_the_monitor_and_wait_for_longer_than_a_stall(pod: Any) -> None:
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert port == {"name": "monitor", "containerPort": PORT}
    for probe, path in (("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")):
        assert container[probe]["httpGet"] == {"path": path, "port": "monitor"}
    live = container["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] > LEASE.stall_limit + LEASE.ttl
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 30


def test_a_pod_of_kubernetes_is_not_throttled_and_has_few_rights(pod: Any) -> None:
    (container,) = pod["containers"]
    resources = container["resources"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]
    assert "memory" in resources["limits"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    (url,) = (one for one in container["env"] if one["name"] == "TRIOQUEUE_URL")
    assert "secretKeyRef" in url["valueFrom"]
    assert str(pod["securityContext"]["runAsUser"]) == dict(instructions())["USER"]


def test_one_takes_over_whenever_another_leaves(objects: dict[str, Any]) -> None:
    deployment, budget = objects["Deployment"], objects["PodDisruptionBudget"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["replicas"] >= 2
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    update = deployment["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}
    # Entities of a pod that was killed have moved by then.
    assert deployment["spec"]["minReadySeconds"] >= 5


# ------------------------------------------------------------------------------------ the pages
@pytest.mark.parametrize("file", sorted(FILES.iterdir()), ids=lambda file: file.name)
def test_each_file_is_on_a_page_as_it_is(file: Path) -> None:
    shown = [page for page in PAGES.glob("*.md") if f"deploy/{file.name}" in page.read_text()]
    assert shown
    if file.suffix != ".json":
        assert any(f"{{literalinclude}} ../../deploy/{file.name}\n" in page.read_text() for page in shown)
