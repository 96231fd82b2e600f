"""Prints what the compiler made of every CUDA kernel in the kernels library: `make cuda-report`.

Of each kernel and architecture: registers, bytes of stack and of static shared memory, the
instructions that reach local memory (spilled registers, arrays with a computed index), and how
many of the loads and stores of global memory take 16 bytes at a time. (On sm_90, 1024 bytes of
the shared memory are the system's.)
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator

LIBRARY = "libsplitop_kernels.so"

# Kernels that may use local memory, and why.
MAY_USE_LOCAL_MEMORY = {
    r"\bdouble\b": "float64 is there for tests",
    r"update_kernel<float16, float, FtrlRule": "one register, around its power function",
    r", false\b": "rows that do not all start at a multiple of 16 bytes",
}

ARCHITECTURE = re.compile(r"^arch = (\w+)")
RESOURCES = re.compile(r"^ Function ([\w$.]+):")
FUNCTION = re.compile(r"^\s+Function : ([\w$.]+)")
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")
OUR_NAMESPACES = re.compile(r"^void |\(anonymous namespace\)::|splitop::(cuda::)?")

LOCAL = ("LDL", "STL")
# cp.async, which copies from global to shared memory, is LDGSTS.
GLOBAL = {"loads": "LDG", "copies": "LDGSTS", "stores": "STG"}


@dataclasses.dataclass
class Kernel:
    """One kernel for one architecture."""

    name: str
    architecture: str
    registers: int = 0
    stack_bytes: int = 0
    local_bytes: int = 0
    shared_bytes: int = 0
    instructions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @property
    def local_accesses(self) -> int:
        """Loads and stores of local memory."""
        return sum(self.count(opcode) for opcode in LOCAL)

    @property
    def uses_local_memory(self) -> bool:
        return bool(self.stack_bytes or self.local_bytes or self.local_accesses)

    @property
    def may_use_local_memory(self) -> bool:
        return any(re.search(pattern, self.name) for pattern in MAY_USE_LOCAL_MEMORY)

    def count(self, opcode: str, modifier: str | None = None) -> int:
        """Instructions with this opcode, and this modifier (`.128`) if one is given."""
        return sum(
            number
            for instruction, number in self.instructions.items()
            if instruction.split(".")[0] == opcode
            and (modifier is None or modifier in instruction.split("."))
        )


def find_cuobjdump() -> str | None:
    """The toolkit's cuobjdump, or the one of the package nvidia-cuda-cuobjdump."""
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if found is not None:
        return found
    try:
        files = importlib.metadata.files("nvidia-cuda-cuobjdump") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "cuobjdump"), None)


def kernels(cuobjdump: str, library: pathlib.Path) -> list[Kernel]:
    """All kernels of a library, by name and architecture."""
    found = parse_resources(_output(cuobjdump, "--dump-resource-usage", str(library)))
    parse_code(_output(cuobjdump, "--dump-sass", str(library)), found)
    for kernel, name in zip(
        found.values(), demangle([kernel.name for kernel in found.values()]), strict=True
    ):
        kernel.name = name
    return sorted(found.values(), key=lambda kernel: (kernel.name, kernel.architecture))


def parse_resources(lines: Iterable[str]) -> dict[tuple[str, str], Kernel]:
    """Kernels by architecture and mangled name, from `cuobjdump --dump-resource-usage`."""
    found = {}
    architecture = name = ""
    for line in lines:
        if match := ARCHITECTURE.match(line):
            architecture = match[1]
        elif match := RESOURCES.match(line):
            name = match[1]
        elif line.startswith("  REG:"):
            used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
            found[architecture, name] = Kernel(
                name,
                architecture,
                registers=used["REG"],
                stack_bytes=used["STACK"],
                local_bytes=used["LOCAL"],
                shared_bytes=used["SHARED"],
            )
    return found


def parse_code(lines: Iterable[str], found: dict[tuple[str, str], Kernel]) -> None:
    """Counts each kernel's instructions, from `cuobjdump --dump-sass`."""
    architecture = ""
    instructions: collections.Counter[str] = collections.Counter()
    for line in lines:
        if match := INSTRUCTION.match(line):
            instructions[match[1]] += 1
        elif match := ARCHITECTURE.match(line):
            architecture = match[1]
        elif match := FUNCTION.match(line):
            instructions = found[architecture, match[1]].instructions


def demangle(names: list[str]) -> list[str]:
    """C++ names without parameters and our namespaces; the same where there is no c++filt."""
    command = shutil.which("c++filt")
    if command is None or not names:
        return names
    result = subprocess.run(
        [command, "--no-params"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return [OUR_NAMESPACES.sub("", name) for name in result.stdout.splitlines()]


def _output(*command: str) -> Iterator[str]:
    """Lines that a command prints, as they come: disassembly is long."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def table(found: Iterable[Kernel]) -> str:
    """One line a kernel and architecture."""
    header = ["arch", "registers", "stack", "shared", "LDL/STL"]
    header += [f"16-byte {kind}" for kind in GLOBAL]
    rows = [[*header, "kernel"]]
    for kernel in found:
        wide = [
            f"{kernel.count(opcode, '128')} of {kernel.count(opcode)}" for opcode in GLOBAL.values()
        ]
        numbers = [
            kernel.registers,
            kernel.stack_bytes + kernel.local_bytes,
            kernel.shared_bytes,
            kernel.local_accesses,
        ]
        rows.append([kernel.architecture, *map(str, numbers), *wide, kernel.name])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [*(cell.rjust(width) for cell, width in zip(row, widths, strict=True))][:-1] + row[-1:]
        )
        for row in rows
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table.

    Returns:
        0 if no kernel uses local memory that should not, else 1.
    """
    parser = argparse.ArgumentParser(description="What the compiler made of every CUDA kernel.")
    parser.add_argument("library", nargs="?", type=pathlib.Path, help=f"default: the {LIBRARY}")
    library = parser.parse_args(argv).library
    if library is None:
        import splitop.lib

        library = pathlib.Path(splitop.lib.__path__[0]) / LIBRARY
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("There is no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm.")
        return 1
    found = kernels(cuobjdump, library)
    if not found:
        print(f"There are no CUDA kernels in {library}.")
        return 1
    print(table(found))
    spilled = [
        kernel for kernel in found if kernel.uses_local_memory and not kernel.may_use_local_memory
    ]
    print(f"\n{len(found)} kernels; {len(spilled)} use local memory that should not.")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
