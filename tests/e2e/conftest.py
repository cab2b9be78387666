"""Fixtures: fleets and gateways that end with their test, and whose logs stand beside its failure."""
import pytest

import engines
from harness import Gateway, Process, Sim

# Everything these tests start goes through one of these.
_processes = pytest.StashKey()


class Started:
    """Starts processes, and ends them in the opposite order: the gateway before its phones."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self._number = 0

    def own(self, process):
        self.processes.append(process)
        return process

    def sim(self, count, engine="ollama", **options):
        """COUNT simulated phones."""
        return self.own(Sim(count, engine, **options)).phones

    def gateway(self, phones, settings=None, **more):
        self._number += 1
        folder = self.folder / f"gateway-{self._number}"
        folder.mkdir()
        return self.own(Gateway(folder, phones, settings, **more))

    def process(self, *arguments, **more):
        return self.own(Process(*arguments, **more))

    def stop(self):
        complaints = []
        for process in reversed(self.processes):
            if process.ended:
                continue
            try:
                process.stop()
            except AssertionError as e:
                complaints.append(str(e))
        assert not complaints, "\n".join(complaints)


def _started(request, folder):
    started = Started(folder)
    request.node.stash[_processes] = started
    yield started
    started.stop()


@pytest.fixture
def start(request, tmp_path):
    yield from _started(request, tmp_path)


@pytest.fixture(scope="module")
def start_once(request, tmp_path_factory):
    """The same for a whole module."""
    yield from _started(request, tmp_path_factory.mktemp("module"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed:
        return
    for node in item.listchain():
        started = node.stash.get(_processes, None)
        for process in started.processes if started else []:
            lines = [line for line in process.errors.lines() if "/health" not in line]
            report.sections.append((f"log of {process.name} {process.pid}", "\n".join(lines[-100:])))


# ---- the real engine


@pytest.fixture(scope="session")
def llama_programs():
    return engines.unpacked("llama")


@pytest.fixture(scope="session")
def counting_model(tmp_path_factory):
    return engines.make_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory):
    return engines.make_model(tmp_path_factory.mktemp("model") / "slow.gguf", *engines.SLOW)


@pytest.fixture(scope="module")
def llamas(start_once, llama_programs, counting_model):
    """Four real llama-servers with the counting model, two slots each."""
    return [start_once.own(engines.LlamaServer(llama_programs, counting_model)) for _ in range(4)]
