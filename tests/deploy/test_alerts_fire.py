"""Each alert fires when that is the matter which it is for, and none while all is well: asked of Prometheus itself."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.files import FILES

POD, ACCOUNT = 'instance="a:9464",job="trioqueue"', 'entity_type="account",instance="a:9464",job="trioqueue"'
DEPOSIT = 'command="deposit",' + ACCOUNT

# What a fleet of two tells each minute while all is well, for two hours.
WELL = {
    f"up{{{POD}}}": "1x120",
    f"trioqueue_pods{{{POD}}}": "2x120",
    f"trioqueue_ready{{{POD}}}": "0x120",
    f"trioqueue_held{{{POD}}}": "0x120",
    f"trioqueue_dead_letters{{{POD}}}": "0x120",
    f"trioqueue_lease_left_seconds{{{POD}}}": "2.1x120",
    f"trioqueue_leases_lost_total{{{POD}}}": "0x120",
    f"trioqueue_fenced_commits_total{{{ACCOUNT}}}": "0x120",
    f"trioqueue_paused_total{{{ACCOUNT}}}": "0x120",
    f"trioqueue_pending{{{ACCOUNT}}}": "40x120",
    f"trioqueue_deepest_mailbox{{{ACCOUNT}}}": "3x120",
    f"trioqueue_oldest_waiting_seconds{{{ACCOUNT}}}": "0.2x120",
    f'trioqueue_handled_total{{{DEPOSIT},outcome="done"}}': "0+6000x120",
    f"trioqueue_failures_total{{{DEPOSIT}}}": "0+6x120",
    **{
        f'trioqueue_{name}_bucket{{{labels},le="{bound}"}}': "0+6000x120"
        for name, labels in (
            ("waiting_seconds", DEPOSIT),
            ("call_seconds", DEPOSIT + ',outcome="done"'),
            ("loop_lag_seconds", POD),
        )
        for bound in ("0.1", "10", "+Inf")
    },
}

GONE = "_x120"

# What is different where an alert is to fire.
WRONG: dict[str, dict[str, str]] = {
    "TrioqueueNoPod": {"trioqueue_pods": GONE},
    "TrioqueueStoreLost": {"trioqueue_lease_left_seconds": "0x120"},
    "TrioqueueNobodyTakes": {"trioqueue_ready": "7x120"},
    "TrioqueueStuckEntity": {"trioqueue_oldest_waiting_seconds": "0+60x120"},
    "TrioqueueHeld": {"trioqueue_held": "1x120"},
    "TrioqueueDeadLetters": {"trioqueue_dead_letters": "1x120"},
    "TrioqueuePaused": {"trioqueue_paused_total": "0x115 1x5"},
    "TrioqueueFailures": {"trioqueue_failures_total": "0+900x120"},
    "TrioqueueBacklogGrows": {"trioqueue_pending": "40x80 1000+500x40"},
    "TrioqueueDeepMailbox": {"trioqueue_deepest_mailbox": "5000x120"},
    "TrioqueueSlowWaiting": {'trioqueue_waiting_seconds.*le="0.1"': "0+3000x120"},
    "TrioqueueSlowCalls": {'trioqueue_call_seconds.*le="0.1"': "0+3000x120"},
    "TrioqueueFewPods": {"trioqueue_pods": "1x120"},
    "TrioqueuePodSilent": {"up": "0x120"},
    "TrioqueueLeaseShort": {"trioqueue_lease_left_seconds": "0.7x120"},
    "TrioqueueLeaseLost": {"trioqueue_leases_lost_total": "0x115 1x5"},
    "TrioqueueFencedCommits": {"trioqueue_fenced_commits_total": "0x115 3x5"},
    "TrioqueueLoopBlocked": {'trioqueue_loop_lag_seconds.*le="0.1"': "0+3000x120"},
}

# What fires as well, since it is so too.
BESIDES = {"TrioqueueStoreLost": {"TrioqueueLeaseShort"}}


def series(wrong: dict[str, str]) -> list[dict[str, str]]:
    told = dict(WELL)
    for place, values in wrong.items():
        name, _, rest = place.partition(".*")
        hit = [
            one for one in told if one.startswith(name) and rest in one and (rest or one[len(name)] == "{")
        ]
        assert hit, place
        told |= dict.fromkeys(hit, values)
    return [{"series": one, "values": values} for one, values in told.items()]


def case(name: str, wrong: dict[str, str], firing: set[str]) -> dict[str, Any]:
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{one}"}}', "value": 1} for one in sorted(firing)]
    return {
        "name": name,
        "interval": "1m",
        "input_series": series(wrong),
        "promql_expr_test": [{"expr": query, "eval_time": "119m", "exp_samples": samples}],
    }


def test_each_alert_has_a_case() -> None:
    rules = [
        rule
        for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    assert list(WRONG) == [rule["alert"] for rule in rules]


@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool here")
def test_alerts_fire_when_they_are_meant_to(tmp_path: Path) -> None:
    cases = [case("all is well", {}, set())]
    cases += [case(alert, wrong, {alert, *BESIDES.get(alert, ())}) for alert, wrong in WRONG.items()]
    tests = {"rule_files": [str(FILES / "alerts.yml")], "evaluation_interval": "1m", "tests": cases}
    (file := tmp_path / "cases.yml").write_text(json.dumps(tests))  # JSON is YAML
    ran = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
