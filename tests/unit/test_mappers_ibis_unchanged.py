"""Importing `mappers` changes nothing of Ibis for the rest of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import importlib, pkgutil, sys
import ibis
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from ibis.backends.sql.compilers.pyspark import PySparkCompiler

table = ibis.table({"a": "string", "b": "boolean", "c": "array<string>"}, name="t")
columns = dict(part=table.a.substr(1, 2), none=(~table.b).isnull(), some=(~table.b).notnull())
expression = table.select(**columns, joined=table.c.concat(["x"]), two=ibis.array(["x"]).concat(["y"]))


def seen():
    compilers = (SQLGlotCompiler, DuckDBCompiler, PySparkCompiler)
    methods = [dict(vars(compiler)) for compiler in compilers]
    return [str(ibis.to_sql(expression, dialect=name)) for name in ("duckdb", "pyspark")], methods


def import_everything():
    import mappers
    names = [module.name for module in pkgutil.walk_packages(mappers.__path__, "mappers.")]
    assert "mappers.engines.duckdb_sql" in names
    for name in names:
        importlib.import_module(name)


before = seen()
import_everything()
assert seen() == before, "the first import changed Ibis"
for name in [name for name in sys.modules if name.split(".")[0] == "mappers"]:
    del sys.modules[name]
import_everything()
assert seen() == before, "the second import changed Ibis"
from mappers.engines.duckdb_sql import to_sql
print(to_sql(expression))
"""


@pytest.fixture(scope="module")
def run() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)


def test_ibis_writes_the_same_sql_before_and_after_mappers_are_imported(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stderr


def test_our_own_compiler_writes_its_corrections(run: subprocess.CompletedProcess[str]) -> None:
    sql = " ".join(run.stdout.split())
    assert 'SUBSTRING("t0"."a", 2, 2) AS "part"' in sql
    assert '( NOT ( "t0"."b" ) ) IS NULL AS "none"' in sql
    assert "LIST_CONCAT(CAST(['x'] AS TEXT[]), ['y']) AS \"two\"" in sql
