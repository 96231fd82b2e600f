"""Which tables Splitop>TableUpdate moves into huge pages, as the system tells of its memory."""

from __future__ import annotations

import ctypes
import mmap
import pathlib
import re
import time

import numpy as np
import pytest
import tensorflow as tf

from splitop._src.table_update import TableArgs, table_update
from tests.op.buffers import address, read

MEGA = 2**20
WIDTH = 16
SYSTEM = pathlib.Path("/sys/kernel/mm/transparent_hugepage")
COLLAPSE = 25  # MADV_COLLAPSE, which Python's mmap has no name for
MOST = 160 * MEGA  # what a test here has moved


@pytest.fixture(autouse=True)
def _huge_pages():
    """Skips where the system does not give as many huge pages as a test here asks for."""
    size = SYSTEM / "hpage_pmd_size"
    if not size.exists() or int(size.read_text()) != 2 * MEGA:
        pytest.skip("the system has no huge pages of 2 MB")
    settings = [SYSTEM / "enabled", SYSTEM / "hugepages-2048kB" / "enabled"]
    if any("[never]" in setting.read_text() for setting in settings if setting.exists()):
        pytest.skip("the system is set to give no huge pages")
    with mmap.mmap(-1, MOST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for page in range(0, MOST, mmap.PAGESIZE):
            memory[page] = 1
        start = ctypes.c_char.from_buffer(memory)
        whole = -(-ctypes.addressof(start) // (2 * MEGA)) * 2 * MEGA
        del start
        libc = ctypes.CDLL(None, use_errno=True)
        asked = time.perf_counter()
        if libc.madvise(ctypes.c_void_p(whole), ctypes.c_size_t(MOST - 2 * MEGA), COLLAPSE) != 0:
            pytest.skip(f"the system makes no huge pages now: error {ctypes.get_errno()}")
        if (seconds := time.perf_counter() - asked) > 1:
            pytest.skip(f"the op would run out of time: {MOST // MEGA} MB took {seconds:.1f} s")


def pages(variable):
    """Bytes in huge pages of the mapping where a variable's middle is, and the mapping's flags."""
    where = address(read(variable)) + 2 * int(tf.size(variable))
    smaps = pathlib.Path("/proc/self/smaps").read_text()
    for start, end, text in re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) (.*?)(?=^[0-9a-f]+-|\Z)", smaps, re.MULTILINE | re.DOTALL
    ):
        if int(start, 16) <= where < int(end, 16):
            huge = re.search(r"^AnonHugePages: +(\d+) kB", text, re.MULTILINE)
            flags = re.search(r"^VmFlags: (.*)", text, re.MULTILINE)
            return int(huge[1]) * 1024, flags[1].split()
    raise AssertionError(f"nothing is mapped at {where:#x}")


def is_advised(variable):
    return "hg" in pages(variable)[1]


def make_variable(megabytes):
    with tf.device("/CPU:0"):
        return tf.Variable(tf.ones((megabytes * MEGA // (4 * WIDTH), WIDTH)))


def make_step(tables, slots=()):
    """A step on row 3 of each table: of SGD, or of Adagrad where there is a slot for each."""
    rule, hyper = ("adagrad", [0, 0.5, 0]) if slots else ("sgd", [0, 0.5])

    def arguments(number, table):
        gradient, ids = tf.ones((1, WIDTH)), tf.constant([3])
        own = slots[number : number + 1]
        return TableArgs(
            gradient, ids, None, "sum", False, False, table, own, False, f"table {number}"
        )

    @tf.function(autograph=False)
    def step():
        with tf.device("/CPU:0"):
            each = [arguments(number, table) for number, table in enumerate(tables)]
            table_update(each, rule=rule, hyper=tf.constant(hyper, tf.float32))

    return step


def expected_rows(row_3):
    return np.ones((3, WIDTH)) * [[1], [row_3], [1]]


def test_large_tables_are_moved():
    tables = [make_variable(64), make_variable(65)]
    step = make_step(tables)
    for _ in range(2):
        step()
    for table in tables:
        assert is_advised(table)
        assert pages(table)[0] >= 60 * MEGA
        np.testing.assert_array_equal(table[2:5], expected_rows(0))


def test_slots_are_moved():
    table, slot = make_variable(64), make_variable(64)
    make_step([table], (slot,))()
    assert is_advised(slot)
    assert pages(slot)[0] >= 60 * MEGA


def test_small_tables_are_not_moved():
    table = make_variable(48)
    before = pages(table)
    make_step([table])()
    assert pages(table) == before


def test_another_value_is_moved_too():
    table = make_variable(64)
    step = make_step([table])
    step()
    value = table.read_value()  # so that the next step writes to a copy
    step()
    assert address(read(table)) != address(value)
    assert is_advised(table)
    assert pages(table)[0] >= 60 * MEGA
    np.testing.assert_array_equal(value[2:5], expected_rows(0.5))


def test_an_op_moves_for_two_seconds_at_most():
    if "[always]" in (SYSTEM / "enabled").read_text():
        pytest.skip("memory is in huge pages from the start")
    table = make_variable(128)
    step = make_step([table])
    for number in range(200):
        value = table.read_value()
        step()
        assert value[3, 0] == 1 - 0.5 * number
        if pages(table)[0] == 0:
            break
    else:
        pytest.fail("the op still moves what has other memory at each step")
    assert number > 1
