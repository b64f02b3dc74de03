"""Compiles every CUDA kernel to PTX and cubin, and describes them in manifest.json: parameters, launch, resources.

``make kernels`` runs it.  For each .cu under csrc/cuda with kernels, and each architecture, nvcc makes the PTX and
ptxas the cubin, whose report gives the resources.  The structs that kernels take, and the ``launch`` comments with the
rule of each launch, are read from the config.h beside the kernel: nothing about them is written twice.  Nothing is
compiled when the manifest has the hash of the same sources, nvcc and architectures.

A launch comment, formulas in Python over N, T, B, H, S (bytes of the I/O type), SMs, fields of the kernel's struct,
ceil_div, min and max; a constant of config.h stands in the manifest as its value.  A kernel is named with its first
template argument where the rule depends on it, and a rule goes on in lines of deeper indentation:

  // launch this_kernel, that_kernel<float>:
  //   grid = min(ceil_div(N * B * H, 256), 8192), 1, 1
  //   block = kThreads, 1, 1
  //   shared = 0
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CSRC = Path(__file__).resolve().parent
VERSION = 1  # of the manifest's form
FLAGS = ["-std=c++17", "-O3", f"-I{CSRC}"]
SUFFIXES = (".h", ".cuh", ".cu", ".cpp", ".py")

POINTER = 8
SIZES = {
    **dict.fromkeys(("bool", "char", "signed char", "unsigned char", "int8_t", "uint8_t"), 1),
    **dict.fromkeys(("short", "unsigned short", "int16_t", "uint16_t"), 2),
    **dict.fromkeys(("int", "unsigned", "unsigned int", "int32_t", "uint32_t", "float"), 4),
    **dict.fromkeys(("long", "unsigned long", "long long", "unsigned long long", "int64_t", "uint64_t"), 8),
    **dict.fromkeys(("double", "size_t", "ptrdiff_t", "intptr_t", "uintptr_t"), 8),
}
FORMULA_NAMES = {"N", "T", "B", "H", "S", "SMs", "ceil_div", "min", "max"}
REPORT = re.compile(
    r"Function properties for (\w+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
    r"(?:(?!Function properties)[\s\S])*?Used (\d+) registers([^\n]*)"
)


def fail(message: str) -> SystemExit:
    """The exception that ends the script with one sentence."""
    return SystemExit(f"make_kernels: {message}")


def run(command: list[str], text: str | None = None) -> str:
    """Stdout and stderr of a command that must succeed."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        raise fail(f"this command failed: {' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def split(text: str, separator: str = ",", brackets: str = "([{)]}") -> list[str]:
    """Parts between separators that are outside all brackets."""
    opening, closing = brackets[: len(brackets) // 2], brackets[len(brackets) // 2 :]
    parts, depth = [""], 0
    for character in text:
        depth += (character in opening) - (character in closing)
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


# --- config.h: structs, constants and launch rules --------------------------------------------------------------------


def with_includes(path: Path, seen: set[Path] | None = None) -> str:
    """The text of a header after that of all headers of csrc that it includes."""
    seen = set() if seen is None else seen
    seen.add(path)
    text = path.read_text()
    parts = []
    for name in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE):
        found = next((p for p in (CSRC / name, path.parent / name) if p.exists()), None)
        if found and found.resolve() not in seen:
            parts.append(with_includes(found.resolve(), seen))
    return "\n".join([*parts, text])


def integer(expression: str, constants: dict[str, int]) -> int | None:
    """The value of an integer expression of C++ over known constants, or None."""
    text = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", expression.replace("'", "")).strip()
    try:
        tree = ast.parse(text, mode="eval")
        known = all(n.id in constants for n in ast.walk(tree) if isinstance(n, ast.Name))
        if not known or any(isinstance(n, (ast.Call, ast.Attribute, ast.Set)) for n in ast.walk(tree)):
            return None
        text = re.sub(r"/(?!/)", "//", text)
        return int(eval(text, {"__builtins__": {}}, dict(constants)))
    except (SyntaxError, ArithmeticError, TypeError, ValueError):
        return None


def read_constants(text: str) -> dict[str, int]:
    """Integers that are ``constexpr`` in the text."""
    constants: dict[str, int] = {}
    for names in re.findall(r"\bconstexpr\s+(?:[a-z]\w*\s+)+(k\w+\s*=[^;]+);", text):
        for one in split(re.sub(r"//[^\n]*", "", names)):
            name, _, expression = one.partition("=")
            value = integer(expression, constants)
            if value is not None:
                constants[name.strip()] = value
    return constants


def read_enums(text: str) -> dict[str, tuple[str, dict[int, str]]]:
    """Enumerations: the type beneath, and the enumerators' names by value."""
    enums = {}
    for name, beneath, body in re.findall(r"\benum\s+(?:class\s+)?(\w+)\s*(?::\s*(\w+)\s*)?\{([^}]*)\}", text):
        names, value = {}, -1
        for one in split(re.sub(r"//[^\n]*", "", body)):
            key, _, expression = one.partition("=")
            given = integer(expression, {n: v for v, n in names.items()}) if expression else None
            value = value + 1 if given is None else given
            names[value] = key.strip()
        enums[name] = (beneath or "int", names)
    return enums


def declarations(body: str) -> list[tuple[str, str]]:
    """(declaration, comment) of each member of a struct.

    A comment is what follows the declaration, with the lines below that start at its column, else the lines above.
    """
    found: list[tuple[str, str]] = []
    code, comments, heading, column, follows = "", [], [], -1, False
    for line in body.split("\n"):
        part, mark, comment = line.partition("//")
        part, comment = part.strip(), comment.strip()
        if not part and not mark:
            heading, column = [], -1
        elif not part and not code:
            if mark and len(line) - len(line.lstrip()) == column:
                found[-1] = (found[-1][0], f"{found[-1][1]} {comment}")
            else:
                heading = [] if follows else heading
                heading.append(comment)
                column, follows = -1, False
        else:
            code = f"{code} {part}".strip()
            comments += [comment] if mark else []
            if code.endswith(";"):
                said = " ".join(comments or heading)
                found += [(one, said) for one in split(code, ";")]
                column = line.index("//") if mark else -1
                code, comments, follows = "", [], True
    return found


@dataclass
class Layout:
    """A type as C lays it out: fields flattened, offsets from its start."""

    size: int
    align: int
    fields: list[dict[str, Any]]


class Config:
    """What a config.h says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = with_includes(path.resolve())
        self.constants = read_constants(self.text)
        self.enums = read_enums(self.text)
        self.launches = self._launches(path.read_text())

    def layout(self, name: str) -> Layout:
        """The layout of a struct by its name."""
        match = re.search(rf"\bstruct\s+(?:alignas\(([^)]*)\)\s*)?{name}\s*\{{", self.text)
        if match is None:
            raise fail(f"{self.path} has no struct {name}, which a kernel takes.")
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(self.text[end], 0)
            end += 1
        asked = integer(match.group(1), self.constants) if match.group(1) else 1
        size, align, fields = 0, asked or 1, []
        for declaration, comment in declarations(self.text[match.end() : end - 1]):
            for kind, field, extents in self._declarators(declaration, name):
                part = self.layout_of(kind, name)
                size = -(-size // part.align) * part.align
                count = 1
                for extent in extents:
                    count *= extent
                fields += self._flattened(part, kind, field, extents, count, size, comment)
                size += part.size * count
                align = max(align, part.align)
        return Layout(-(-size // align) * align, align, fields)

    def layout_of(self, kind: str, where: str = "") -> Layout:
        """The layout of a type: pointer, number, enumeration or struct."""
        if kind.endswith("*"):
            return Layout(POINTER, POINTER, [])
        plain = re.sub(r"\b(const|volatile)\b|(\w+::)+", "", kind).strip()
        plain = self.enums[plain][0] if plain in self.enums else plain
        if plain in SIZES:
            return Layout(SIZES[plain], SIZES[plain], [])
        if not re.fullmatch(r"\w+", plain):
            raise fail(f"{self.path}: the type {kind!r} in {where} is not one this script knows.")
        return self.layout(plain)

    def _declarators(self, declaration: str, where: str) -> list[tuple[str, str, list[int]]]:
        """(type, name, extents) of each name that a declaration declares."""
        found, base = [], ""
        for one in split(declaration):
            plain = re.sub(r"\s*(=|\{).*$|\b__restrict__\b", "", one)
            pattern = r"(?P<stars>\**)\s*" if base else r"(?P<base>.+?)(?P<stars>[\s*]+)"
            match = re.fullmatch(pattern + r"(?P<name>\w+)\s*(?P<dims>(\[[^\]]*\]\s*)*)", plain.strip())
            if match is None or "(" in one:
                raise fail(f"{self.path}: {one!r} in {where} is not a field this script can read.")
            base = base or match["base"].strip()
            extents = [integer(e, self.constants) for e in re.findall(r"\[([^\]]*)\]", match["dims"])]
            if None in extents:
                raise fail(f"{self.path}: the extent of {one!r} in {where} is not a number or constant.")
            found.append((base + "*" * match["stars"].count("*"), match["name"], [e for e in extents if e]))
        return found

    def _flattened(
        self, part: Layout, kind: str, field: str, extents: list[int], count: int, offset: int, comment: str
    ) -> list[dict[str, Any]]:
        if part.fields:
            names = [f"{field}[{k}]" for k in range(count)] if extents else [field]
            return [
                {**inner, "name": f"{name}.{inner['name']}", "offset": offset + k * part.size + inner["offset"]}
                for k, name in enumerate(names)
                for inner in part.fields
            ]
        if kind.endswith("*") and not comment:
            raise fail(f"{self.path}: the pointer {field} has no comment with the shape.")
        shape = re.match(r"(?:\w+ of )?\[[^\]]*\]", comment)
        note = comment[shape.end() :].lstrip(" ,") if shape else comment
        dims = "".join(f"[{e}]" for e in extents)
        size = part.size * count
        shown = shape.group() if shape else ""
        return [{"name": field, "type": kind + dims, "offset": offset, "size": size, "shape": shown, "note": note}]

    def _launches(self, text: str) -> dict[str, dict[str, Any]]:
        """The rules in the launch comments, by kernel name."""
        rules: dict[str, dict[str, Any]] = {}
        kernels: list[str] = []
        rule: dict[str, str] = {}
        last = ""
        for line in [*text.split("\n"), ""]:
            start = re.match(r"\s*// launch ([\w, <>]+):$", line)
            member = re.match(r"\s*//\s+(grid|block|shared) = (.*)", line)
            more = re.match(r"\s*//\s{2,}(\S.*)", line)
            if start is None and kernels and member:
                last = member[1]
                rule[last] = member[2].strip()
            elif start is None and kernels and more and last:
                rule[last] += " " + more[1].strip()
            else:
                rules.update(dict.fromkeys(kernels, self._rule(kernels, rule)) if kernels else {})
                kernels, rule, last = split(start[1]) if start else [], {}, ""
        return rules

    def _rule(self, kernels: list[str], rule: dict[str, str]) -> dict[str, Any]:
        parts = {key: [self._formula(f) for f in split(rule.get(key, ""))] for key in ("grid", "block", "shared")}
        if [len(p) for p in parts.values()] != [3, 3, 1]:
            raise fail(f"{self.path}: the launch of {', '.join(kernels)} needs three of grid and of block, one shared.")
        return {"grid": parts["grid"], "block": parts["block"], "shared": parts["shared"][0]}

    def _formula(self, text: str) -> str:
        return re.sub(r"\bk[A-Z]\w*", lambda m: str(self.constants.get(m[0], m[0])), text)


def check_formula(formula: str, fields: set[str], where: str) -> None:
    """End the script unless a formula is Python over the names that formulas may have."""
    try:
        tree = ast.parse(formula, mode="eval")
    except SyntaxError:
        raise fail(f"the formula {formula!r} in the launch of {where} is not Python.") from None
    known = FORMULA_NAMES | fields
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Div):
            raise fail(f"the formula {formula!r} in the launch of {where} divides with /; use // or ceil_div.")
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in inner and ast.unparse(node) not in known:
            raise fail(f"the formula {formula!r} in the launch of {where} has the unknown name {ast.unparse(node)}.")


# --- nvcc and ptxas ---------------------------------------------------------------------------------------------------


class Toolkit:
    """nvcc, the ptxas beside it, and a demangler."""

    def __init__(self) -> None:
        home = os.environ.get("CUDA_HOME")
        nvcc = (shutil.which(str(Path(home, "bin", "nvcc"))) if home else None) or shutil.which("nvcc")
        if nvcc is None:
            raise fail("no nvcc was found in CUDA_HOME/bin or on PATH.")
        self.nvcc = nvcc
        release = re.search(r"\bV(\d+\.\d+\.\d+)", run([nvcc, "--version"]))
        self.version = release.group(1) if release else "unknown"
        # nvcc may be a wrapper script outside the toolkit: ask it where the toolkit is.
        dryrun = subprocess.run([nvcc, "-dryrun", "probe.cu"], capture_output=True, text=True, check=False).stderr
        top = re.search(r"^#\$ TOP=(.*)$", dryrun, re.MULTILINE)
        self.bin = Path(top.group(1).strip() if top else Path(nvcc).resolve().parent.parent).resolve() / "bin"
        self.ptxas = self._tool("ptxas")
        self.demangler = self._tool("cu++filt", "c++filt")

    def _tool(self, *names: str) -> str:
        found = [shutil.which(str(self.bin / name)) or shutil.which(name) for name in names]
        usable = [path for path in found if path]
        if not usable:
            raise fail(f"none of {', '.join(names)} was found in {self.bin} or on PATH.")
        return usable[0]

    def demangle(self, symbols: list[str]) -> list[str]:
        """Readable signatures of mangled symbols."""
        return run([self.demangler], "\n".join(symbols) + "\n").splitlines() if symbols else []


@dataclass
class Compiled:
    """One source for one architecture."""

    ptx: str
    cubin: str
    entries: list[str]
    resources: dict[str, dict[str, int]]


def compile_one(toolkit: Toolkit, source: Path, arch: str, folder: Path) -> Compiled:
    """PTX, cubin and the compiler's report."""
    stem = str(source.relative_to(CSRC / "cuda").with_suffix("")).replace(os.sep, "_")
    ptx, cubin = f"{stem}.compute_{arch}.ptx", f"{stem}.sm_{arch}.cubin"
    run([toolkit.nvcc, *FLAGS, "-ptx", f"-arch=compute_{arch}", "-o", str(folder / ptx), str(source)])
    entries = re.findall(r"^\s*(?:\.visible |\.weak )?\.entry (\w+)", (folder / ptx).read_text(), re.MULTILINE)
    if not entries:
        (folder / ptx).unlink()
        return Compiled(ptx, cubin, [], {})
    report = run([toolkit.ptxas, f"-arch=sm_{arch}", "-v", "-o", str(folder / cubin), str(folder / ptx)])
    resources = {}
    for name, stack, stores, loads, registers, rest in REPORT.findall(report):
        shared = re.search(r"(\d+) bytes smem", rest)
        resources[name] = {
            "registers": int(registers),
            "stack": int(stack),
            "spill_stores": int(stores),
            "spill_loads": int(loads),
            "shared_static": int(shared.group(1)) if shared else 0,
        }
    missing = sorted(set(entries) - set(resources))
    if missing:
        raise fail(f"the report of ptxas for {source.name}, sm_{arch}, does not have {', '.join(missing)}.")
    return Compiled(ptx, cubin, entries, {name: resources[name] for name in entries})


# --- the manifest -----------------------------------------------------------------------------------------------------


def readable(signature: str, enums: dict[str, tuple[str, dict[int, str]]]) -> tuple[str, list[str]]:
    """A demangled signature's kernel with its template arguments, and the types of its parameters."""

    def enumerator(match: re.Match[str]) -> str:
        names = enums[match[1]][1] if match[1] in enums else {}
        name = names.get(int(match[2]), match[2])
        return re.sub(r"^k(?=[A-Z])", "", name).lower() if name != match[2] else name

    text = signature.replace("(anonymous namespace)::", "").strip()
    text = re.sub(r"\b(?:\w+::)+", "", re.sub(r"\((?:\w+::)*(\w+)\)(-?\d+)\b", enumerator, text))
    depth, start = 0, len(text)
    while start == len(text) or depth:
        start -= 1
        depth += (text[start] == ")") - (text[start] == "(")
    head = text[:start]
    if "<" in head or " " in head.split("<")[0]:
        head = re.sub(r"^\w+ (?=\w)", "", head)  # templates show what they return
    types = [t for t in split(text[start + 1 : -1], brackets="(<)>") if t != "void"]
    return head, types


def parameter_names(kernel: str, folder: Path) -> list[str]:
    """Names of a kernel's parameters in its definition; empty when it is not found."""
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".cu", ".cuh", ".h")):
        text = re.sub(r"//[^\n]*", "", path.read_text())
        match = re.search(rf"__global__[^;{{}}]*?\b{kernel}\s*\(([^)]*)\)", text)
        if match:
            return [re.split(r"[\s*&]+", one)[-1] for one in split(match[1])]
    return []


