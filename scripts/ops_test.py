"""`make ops-test`: check the monitoring files with the programs of Prometheus and Alertmanager.

promtool checks the configuration and the rules, and runs the rules' test cases; amtool checks Alertmanager's routes.
Then a real Prometheus scrapes a running service with the shipped configuration, of which only addresses and intervals
are replaced. Every rule and every query of the dashboard must be evaluated without an error. At last the service is
stopped, and its alert must appear.

No wheel contains these programs. They are extracted from Debian's packages without installing those, because an
installed package would start a daemon. If all are on the PATH, those are used; otherwise apt is needed. The first
failed check ends the run.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import yaml

from tests.stand.ports import free_port
from tests.stand.service_process import service_process

ROOT: Final = Path(__file__).resolve().parents[1]
MONITORING: Final = ROOT / "monitoring"
RULES: Final = MONITORING / "prometheus/rules/ytmp3.yml"
PACKAGES: Final = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
}
WAIT_SECONDS: Final = 60.0
NOT_IN_SECONDS: Final = "ytmp3_extractor_age_days"
"""A metric that promtool would have in seconds. Operators think of the age of a release in days."""


class CheckFailed(Exception):
    """A check of the shipped files failed."""


def say(text: str) -> None:
    print(text, flush=True)


def run(*command: str | Path, text_in: str | None = None, folder: Path = ROOT) -> str:
    """Run a program to its end; return its output. Raises CheckFailed if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        input=text_in or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"{Path(command[0]).name}: exit code {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def find_programs(folder: Path) -> dict[str, Path]:
    """Return the programs: those on the PATH, or those of Debian's packages, extracted into `folder`."""
    if found := {name: Path(path) for name in PACKAGES if (path := shutil.which(name))}:
        if len(found) == len(PACKAGES):
            return found
        say(f"not on the PATH: {', '.join(sorted(set(PACKAGES) - set(found)))}")
    if shutil.which("apt-get") is None:
        raise CheckFailed(f"needs apt, or these programs on the PATH: {', '.join(PACKAGES)}")
    packages = sorted(set(PACKAGES.values()))
    say(f"downloading {', '.join(packages)} from Debian")
    try:
        run("apt-get", "download", *packages, folder=folder)
    except CheckFailed:
        run("apt-get", "update")  # the list of packages is missing or too old
        run("apt-get", "download", *packages, folder=folder)
    for package in folder.glob("*.deb"):
        run("dpkg", "--extract", package, folder)
    return {name: folder / "usr/bin" / name for name in PACKAGES}


def check_files(programs: dict[str, Path]) -> None:
    """Check the shipped files with promtool and amtool."""
    promtool, amtool = programs["promtool"], programs["amtool"]
    say(run(promtool, "--version").splitlines()[0])
    run(promtool, "check", "config", MONITORING / "prometheus/prometheus.yml")
    say("  ok   promtool check config")
    run(promtool, "check", "rules", RULES)
    say("  ok   promtool check rules")
    for cases in sorted((MONITORING / "prometheus/tests").glob("*.yml")):
        run(promtool, "test", "rules", cases)
        count = len(yaml.safe_load(cases.read_text())["tests"])
        say(f"  ok   promtool test rules: {count} cases in {cases.name}")
    configuration = MONITORING / "alertmanager/alertmanager.yml"
    run(amtool, "check-config", configuration)
    say("  ok   amtool check-config")
    for severity, receiver in (("page", "page"), ("ticket", "ticket"), ("unheard-of", "ticket")):
        run(amtool, "config", "routes", "test", f"--config.file={configuration}", f"--verify.receivers={receiver}",
            f"severity={severity}")  # fmt: skip
    say("  ok   amtool config routes test")


