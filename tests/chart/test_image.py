"""The image, as far as that can be seen without an engine that builds it."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import yaml

from support import CHART, ROOT

DOCKERFILE = ROOT / "Dockerfile"
Stage = list[tuple[str, str]]


def stages() -> list[Stage]:
    """The instructions of each stage, with their arguments in one line."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            instruction, arguments = line.split(maxsplit=1)
            if instruction == "FROM":
                found.append([])
            found[-1].append((instruction, arguments))
    return found


def of(stage: Stage, instruction: str) -> list[str]:
    return [arguments for name, arguments in stage if name == instruction]


def one(stage: Stage, instruction: str) -> str:
    (arguments,) = of(stage, instruction)
    return arguments


def copied(stage: Stage) -> list[str]:
    """What comes from the repository."""
    words = [shlex.split(it) for it in of(stage, "COPY") if "--from" not in it]
    return [source for each in words for source in each[:-1]]


def builder() -> str:
    return os.environ.get("HEEDWELL_BIN", str(ROOT / "target/debug/heedwell"))


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    return set(listed.stdout.splitlines())


def ignored(path: str) -> bool:
    """What .dockerignore says: the last line that fits the path, or a folder above it, decides."""
    decision = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip("/")
        if not pattern or line.startswith("#"):
            continue
        above = [PurePosixPath(path), *PurePosixPath(path).parents]
        if any(len(it.parts) == len(PurePosixPath(pattern).parts) and it.match(pattern) for it in above):
            decision = not line.startswith("!")
    return decision


def test_hadolint_finds_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_that_is_copied_is_there() -> None:
    files = tracked()
    for source in [source for stage in stages() for source in copied(stage)]:
        below = {it for it in files if it == source or it.startswith(f"{source}/")}
        assert below, f"{source} is not in the repository"
        assert not {it for it in below if ignored(it)}, f"{source} is kept from the build"


def test_nothing_else_reaches_the_build() -> None:
    strange = [".git/config", "target/release/heedwell", "heedwell-data/master-key", "tests/vectors/keys/rsa-2048.pem", "web/src/main.ts"]
    for path in strange:
        assert ignored(path), path
    assert len([it for it in tracked() if not ignored(it)]) < 0.7 * len(tracked())


def test_everything_that_the_server_is_made_of_is_copied() -> None:
    """Cargo wrote down what it read to build the binary, files that are included and those of build.rs among them."""
    made_of = Path(f"{builder()}.d").read_text().replace("\\ ", "\0").split(": ", 1)[1].split()
    read = {str(Path(it.replace("\0", " ")).relative_to(ROOT)) for it in made_of if Path(it).is_relative_to(ROOT)}
    # A folder that is looked at whole, and what cargo itself makes.
    read = {it for it in read if not it.startswith("target/")}
    assert {"build.rs", "src/main.rs", "migrations/src/lib.rs", "web/dist/index.html"} <= read
    sources = copied(stages()[0])
    missing = {it for it in read if not any(it == source or it.startswith(f"{source}/") for source in sources)}
    assert not missing, missing


def test_the_stand_ins_make_a_workspace_that_cargo_takes(tmp_path: Path) -> None:
    build = stages()[0]
    first = next(place for place, (instruction, _) in enumerate(build) if instruction == "RUN")
    for source in copied(build[:first]):
        target = tmp_path / source
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / source).read_bytes())
    before = build[first][1].split("&& cargo")[0]
    subprocess.run(["sh", "-euc", before], cwd=tmp_path, check=True)
    # A build of nothing: all is read that a build reads, and nothing compiled.
    command = ["cargo", "build", "--release", "--locked", "--offline", "--bin", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "no bin target named `nothing`" in done.stderr, done.stderr
    # Its own code is compiled, and not the stand-ins for it.
    assert all(f"--package {it}" in build[first][1] for it in ("heedwell", "heedwell-migrations"))


def test_both_builds_have_the_same_locked_dependencies() -> None:
    builds = [it for run in of(stages()[0], "RUN") for it in re.findall(r"cargo build[^&]*", run)]
    assert len(builds) == 2 and len({it.strip() for it in builds}) == 1
    assert "--locked" in builds[0] and "--release" in builds[0]


def test_nothing_runs_as_root_or_through_a_shell() -> None:
    last = stages()[-1]
    assert "distroless" in one(last, "FROM") and not of(last, "RUN")
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert one(last, "USER") == f"{values['runAs']}:{values['runAs']}"
    for instruction in ("ENTRYPOINT", "CMD"):
        assert one(last, instruction).startswith("["), instruction
    assert re.search(r"CMD \[", one(last, "HEALTHCHECK"))


def test_base_images_are_named_exactly() -> None:
    for stage in stages():
        image = one(stage, "FROM").split()[0]
        assert re.search(r":[\w.-]+$|@sha256:[0-9a-f]{64}$", image) and not image.endswith(":latest"), image
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert f"rust:{manifest['workspace']['package']['rust-version']}" in one(stages()[0], "FROM")


def test_image_chart_and_crate_are_of_one_version() -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
    assert f"VERSION={version}" in of(stages()[-1], "ARG")
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', one(stages()[-1], "LABEL")))
    assert set(labels) == {"title", "description", "licenses", "version", "revision"}
    assert labels["version"] == "${VERSION}" and labels["licenses"] == "Apache-2.0"


def test_the_binary_has_each_verb_that_it_is_called_with() -> None:
    last = stages()[-1]
    verbs = re.findall(r'"([a-z]+)"\]', one(last, "CMD") + one(last, "HEALTHCHECK"))
    deployed = re.findall(r"args: \[(\w+)\]", "".join(it.read_text() for it in (CHART / "templates").glob("*.yaml")))
    assert set(verbs) == {"serve", "health"} and set(deployed) == {"serve", "migrate"}
    for verb in {*verbs, *deployed}:
        done = subprocess.run([builder(), verb, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{verb}: {done.stderr}"
