"""Builds lstmrep._native: C++ once per instruction set, CUDA when an nvcc is found, one shared library.

Environment (all optional):
  LSTMREP_NATIVE=0           no native module: the pure-torch reference only
  LSTMREP_CUDA=auto|1|0      auto: when nvcc is found (a GPU is never asked for); 1: required; 0: without
  LSTMREP_CUDA_ARCHS         default "80;90;100;120": machine code for each, plus PTX for compute_80
  CXX, CUDA_HOME             the C++ compiler, and the toolkit whose bin/nvcc comes before the one on PATH
Every object is compiled on every build: a header that changed can never leave a stale object behind.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
DEFAULT_ARCHS = "80;90;100;120"
PTX_ARCH = "compute_80"
LINUX = sys.platform.startswith("linux")

# -ffp-contract=fast: a * b + c may become one fused multiply-add; no other fast-math. -fno-exceptions
# and -fno-rtti keep symbols of the C++ runtime out of the per-instruction-set objects.
COMMON = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi"]
ISA_COMMON = ["-fno-exceptions", "-fno-rtti"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, *["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd", "-mprefer-vector-width=512"]]
AVX512_BF16 = [*AVX512, "-mavx512bf16"]
ISA_FLAGS = {
    "baseline": [],
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512_bf16": AVX512_BF16,
    "amx": [*AVX512_BF16, "-mamx-tile", "-mamx-bf16"],
}

HOST_SOURCES = ["csrc/bindings/module.cpp", "csrc/cpu/dispatch.cpp"]
ISA_SOURCE = "csrc/cpu/isa.cpp"
CUDA_SOURCES = [
    "csrc/cuda/cta_resident/backward.cu",
    "csrc/cuda/cta_resident/forward.cu",
    "csrc/cuda/frame_loss/launch.cu",
    "csrc/cuda/grid_resident/backward.cu",
    "csrc/cuda/grid_resident/forward.cu",
    "csrc/cuda/pointwise/launch.cu",
    "csrc/cuda/abort.cu",
    "csrc/cuda/device.cu",
]
NO_CUDA_SOURCES = ["csrc/cuda/absent.cpp"]


def headers() -> list[str]:
    """All headers, for `depends`."""
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cuh"))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def find_compiler() -> list[str]:
    """The C++ compiler as a command; one sentence when there is none."""
    if os.environ.get("CXX"):
        command = shlex.split(os.environ["CXX"])
        if shutil.which(command[0]):
            return command
        raise SystemExit(f"lstmrep: CXX names the C++ compiler {command[0]!r}, which is not on PATH.")
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return [name]
    raise SystemExit(
        "lstmrep: no C++ compiler was found; install one (apt install g++) or set LSTMREP_NATIVE=0 "
        "for the pure-torch reference."
    )


def accepts(compiler: list[str], flags: list[str], source: str = "int lstmrep_probe;") -> bool:
    """Whether a small source compiles and links into a shared library with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.cpp")
        path.write_text(source + "\n")
        command = [*compiler, *flags, "-fPIC", "-shared", str(path), "-o", str(Path(folder, "probe.so"))]
        return run(command).returncode == 0