def own_copy(folder: Path, *, service: str, prometheus: int) -> Path:
    """Copy Prometheus' folder with the addresses of this run and shorter intervals; nothing else differs."""
    copy = folder / "prometheus"
    shutil.copytree(MONITORING / "prometheus", copy)
    configuration = yaml.safe_load((copy / "prometheus.yml").read_text())
    configuration["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    del configuration["alerting"]
    addresses = {"ytmp3": service, "prometheus": f"127.0.0.1:{prometheus}"}
    jobs = [job for job in configuration["scrape_configs"] if job["job_name"] in addresses]
    for job in jobs:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
    configuration["scrape_configs"] = jobs
    (copy / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    return copy / "prometheus.yml"


def ask(url: str, **parameters: str) -> Any:
    """Return the JSON that Prometheus answers to one request."""
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    with urllib.request.urlopen(url + query, timeout=10) as answer:
        return json.load(answer)


async def until(claim: str, holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a claim holds, and print it. Raises CheckFailed after WAIT_SECONDS."""
    started_at = time.monotonic()
    while time.monotonic() - started_at < WAIT_SECONDS:
        try:
            if await holds():
                say(f"  ok   {claim} ({time.monotonic() - started_at:.1f} s)")
                return
        except OSError:
            pass  # Prometheus does not listen yet
        await asyncio.sleep(0.2)
    raise CheckFailed(f"{claim}: not within {WAIT_SECONDS:g} s")


def dashboard_queries() -> dict[str, str]:
    """Return all queries of the dashboard as Grafana would send them."""
    dashboard = json.loads((MONITORING / "grafana/dashboards/ytmp3.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$instance", ".*")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }


async def check_live(programs: dict[str, Path], folder: Path) -> None:
    """Check with a running service and a running Prometheus."""
    port = free_port()
    async with service_process(folder / "service") as service:
        async with service.client.get(service.url + "/metrics") as response:
            lines = (await response.text()).splitlines(keepends=True)
        exposition = "".join(line for line in lines if NOT_IN_SECONDS not in line)
        run(programs["promtool"], "check", "metrics", text_in=exposition)
        say("  ok   promtool check metrics, on the metrics of the service")
        configuration = own_copy(folder, service=service.url.removeprefix("http://"), prometheus=port)
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                programs["prometheus"],
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
                stdout=log,
                stderr=log,
            )
            try:
                await watch(f"http://127.0.0.1:{port}", service.stop)
            except CheckFailed:
                say((folder / "log").read_text(errors="replace")[-3000:])
                raise
            finally:
                process.terminate()
                await process.wait()


async def watch(prometheus: str, stop: Callable[[], Awaitable[int]]) -> None:
    """Let Prometheus evaluate all shipped rules and queries; then stop the service, and wait for its alert."""

    async def query(expression: str) -> list[Any]:
        answer = await asyncio.to_thread(ask, f"{prometheus}/api/v1/query", query=expression)
        found: list[Any] = answer["data"]["result"]
        return found

    async def is_scraped() -> bool:
        return [sample["value"][1] for sample in await query('up{job="ytmp3"}')] == ["1"]

    async def rules_are_well() -> bool:
        answer = await asyncio.to_thread(ask, f"{prometheus}/api/v1/rules")
        rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        wrong = [rule for rule in rules if rule["health"] == "err"]
        if wrong:
            raise CheckFailed(f"rules that fail: {wrong}")
        return all(rule["health"] == "ok" for rule in rules)

    alerts: list[Any] = []

    async def no_alert_of_ours() -> bool:
        alerts[:] = [sample["metric"] for sample in await query('ALERTS{alertname=~"Ytmp3.*"}')]
        return not alerts

    async def is_pending() -> bool:
        return any(sample["metric"]["alertname"] == "Ytmp3Down" for sample in await query("ALERTS"))

    await until("Prometheus scrapes the service with the shipped configuration", is_scraped)
    await until("every rule is evaluated without an error", rules_are_well)
    try:
        await until("a ready service raises no alert", no_alert_of_ours)
    except CheckFailed as failure:
        raise CheckFailed(f"{failure}: {alerts}") from None
    queries = dashboard_queries()
    empty = [name for name, expression in queries.items() if not await query(expression)]
    say(f"  ok   {len(queries)} dashboard queries are answered; {len(empty)} have no data while the service is idle")
    await stop()
    await until("after the service has stopped, the alert Ytmp3Down is pending", is_pending)


def main() -> int:
    """Check everything; return an exit code."""
    argparse.ArgumentParser(prog="python -m scripts.ops_test", description=__doc__).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-ops-test-"))
    # apt downloads as a user of its own, who must be able to write here.
    folder.chmod(0o755)
    try:
        programs = find_programs(folder)
        check_files(programs)
        asyncio.run(check_live(programs, folder))
    except CheckFailed as error:
        say(f"ops test FAILED: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("ops test passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
