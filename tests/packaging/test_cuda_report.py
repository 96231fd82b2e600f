"""What the compiler made of the CUDA kernels (tools/cuda_report.py)."""

from __future__ import annotations

import pathlib
import re

import pytest

from splitop._src import library
from tools import cuda_report

RESOURCES = """
Fatbin elf code:
================
arch = sm_80
Resource usage:
 Common:
  GLOBAL:0
 Function _ZN7splitop4copyIfLi3EEEvPKT_PS1_:
  REG:10 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:372 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _ZN7splitop7spilledEPf:
  REG:255 STACK:512 SHARED:0 LOCAL:0 CONSTANT[0]:372 TEXTURE:0 SURFACE:0 SAMPLER:0
Fatbin elf code:
================
arch = sm_90
 Function _ZN7splitop4copyIfLi3EEEvPKT_PS1_:
  REG:12 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:548 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
CODE = """
arch = sm_80
\tcode for sm_80
\t\tFunction : _ZN7splitop4copyIfLi3EEEvPKT_PS1_
\t.headerflags\t@"EF_CUDA_SM80 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM80)"
        /*0000*/                   LDG.E.128.CONSTANT R4, [R2.64] ;                 /* 0x0000 */
                                                                                    /* 0x0001 */
        /*0010*/              @!P0 LDG.E R4, [R2.64] ;                              /* 0x0000 */
        /*0020*/                   LDGSTS.E.BYPASS.128 [R8], [R2.64] ;              /* 0x0000 */
        /*0030*/             @!UP0 STG.E.128 [R8.64], R4 ;                          /* 0x0000 */
        /*0040*/                   STG.E.64 [R8.64], R4 ;                           /* 0x0000 */
\t\tFunction : _ZN7splitop7spilledEPf
        /*0000*/                   STL.64 [R1], R4 ;                                /* 0x0000 */
        /*fff0*/               @P1 LDL R4, [R1] ;                                   /* 0x0000 */
arch = sm_90
\t\tFunction : _ZN7splitop4copyIfLi3EEEvPKT_PS1_
        /*0000*/                   LDG.E.64 R4, [R2.64] ;                           /* 0x0000 */
"""


def parsed() -> list[cuda_report.Kernel]:
    found = cuda_report.parse_resources(RESOURCES.splitlines())
    cuda_report.parse_code(CODE.splitlines(), found)
    return list(found.values())


def test_resources() -> None:
    copy, spilled, newer = parsed()
    assert (copy.architecture, newer.architecture) == ("sm_80", "sm_90")
    assert (copy.registers, copy.shared_bytes, newer.registers) == (10, 1024, 12)
    assert spilled.stack_bytes == 512


def test_instructions() -> None:
    copy, spilled, newer = parsed()
    assert [(copy.count(opcode, "128"), copy.count(opcode)) for opcode in ("LDG", "LDGSTS")] == [
        (1, 2),
        (1, 1),
    ]
    assert (copy.count("STG", "128"), copy.count("STG")) == (1, 2)
    assert (newer.count("LDG", "128"), newer.count("LDG")) == (0, 1)
    assert (copy.local_accesses, spilled.local_accesses) == (0, 2)


@pytest.mark.parametrize("field", ["stack_bytes", "local_bytes"])
def test_local_memory(field: str) -> None:
    copy, spilled, _ = parsed()
    assert spilled.uses_local_memory
    assert not copy.uses_local_memory
    setattr(copy, field, 8)
    assert copy.uses_local_memory


def test_table() -> None:
    header, *rows = cuda_report.table(parsed()).splitlines()
    assert header.split()[:5] == ["arch", "registers", "stack", "shared", "LDL/STL"]
    assert " ".join(rows[0].split()[:-1]) == "sm_80 10 0 1024 0 1 of 2 1 of 1 1 of 2"
    assert " ".join(rows[1].split()[:-1]) == "sm_80 255 512 0 2 0 of 0 0 of 0 0 of 0"


def test_names() -> None:
    names = cuda_report.demangle([kernel.name for kernel in parsed()])
    if names[0].startswith("_Z"):
        pytest.skip("there is no c++filt")
    assert names == ["copy<float, 3>", "spilled", "copy<float, 3>"]


@pytest.fixture(scope="module")
def kernels() -> list[cuda_report.Kernel]:
    """Those of the installed library."""
    config = library.build_config()
    if config is None or config.cuda in (None, "emulated"):
        pytest.skip("the CUDA kernels are not built")
    cuobjdump = cuda_report.find_cuobjdump()
    if cuobjdump is None:
        pytest.skip("there is no cuobjdump")
    path: pathlib.Path = library.directory() / cuda_report.LIBRARY
    return cuda_report.kernels(cuobjdump, path)


def test_no_kernel_uses_local_memory(kernels: list[cuda_report.Kernel]) -> None:
    spilled = [
        kernel for kernel in kernels if kernel.uses_local_memory and not kernel.may_use_local_memory
    ]
    assert kernels
    assert not spilled, "\n" + cuda_report.table(spilled)


@pytest.mark.parametrize("pattern", cuda_report.MAY_USE_LOCAL_MEMORY)
def test_an_exception_is_needed(pattern: str, kernels: list[cuda_report.Kernel]) -> None:
    named = [kernel for kernel in kernels if re.search(pattern, kernel.name)]
    assert any(kernel.uses_local_memory for kernel in named)
    assert len(named) < len(kernels)


def test_every_kernel_is_there_for_every_architecture(kernels: list[cuda_report.Kernel]) -> None:
    by_architecture = {
        architecture: [kernel.name for kernel in kernels if kernel.architecture == architecture]
        for architecture in ("sm_80", "sm_90")
    }
    assert by_architecture["sm_80"] == by_architecture["sm_90"] != []