def describe(config: Config, signature: str, folder: Path, enums: dict[str, Any]) -> dict[str, Any]:
    """Name, parameters and launch of a kernel."""
    name, types = readable(signature, enums)
    base = name.split("<")[0]
    names = parameter_names(base, folder)
    names = names if len(names) == len(types) else [f"parameter_{k}" for k in range(len(types))]
    parameters = []
    for parameter, kind in zip(names, types, strict=True):
        part = config.layout_of(kind, base)
        alone = {"name": parameter, "type": kind, "offset": 0, "size": part.size, "shape": "", "note": ""}
        fields = part.fields or [alone]
        parameters.append({"name": parameter, "type": kind, "size": part.size, "align": part.align, "fields": fields})
    first = re.match(r"\w+<\w+", name)
    found = [key for key in (f"{first[0]}>" if first else "", base) if key in config.launches]
    if not found:
        raise fail(f"{config.path} has no launch comment for {name}.")
    rule = config.launches[found[0]]
    fields = {field["name"] for p in parameters for field in p["fields"]}
    fields |= {f"{p['name']}.{field['name']}" for p in parameters for field in p["fields"]}
    for formula in [*rule["grid"], *rule["block"], rule["shared"]]:
        check_formula(formula, fields, name)
    return {"name": name, "parameters": parameters, "launch": rule}


