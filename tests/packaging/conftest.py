"""Fixtures: the package of this build, and a Debian 12 root with it; as a folder, and booted."""
import pathlib
import shutil

import pytest

from debian import Machine, cannot, new_root, run
from harness import program


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(program()).resolve().parent


@pytest.fixture(scope="session")
def package(build, tmp_path_factory):
    """The .deb of this build."""
    if not (build / "CPackConfig.cmake").exists():
        cannot(f"{build} has no CPackConfig.cmake")
    into = tmp_path_factory.mktemp("package")
    run("cpack", "--config", build / "CPackConfig.cmake", "-B", into, cwd=build)
    made, = into.glob("*.deb")
    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = new_root(tmp_path_factory)
    yield root
    run("rm", "-rf", "--one-file-system", root.folder)


@pytest.fixture(scope="module")
def machine(tmp_path_factory, package):
    if not shutil.which("systemd-nspawn"):
        cannot("there is no systemd-nspawn")
    root = new_root(tmp_path_factory)
    root.install(package)
    machine = Machine(root)
    yield machine
    machine.stop()
    run("rm", "-rf", "--one-file-system", root.folder)