def usable_isas(compiler: list[str]) -> list[str]:
    """Instruction sets to compile, best last."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ["baseline"]
    return [isa for isa, flags in ISA_FLAGS.items() if accepts(compiler, flags)]


class Toolkit:
    """An nvcc, its toolkit root and the architectures to build for."""

    def __init__(self, nvcc: str) -> None:
        self.nvcc = nvcc
        # nvcc may be a wrapper script outside the toolkit: ask it where the toolkit is.
        dryrun = run([nvcc, "-dryrun", "probe.cu"]).stderr
        top = re.search(r"^#\$ TOP=(.*)$", dryrun, re.MULTILINE)
        self.root = Path(top.group(1).strip() if top else Path(nvcc).resolve().parent.parent).resolve()
        library_folders = re.findall(r'-L([^\s"]+)', dryrun)
        folders = [Path(p) for p in library_folders] + [self.root / "lib64", self.root / "lib"]
        found = [p.resolve() for p in folders if (p / "libcudart_static.a").exists()]
        if not found:
            raise SystemExit(
                f"lstmrep: the CUDA toolkit in {self.root} has no libcudart_static.a; install it or set "
                "LSTMREP_CUDA=0 to build without CUDA."
            )
        self.library_folder = found[0]
        wanted = os.environ.get("LSTMREP_CUDA_ARCHS", DEFAULT_ARCHS).replace(",", ";").split(";")
        known = run([nvcc, "--list-gpu-code"]).stdout.split()
        archs = [f"sm_{a.strip()}" for a in wanted if a.strip()]
        for arch in [a for a in archs if known and a not in known]:
            print(f"lstmrep: this nvcc does not know {arch}: skipped")
        self.sass = [a for a in archs if not known or a in known]
        if not self.sass:
            raise SystemExit(
                f"lstmrep: this nvcc knows none of the architectures {', '.join(archs)}; set "
                "LSTMREP_CUDA_ARCHS to some of those that `nvcc --list-gpu-code` prints, or LSTMREP_CUDA=0."
            )
        self.gencode = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in self.sass]
        self.gencode.append(f"-gencode=arch={PTX_ARCH},code={PTX_ARCH}")

    def link_flags(self) -> list[str]:
        return [f"-L{self.library_folder}", "-lcudart_static", "-ldl", "-lpthread", "-lrt"]


def find_toolkit() -> "Toolkit | None":
    """The CUDA toolkit to build with, or none; LSTMREP_CUDA decides what is an error."""
    choice = os.environ.get("LSTMREP_CUDA", "auto")
    if choice not in ("auto", "1", "0"):
        raise SystemExit(f"lstmrep: LSTMREP_CUDA must be auto, 1 or 0, got {choice!r}.")
    if choice == "0":
        return None
    home = os.environ.get("CUDA_HOME")
    nvcc = (shutil.which(str(Path(home, "bin", "nvcc"))) if home else None) or shutil.which("nvcc")
    if nvcc:
        return Toolkit(nvcc)
    if choice == "1":
        raise SystemExit("lstmrep: LSTMREP_CUDA=1, but no nvcc was found in CUDA_HOME/bin or on PATH.")
    return None


class BuildNative(build_ext):
    """Compiles all objects on a few threads and links them into one library."""

    def build_extension(self, ext: Extension) -> None:
        compiler = find_compiler()
        toolkit = find_toolkit()
        isas = usable_isas(compiler)
        probe = "#include <omp.h>\nint n() { return omp_get_num_threads(); }"
        openmp = ["-fopenmp"] if accepts(compiler, ["-fopenmp"], probe) else []
        objects = Path(self.build_temp).resolve() / "objects"
        shutil.rmtree(objects, ignore_errors=True)
        objects.mkdir(parents=True)
        jobs = self.compile_jobs(compiler, toolkit, isas, openmp, objects)
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            results = list(pool.map(run, jobs))
        for command, result in zip(jobs, results, strict=True):
            self.report(command, result)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        link = [*compiler, "-shared", "-o", str(target), *(job[job.index("-o") + 1] for job in jobs), *openmp]
        link += ["-Wl,--exclude-libs,ALL", "-Wl,-s"] if LINUX else ["-undefined", "dynamic_lookup"]
        link += toolkit.link_flags() if toolkit else []
        self.report(link, run(link))
        cuda = f"CUDA for {', '.join([*toolkit.sass, PTX_ARCH])} with {toolkit.nvcc}" if toolkit else "no CUDA"
        print(f"lstmrep: built {target.name}: {', '.join(isas)}; {'OpenMP' if openmp else 'one thread'}; {cuda}")

    def compile_jobs(
        self, compiler: list[str], toolkit: "Toolkit | None", isas: list[str], openmp: list[str], objects: Path
    ) -> list[list[str]]:
        import pybind11

        archs = ";".join([*toolkit.sass, PTX_ARCH]) if toolkit else ""
        macros = [f'-DLSTMREP_VERSION="{self.distribution.get_version()}"', f'-DLSTMREP_CUDA_ARCHS="{archs}"']
        macros += [f"-DLSTMREP_HAS_{isa.upper()}" for isa in isas]
        python = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
        includes = [f"-I{ROOT / 'csrc'}"]
        jobs = []
        # The slowest first, so that the threads finish together.
        if toolkit:
            for source in CUDA_SOURCES:
                target = objects / f"{source.replace('/', '_')}.o"
                host = ["-Xcompiler", "-fPIC,-fvisibility=hidden", "-ccbin", compiler[0]]
                command = [toolkit.nvcc, "-std=c++17", "-O3", *toolkit.gencode, *host, *includes]
                jobs.append([*command, "-c", source, "-o", str(target)])
        for isa in reversed(isas):
            flags = [*COMMON, *ISA_COMMON, *ISA_FLAGS[isa], *openmp, f"-DLSTMREP_ISA={isa}"]
            jobs.append([*compiler, *flags, *includes, "-c", ISA_SOURCE, "-o", str(objects / f"isa_{isa}.o")])
        for source in HOST_SOURCES + ([] if toolkit else NO_CUDA_SOURCES):
            target = objects / f"{source.replace('/', '_')}.o"
            # The bindings only check and forward: -O1 halves their compile time.
            flags = [*COMMON, "-O1", *openmp, *macros, *python]
            jobs.append([*compiler, *flags, *includes, "-c", source, "-o", str(target)])
        return jobs

    def report(self, command: list[str], result: "subprocess.CompletedProcess[str]") -> None:
        """Prints a failed command's output, then ends with one sentence."""
        if self.verbose:
            print(shlex.join(command))
        if result.returncode == 0:
            return
        sys.stderr.write(result.stdout + result.stderr)
        is_cuda = Path(command[0]).name == "nvcc"
        way_out = "LSTMREP_CUDA=0 builds without CUDA" if is_cuda else "LSTMREP_NATIVE=0 builds without native code"
        raise SystemExit(f"lstmrep: this command failed: {shlex.join(command)}; {way_out}.")


def native() -> list[Extension]:
    if os.environ.get("LSTMREP_NATIVE", "1") == "0":
        print("lstmrep: LSTMREP_NATIVE=0: no native module")
        return []
    sources = [*HOST_SOURCES, ISA_SOURCE, *CUDA_SOURCES, *NO_CUDA_SOURCES]
    return [Extension("lstmrep._native", sources=sources, depends=headers())]


setup(
    # triton_kernels/ is at the top level of the repository, and a subpackage when installed.
    packages=[*find_packages(include=["lstmrep", "lstmrep.*"]), "lstmrep.triton_kernels"],
    package_dir={"lstmrep.triton_kernels": "triton_kernels"},
    package_data={"lstmrep": ["py.typed", "*.pyi", "configs/*.toml", "zoo/*/*"]},
    ext_modules=native(),
    cmdclass={"build_ext": BuildNative},
)
