"""Front door and nox file: `python3 noxfile.py tests` needs nothing but Python and git.

As a script (any Python from 3.8 on, standard library only) it finds uv or pip, makes an environment with nox under
`.tools/` and lets nox run the sessions named. For people who have nox, `nox -s tests` runs the same sessions.

Exit codes: 0 everything ran and passed; 1 something failed; 2 no tool, or bad usage; 3 what ran passed, but the real
servers of some tests could not be had (`SMW_ALLOW_MISSING=redis,...` accepts that, except in CI).
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOLS = ROOT / ".tools"
RESULTS = ROOT / ".nox" / "results"
CONSTRAINTS = ROOT / "constraints.txt"
MATRIX = ["3.11", "3.12", "3.13"]
OLDEST = (3, 11)
CHAOS = ["tests/properties/test_cache_coherence.py", "tests/properties/test_cache_coherence_fleet.py"]
CHAOS += ["tests/faults/test_cache_chaos.py", "tests/faults/test_cache_chaos_topologies.py"]

# Names and versions only: where packages come from is what this machine is configured for.
os.environ["PIP_CONSTRAINT"] = os.environ["UV_BUILD_CONSTRAINT"] = str(CONSTRAINTS)
os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
os.environ.setdefault("UV_SYSTEM_CERTS", "true")
if os.environ.get("CI"):
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"

# --- sessions (defined only when nox reads this file) -------------------------------------------------------------

if __name__ not in ("__main__", "front_door"):
    import nox

    nox.options.sessions = ["tests"]
    nox.options.error_on_missing_interpreters = True
    nox.options.default_venv_backend = "uv|venv"
    nox.options.download_python = "never"
    nox.options.reuse_venv = "yes"

    # An interpreter that pyenv keeps but has not activated hides behind a shim that only prints an error.
    kept = Path(os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))) / "versions"
    if kept.is_dir():
        active = [name for name in os.environ.get("PYENV_VERSION", "").split(":") if name]
        newest = [path.name for minor in MATRIX for path in sorted(kept.glob(minor + ".*"))[-1:]]
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys([*active, *newest, "system"]))

    def took(title: str, started: float) -> None:
        """Print the time of one step."""
        print("step       {:<24} {:6.1f} s".format(title, time.monotonic() - started), flush=True)

    def step(session: nox.Session, title: str, *command: str, **options: object) -> None:
        """Run one command and print how long it took."""
        started = time.monotonic()
        try:
            session.run(*command, **options)
        finally:
            took(title, started)

    def prepare(session: nox.Session, *extras: str, groups: tuple[str, ...]) -> None:
        """Fill the environment once; a stamp spares the second run every look at a package index."""
        project = nox.project.load_toml("pyproject.toml")
        wanted = ["-e", ".[{}]".format(",".join(extras)) if extras else "."]
        wanted += dict.fromkeys(nox.project.dependency_groups(project, *groups))
        key = hashlib.sha256(repr((wanted, str(ROOT))).encode())
        key.update(CONSTRAINTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
        stamp = Path(session.virtualenv.location, "smw-stamp")
        started = time.monotonic()
        if not stamp.exists() or stamp.read_text() != key.hexdigest():
            session.install("-c", str(CONSTRAINTS), *wanted)
            stamp.write_text(key.hexdigest())
        took("environment", started)

    def incomplete(session: nox.Session, title: str, *command: str) -> None:
        """Run a command that writes what it missed; anything missed ends the session as INCOMPLETE, never green."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        result = RESULTS / (session.name + ".json")
        if result.exists():
            result.unlink()
        step(session, title, *command, env={"SMW_RESULT": str(result)})
        if json.loads(result.read_text())["missing"]:
            session.error("INCOMPLETE")

    def pytest(session: nox.Session, *args: str) -> None:
        """Run pytest with the session's own arguments and then the user's."""
        incomplete(session, "pytest", "python", "-m", "pytest", *args, *session.posargs)

    def servers(session: nox.Session) -> None:
        """Fetch the real servers; those that cannot be had are reported by the tests that miss them."""
        step(session, "services", "python", "-m", "tests.services")

    @nox.session
    def tests(session: nox.Session) -> None:
        """Run the whole suite against real servers, and the checks that keep the house; extras are for `wheel`."""
        prepare(session, "all", groups=("test", "lint", "arch", "typing", "docs", "migrate", "build"))
        servers(session)
        pytest(session, "--ignore", "tests/arch/test_wheel_extras.py")

    @nox.session
    def lint(session: nox.Session) -> None:
        """Run ruff (rules and format), deptry and vulture."""
        prepare(session, "all", groups=("lint",))
        step(session, "ruff check", "ruff", "check", ".")
        step(session, "ruff format", "ruff", "format", "--check", ".")
        step(session, "deptry", "deptry", ".")
        step(session, "vulture", "vulture")

    @nox.session
    def types(session: nox.Session) -> None:
        """Run mypy (strict) and pyright over the package and the examples."""
        prepare(session, "all", groups=("typing",))
        step(session, "mypy", "mypy")
        step(session, "pyright", "pyright", "--pythonpath", str(Path(session.bin, "python")))

    @nox.session
    def typing_api(session: nox.Session) -> None:
        """Ask mypy and pyright what users' code sees: every decorator keeps `F -> F`."""
        prepare(session, "all", groups=("typing",))
        pytest(session, "tests/typing_api")

    @nox.session
    def arch(session: nox.Session) -> None:
        """Check layers, module sizes, import budget, banned calls and the public API."""
        prepare(session, "all", groups=("test", "arch"))
        step(session, "import-linter", "lint-imports")
        pytest(session, "tests/arch", "-m", "not house")

    @nox.session
    def properties(session: nox.Session) -> None:
        """Run the hypothesis properties alone."""
        prepare(session, "all", groups=("test",))
        pytest(session, "tests/properties")

    @nox.session
    def faults(session: nox.Session) -> None:
        """Run the fault tests alone: servers that are down, hang or answer garbage."""
        prepare(session, "all", groups=("test",))
        servers(session)
        pytest(session, "tests/faults")

    @nox.session
    def chaos(session: nox.Session) -> None:
        """Search the cache's protocol in full and hurt real servers for minutes: `SMW_CHAOS_S` each, 60 by default."""
        prepare(session, "all", groups=("test",))
        servers(session)
        session.env["SMW_COHERENCE"] = "full"
        session.env["SMW_CHAOS_S"] = os.environ.get("SMW_CHAOS_S", "60")
        pytest(session, *CHAOS)

    @nox.session
    def examples(session: nox.Session) -> None:
        """Run what a reader would copy: the example service in small, the snippets of README and docs."""
        prepare(session, "all", groups=("test", "migrate"))
        servers(session)
        step(session, "music agent", "python", "-m", "examples.music_agent.demo", "--requests", "300")
        pytest(session, "tests/docs", "tests/integration/examples")

    @nox.session
    def docs(session: nox.Session) -> None:
        """Build the documentation, strict and offline: a dead reference fails."""
        prepare(session, "all", groups=("docs",))
        shutil.rmtree(str(ROOT / "docs" / "_build"), ignore_errors=True)
        step(session, "sphinx", "sphinx-build", "-nW", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")

    @nox.session
    def bench(session: nox.Session) -> None:
        """Measure against the named peers; arguments go to `python -m benchmarks`."""
        prepare(session, "all", groups=("bench",))
        servers(session)
        step(session, "benchmarks", "python", "-m", "benchmarks", *session.posargs)

    @nox.session
    def wheel(session: nox.Session) -> None:
        """Build twice to the same hash; install alone and with each extra in clean environments, run what it is for."""
        prepare(session, groups=("test", "build"))
        pytest(session, "tests/arch/test_wheel.py", "tests/arch/test_wheel_extras.py")

    @nox.session
    def demo(session: nox.Session) -> None:
        """Show the main job: a music service under all eight decorators; no server needed."""
        prepare(session, "fastapi", "flask", "redis", "memcached", "crypto", "cli", "otel", groups=("serve",))
        step(session, "demo", "python", "-m", "examples.music_agent.demo", *session.posargs)

    @nox.session
    def invisible(session: nox.Session) -> None:
        """Run other projects' own suites with smw around every application and without: nothing may differ."""
        prepare(session, "fastapi", "flask", "otel", groups=("invisible",))
        step(session, "suites", "python", "-m", "tests.invisible", *session.posargs)

    @nox.session(python=MATRIX)
    def matrix(session: nox.Session) -> None:
        """Run unit and contract tests on Python 3.11, 3.12 and 3.13; a missing one fails."""
        prepare(session, "all", groups=("test",))
        servers(session)
        pytest(session, "tests/unit", "tests/contract")

    @nox.session(venv_backend="none")
    def services(session: nox.Session) -> None:
        """Fetch the real servers that the tests use, and nothing else."""
        incomplete(session, "services", sys.executable, "-m", "tests.services")

    @nox.session
    def constraints(session: nox.Session) -> None:
        """Renew constraints.txt: the newest versions that resolve on every supported Python."""
        session.install("uv")
        groups = sorted(nox.project.load_toml("pyproject.toml")["dependency-groups"])
        command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--upgrade", "--all-extras", "-q"]
        command += ["--no-emit-index-url", "--no-annotate", "--no-header", "--python-version", MATRIX[0]]
        command += [flag for group in groups for flag in ("--group", group)]
        step(session, "resolve", *command, "-o", str(CONSTRAINTS), env={"UV_BUILD_CONSTRAINT": ""})


# --- front door (standard library only) ---------------------------------------------------------------------------


class NoWayError(Exception):
    """The machine lacks something; the text says what and how to get it."""


def pin(package: str) -> str:
    """Return the version that constraints.txt names for a package."""
    found = re.search(r"^{}==([^\s;]+)".format(re.escape(package)), CONSTRAINTS.read_text(), re.MULTILINE)
    if found is None:
        raise NoWayError("constraints.txt names no version of " + package)
    return found.group(1)


def sessions() -> dict[str, str]:
    """Read the sessions and their first lines out of this file, without nox."""
    nodes = ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    return {
        node.name: (ast.get_docstring(node) or "").splitlines()[0]
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    }


def run(*command: object) -> bool:
    """Run a command, show what it prints, and tell whether it succeeded."""
    return subprocess.run([str(word) for word in command], check=False).returncode == 0


def answer(*command: object) -> str:
    """Return what a command prints, or an empty string when it fails or does not exist."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def program(home: Path, name: str) -> Path:
    """Return the path of a program in a virtual environment."""
    return home / ("Scripts" if os.name == "nt" else "bin") / (name + (".exe" if os.name == "nt" else ""))


def find_pip() -> list[str]:
    """Return a working pip: this Python's own, or that of a fresh environment; empty when there is none."""
    if answer(sys.executable, "-m", "pip", "--version"):
        return [sys.executable, "-m", "pip"]
    inner = str(program(TOOLS / "venv", "python"))
    if not answer(inner, "-m", "pip", "--version"):
        answer(sys.executable, "-m", "venv", "--clear", TOOLS / "venv")
    return [inner, "-m", "pip"] if answer(inner, "-m", "pip", "--version") else []


def find_uv() -> str:
    """Return uv: from PATH when not older than the pin, else fetched by pip into .tools; empty when neither works."""
    wanted = pin("uv")
    present = re.search(r"uv (\d[\d.]*)", answer("uv", "--version"))
    if present and [int(n) for n in present.group(1).split(".")] >= [int(n) for n in wanted.split(".")]:
        return str(shutil.which("uv"))
    home = TOOLS / ("uv-" + wanted)
    name = "uv.exe" if os.name == "nt" else "uv"
    if (home / name).exists():
        return str(home / name)
    pip = find_pip()
    wheels = TOOLS / "wheels"
    print("tool       uv {} by pip, into .tools/".format(wanted), flush=True)
    fetch = ("download", "-q", "--no-deps", "--only-binary", ":all:", "-d", wheels, "uv==" + wanted)
    if not pip or not run(*pip, *fetch):
        return ""
    with zipfile.ZipFile(str(next(wheels.glob("uv-{}-*.whl".format(wanted))))) as archive:
        member = next(entry for entry in archive.namelist() if entry.endswith("/scripts/" + name))
        data = archive.read(member)
    home.mkdir(parents=True, exist_ok=True)
    partial = home / "partial"
    partial.write_bytes(data)
    partial.chmod(0o755)
    partial.rename(home / name)
    return str(home / name)


def uv_index() -> dict[str, str]:
    """Return pip's configured indexes in uv's terms, unless uv has its own: uv does not read pip's files."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")):
        return {}
    configured = answer(sys.executable, "-m", "pip", "config", "list")
    found = {}
    for option, variable in (("index-url", "UV_DEFAULT_INDEX"), ("extra-index-url", "UV_INDEX")):
        match = re.search(r"^[\w:]+\.{}='(.*)'$".format(option), configured, re.MULTILINE)
        if match:
            found[variable] = " ".join(match.group(1).replace("\\n", " ").split())
    return found


def find_python(uv: str) -> str:
    """Return an interpreter that smw supports: the running one, one that uv finds, or one that uv may fetch."""
    if sys.version_info >= OLDEST:
        return sys.executable
    wanted = ">=3.11,<3.14"
    found = uv and answer(uv, "python", "find", "--no-python-downloads", wanted)
    if not found and uv and os.environ.get("UV_PYTHON_DOWNLOADS") != "never" and run(uv, "python", "install", "3.13"):
        found = answer(uv, "python", "find", wanted)
    if not found:
        have = "{}.{}".format(*sys.version_info[:2])
        raise NoWayError("smw needs Python 3.11 or newer, this is {}; install one and start it with that".format(have))
    return found


def nox_python() -> tuple[str, str]:
    """Return the interpreter of an environment with nox, made when missing, and uv (or an empty string)."""
    uv = find_uv()
    if uv:
        os.environ.update(uv_index())
    python = find_python(uv)
    if not uv and not find_pip():
        raise NoWayError(
            "neither uv nor pip is here. One of these helps:\n"
            "  apt install python3-pip python3-venv     (Debian, Ubuntu; other systems: the package with pip)\n"
            "  install uv and put it on PATH"
        )
    home, key = TOOLS / "nox", "{} {} {}".format(python, pin("nox"), bool(uv))
    inner, stamp = program(home, "python"), home / "smw-stamp"
    if not (inner.exists() and stamp.exists() and stamp.read_text() == key):
        print("tool       nox {}, into .tools/".format(pin("nox")), flush=True)
        shutil.rmtree(str(home), ignore_errors=True)
        if uv:
            install = [uv, "pip", "install", "-q", "--python", inner]
            done = run(uv, "venv", "-q", "--no-project", "--python", python, home)
        else:
            install = [inner, "-m", "pip", "install", "-q"]
            done = run(python, "-m", "venv", home)
        if not done or not run(*install, "-c", CONSTRAINTS, "nox"):
            raise NoWayError("nox could not be installed (see above); is a package index configured and reachable?")
        stamp.write_text(key)
    return str(inner), uv


def verdict(report: Path) -> int:
    """Turn nox's failure into 3 when sessions are incomplete and nothing else, into 1 otherwise."""
    missing = set()
    try:
        entries = json.loads(report.read_text())["sessions"]
        for entry in entries:
            if entry["result"] == "success":
                continue
            result = json.loads((RESULTS / (entry["name"] + ".json")).read_text())
            if result["exit"] != 0 or not result["missing"]:
                return 1
            missing.update(result["missing"])
    except (OSError, KeyError, ValueError):
        return 1
    if not missing:
        return 1
    print("INCOMPLETE: what ran passed, but these servers could not be had: " + ", ".join(sorted(missing)))
    return 3


def usage(text: str = "") -> int:
    """Print the sessions, one line each."""
    print(text or (__doc__ or ""))
    print("usage: python3 noxfile.py SESSION... [-- ARGUMENTS]\n")
    for name, line in sessions().items():
        print("  {:<12} {}".format(name, line))
    return 2 if text else 0


def main(arguments: list[str]) -> int:
    """Run the sessions named, with everything after `--` passed on to them."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    names, passed = arguments[:cut], arguments[cut + 1 :]
    if not names or names[0] in ("-h", "--help", "-l", "--list"):
        return usage()
    for name in names:
        if name not in sessions():
            near = difflib.get_close_matches(name, sessions(), 1)
            return usage("no session '{}'{}\n".format(name, "; did you mean '{}'?".format(near[0]) if near else ""))
    started = time.monotonic()
    try:
        python, uv = nox_python()
    except NoWayError as error:
        print("cannot start: {}".format(error), file=sys.stderr)
        return 2
    shutil.rmtree(str(RESULTS), ignore_errors=True)
    RESULTS.mkdir(parents=True)
    print("step       {:<24} {:6.1f} s".format("tools", time.monotonic() - started), flush=True)
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONHOME")}
    if uv:
        env["PATH"] = os.pathsep.join([str(Path(uv).parent), env.get("PATH", "")])
    report = RESULTS / "nox.json"
    command = [python, "-m", "nox", "-f", __file__, "--report", str(report), "-s", *names]
    command += ["--default-venv-backend", "uv" if uv else "venv", "--", *passed]
    code = subprocess.run(command, check=False, env=env, cwd=str(ROOT)).returncode
    print("step       {:<24} {:6.1f} s".format("all", time.monotonic() - started), flush=True)
    return verdict(report) if code == 1 else code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
