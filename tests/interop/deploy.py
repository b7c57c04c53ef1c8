"""What service managers make of deploy/: systemd-analyze of the unit, PyYAML of the manifest. Called by run.py; a tool that is not there says so."""
import os
import re
import shutil
import tempfile

from servers import run

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, "..", "..", "deploy")
# Of 10, which is a service without any protection. What remains is the network, which is the service.
EXPOSURE = 2.0


def unit(binary, *arguments):
    """The unit with the binary where it is here."""
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(DEPLOY, "hushgate.service"), encoding="utf-8") as file:
        path = os.path.join(folder, "hushgate.service")
        with open(path, "w", encoding="utf-8") as copy:
            copy.write(file.read().replace("/usr/local/bin/hushgate", binary))
        return run("systemd-analyze", *arguments, path)


def verified(binary):
    result = unit(binary, "verify")
    return " ".join((result.stdout + result.stderr).decode().split()) or "nothing to say"


def exposed(binary):
    text = unit(binary, "security", "--offline=yes", "--no-pager").stdout.decode()
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    return "good" if level and float(level[1]) <= EXPOSURE else f"{level and level[1]}"


def manifest():
    try:
        import yaml
    except ImportError:
        return "no PyYAML here"
    with open(os.path.join(DEPLOY, "kubernetes.yaml"), encoding="utf-8") as file:
        return " ".join(part["kind"] for part in yaml.safe_load_all(file))


def rows(binary):
    if shutil.which("systemd-analyze"):
        yield "systemd-analyze verify", "-", "^nothing to say$", verified(binary)
        yield f"systemd-analyze security, at most {EXPOSURE}", "-", "^good$", exposed(binary)
    yield "PyYAML, kubernetes.yaml", "-", "^(ConfigMap Deployment Service PodDisruptionBudget|no PyYAML here)$", manifest()
