"""Which tables Splitop>TableUpdate moves into huge pages, as the system tells of its memory."""

from __future__ import annotations

import ctypes
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src.table_update import TableArgs, table_update
from tests.op.buffers import address, read

MEGA = 2**20
WIDTH = 16
COLLAPSE = 25  # MADV_COLLAPSE, which Python's mmap has no name for
SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture(autouse=True)
def _huge_pages():
    """Skips where the system has none to give."""
    if not SETTING.exists() or "[never]" in SETTING.read_text():
        pytest.skip("the system has no transparent huge pages")
    memory = np.ones(8 * MEGA, np.uint8)
    whole = -(-memory.ctypes.data // (2 * MEGA)) * 2 * MEGA
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(whole), ctypes.c_size_t(2 * MEGA), COLLAPSE) != 0:
        pytest.skip(f"the system makes no huge page at once: error {ctypes.get_errno()}")


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


def make_step(tables):
    """A step of SGD on row 3 of each table."""

    @tf.function(autograph=False)
    def step():
        gradient = tf.ones((1, WIDTH))
        table_update(
            [
                TableArgs(gradient, tf.constant([3]), None, "sum", False, False, v, (), False, "t")
                for v in tables
            ],
            rule="sgd",
            hyper=tf.constant([0.0, 0.5]),
        )

    return step


def make_table(megabytes):
    return tf.Variable(tf.ones((megabytes * MEGA // (4 * WIDTH), WIDTH)))


def test_large_tables_are_moved_a_part_at_a_time():
    tables = [make_table(64), make_table(65)]
    step = make_step(tables)
    step()
    huge, flags = pages(tables[0])
    assert "hg" in flags
    if "[always]" not in SETTING.read_text():
        assert 16 * MEGA <= huge < 64 * MEGA
    for _ in range(9):
        step()
    for table in tables:
        assert pages(table)[0] >= 60 * MEGA
        np.testing.assert_array_equal(table[2:5], np.ones((3, 1)) * [[1], [-4], [1]] * np.ones(16))


def test_small_tables_are_not_moved():
    table = make_table(32)
    step = make_step([table])
    for _ in range(2):
        step()
    assert "hg" not in pages(table)[1]


def test_a_table_that_moves_each_step_is_given_up():
    table = make_table(64)
    step = make_step([table])
    values = []
    for _ in range(5):
        values.append(table.read_value())  # so that the step writes to a copy
        step()
    assert "hg" not in pages(table)[1]
    assert [float(each[3, 0]) for each in values] == [1, 0.5, 0, -0.5, -1]