def sources_hash(toolkit: Toolkit, archs: list[str]) -> str:
    """Hash of everything that the output depends on."""
    digest = hashlib.sha256(" ".join([str(VERSION), toolkit.version, *archs]).encode())
    for path in sorted(p for p in CSRC.rglob("*") if p.suffix in SUFFIXES):
        digest.update(f"\0{path.relative_to(CSRC)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def is_current(out: Path, wanted: str) -> bool:
    """Whether the output there has this hash and all of its files."""
    try:
        manifest = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    names = {name for k in manifest["kernels"] for pair in k["files"].values() for name in pair.values()}
    return bool(manifest.get("hash") == wanted and all((out / name).exists() for name in names))


def build(out: Path, archs: list[str], jobs: int) -> bool:
    """Make the folder's kernels and manifest; False when they are already there."""
    toolkit = Toolkit()
    key = sources_hash(toolkit, archs)
    if is_current(out, key):
        return False
    sources = sorted((CSRC / "cuda").rglob("*.cu"))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".making") as name, ThreadPoolExecutor(jobs) as pool:
        folder = Path(name)
        made = {
            (source, arch): pool.submit(compile_one, toolkit, source, arch, folder)
            for source in sources
            for arch in archs
        }
        try:
            compiled = {where: future.result() for where, future in made.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        kernels = [
            kernel
            for source in sources
            for kernel in describe_source(toolkit, source, {a: compiled[source, a] for a in archs})
        ]
        manifest = {"version": VERSION, "nvcc": toolkit.version, "hash": key, "archs": archs, "kernels": kernels}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        # The manifest last: with it, all the files that it names are there.
        (out / "manifest.json").unlink(missing_ok=True)
        files = sorted(p for p in folder.iterdir() if p.name != "manifest.json")
        for old in [*out.glob("*.ptx"), *out.glob("*.cubin")]:
            if not (folder / old.name).exists():
                old.unlink()
        for path in [*files, folder / "manifest.json"]:
            path.replace(out / path.name)
    return True


def describe_source(toolkit: Toolkit, source: Path, compiled: dict[str, Compiled]) -> list[dict[str, Any]]:
    """The manifest's items for the kernels of one source."""
    first = next(iter(compiled.values()))
    for arch, one in compiled.items():
        if set(one.entries) != set(first.entries):
            raise fail(f"{source.name} has other kernels for sm_{arch} than for the other architectures.")
    if not first.entries:
        return []
    path = source.parent / "config.h"
    if not path.exists():
        raise fail(f"{source.relative_to(CSRC.parent)} has kernels, but no config.h lies beside it.")
    config = Config(path)
    headers = sorted(p for p in CSRC.rglob("*") if p.suffix in (".h", ".cuh"))
    enums = {key: value for header in headers for key, value in read_enums(header.read_text()).items()}
    items = []
    for entry, signature in zip(first.entries, toolkit.demangle(first.entries), strict=True):
        said = describe(config, signature, source.parent, {**enums, **config.enums})
        items.append(
            {
                "entry": entry,
                "name": said["name"],
                "source": str(source.relative_to(CSRC.parent)),
                "files": {arch: {"ptx": one.ptx, "cubin": one.cubin} for arch, one in compiled.items()},
                "parameters": said["parameters"],
                "launch": said["launch"],
                "resources": {arch: one.resources[entry] for arch, one in compiled.items()},
            }
        )
    return items


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="PTX, cubins and manifest.json of all CUDA kernels.")
    parser.add_argument("--out", type=Path, default=CSRC.parent / "build" / "kernels", help="folder to write to")
    parser.add_argument("--archs", default="80,90,100,120", help="architectures, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
    options = parser.parse_args()
    archs = [arch for arch in re.split(r"[,; ]+", options.archs) if arch]
    if not archs or options.jobs < 1:
        parser.error("--archs needs an architecture, and --jobs at least one.")
    made = build(options.out.resolve(), archs, options.jobs)
    count = len(json.loads((options.out / "manifest.json").read_text())["kernels"])
    print(f"make_kernels: {count} kernels for {', '.join(archs)} in {options.out}{'' if made else ', unchanged'}")


if __name__ == "__main__":
    main()
