#!/usr/bin/env python3
"""Fails when a manifest of the workspace asks for a crate that no source of its package names.

Such a crate is compiled by everybody, is audited by everybody, and lets what it brings creep in unseen. A dependency must
be named in `src` or `build.rs`; a dev-dependency there or in tests, examples and benches. What is there for another
reason stands in KEPT, with that reason; an entry of KEPT that is not needed any more fails, too.

What it does not see: a crate that only tests name and that is a dependency, not a dev-dependency, is found only where
those tests are outside of `src`; and a module that bears a crate's name is taken for the crate.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FEATURE = "k8s-openapi compiles only with the feature of one version of Kubernetes, which a library leaves to its users"

# (package, crate) that no source names, and why it is asked for all the same.
KEPT = {
    ("indexbuild", "parking_lot"): "asked for here, its feature arc_lock is the same for `cargo build` and `cargo test`",
    ("indexbuild-lifecycle", "k8s-openapi"): FEATURE,
}


def without_comments(text):
    """The text without its `//` comments; documentation stays, since its links and examples name crates, too."""
    return re.sub(r"^(\s*)//(?![/!]).*$|(?<=[\s;{},])//(?![/!]).*$", r"\1", text, flags=re.MULTILINE)


def sources(paths):
    """The text of all Rust sources at or below the paths that exist, and of those elsewhere that they say `#[path]` of."""
    texts, read, waiting = [], set(), list(paths)
    while waiting:
        path = waiting.pop()
        for file in [path] if path.is_file() else sorted(path.rglob("*.rs")):
            if file.resolve() in read:
                continue
            read.add(file.resolve())
            text = without_comments(file.read_text(encoding="utf-8"))
            texts.append(text)
            for elsewhere in re.findall(r'#\[path = "([^"]+)"\]', text):
                module = (file.parent / elsewhere).resolve()
                waiting.append(module.parent if module.name == "mod.rs" else module)
    return "\n".join(texts)


def names(text, crate):
    """Whether the text has a path that begins with the crate, or imports the crate itself."""
    name = re.escape(crate.replace("-", "_"))
    path = rf"(?<![\w:]){name}\s*::|(?<![\w:])::{name}\s*::"
    return re.search(rf"{path}|\b(?:use|extern crate)\s+(?:::)?{name}\s*(?:;|as\b)", text) is not None


def features(wanted):
    """The features that a dependency's entry asks for by itself."""
    return set(wanted.get("features", ())) if isinstance(wanted, dict) else set()


def problems_of(manifest, folder, kept):
    """What is wrong with one package, a sentence each; the entries of `kept` that it needs are added to that set."""
    package = manifest["package"]["name"]
    targets = [target for kind in ("bin", "test", "example", "bench") for target in manifest.get(kind, [])]
    built = sources([folder / "src", folder / "build.rs"])
    tested = sources([folder / name for name in ("tests", "examples", "benches")])
    tested += sources([folder / target["path"] for target in targets if "path" in target])
    dependencies = manifest.get("dependencies", {})
    problems = []

    def judge(crate, section, used, advice=""):
        if used:
            return
        if (package, crate) in KEPT:
            kept.add((package, crate))
        else:
            problems.append(f"{package}: {section}: no source names {crate}{advice}")

    for crate in dependencies:
        advice = ", but tests do: it is a dev-dependency" if names(tested, crate) else ""
        judge(crate, "dependencies", names(built, crate), advice)
    for crate, wanted in manifest.get("dev-dependencies", {}).items():
        if crate not in dependencies:
            judge(crate, "dev-dependencies", names(built + tested, crate))
        elif not features(wanted) - features(dependencies[crate]):
            problems.append(f"{package}: dev-dependencies: {crate} is a dependency already")
    for crate in manifest.get("build-dependencies", {}):
        judge(crate, "build-dependencies", names(sources([folder / "build.rs"]), crate))
    return problems


def asked_for(manifest):
    """The crates that a package takes from the workspace's list."""
    sections = [manifest.get(name, {}) for name in ("dependencies", "dev-dependencies", "build-dependencies")]
    return {
        crate
        for section in sections
        for crate, wanted in section.items()
        if isinstance(wanted, dict) and wanted.get("workspace")
    }


def main():
    """Returns the exit code."""
    folders = [ROOT, *sorted(path.parent for path in ROOT.glob("crates/*/Cargo.toml"))]
    manifests = {folder: tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8")) for folder in folders}
    problems, kept = [], set()
    for folder, manifest in manifests.items():
        problems += problems_of(manifest, folder, kept)
    listed = set(manifests[ROOT]["workspace"]["dependencies"])
    unused = listed.difference(*map(asked_for, manifests.values()))
    problems += [f"workspace.dependencies: no package asks for {crate}" for crate in sorted(unused)]
    problems += [f"{sys.argv[0]}: KEPT has {crate} of {package} for nothing" for package, crate in sorted(set(KEPT) - kept)]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
