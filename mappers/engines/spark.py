"""Spark behind Ibis, in this machine: the other engine of the mapping (`periop[spark]`, Java 17).

The SQL is written by `mappers.engines.spark_sql`. What Spark says of a query may quote a resource, so an error of it is
told by its class only, and its log is off.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis.expr.types as ir
import pyarrow as pa

from mappers.engines.base import CUTOFF, RESOURCE, Engine, Files, error_of, hmac_pads, nullable_frame
from mappers.engines.spark_json import whole_json
from mappers.engines.spark_sql import SparkCompiler
from mappers.errors import MappingError

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

INSTALL = 'Spark is not installed; install "periop-fhir[spark]", or take the engine duckdb'
JAVA = "Spark did not start; it needs Java 17 or later (JAVA_HOME, or java on the PATH), or take the engine duckdb"
BATCH = 1 << 16  # rows
NOT_JSON = "periop: no JSON: "
GLOB = re.compile(r"([][{}*?\\,])")  # Hadoop takes a path for a pattern

SESSION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # an overflow ends the query instead of giving a wrong number
    "spark.sql.caseSensitive": "true",  # as JSON and FHIR are
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",  # a sum of DECIMAL(38,18) keeps its 18 places
    "spark.sql.json.enablePartialResults": "true",  # an element of the wrong type does not spoil its siblings
    "spark.sql.json.enableExactStringParsing": "true",  # the digits of a number as they stand
    "spark.sql.optimizer.enableJsonExpressionOptimization": "false",  # parse once, whole
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.legacy.createHiveTableByDefault": "false",
}


class SparkEngine(Engine):
    """A Spark in this process with the settings and functions that the mapping needs. Close it, or use it in `with`.

    Args:
        threads: worker threads; as many as there are cores by default.
        memory_limit: memory of Java, e.g. "2GB"; Spark's default (1 GB) by default.
        temp_directory: where to spill, and to keep temporary tables; the system's own place by default.
        hmac_key: key of the SQL function `periop_hmac(text)`, as `mappers.engines.duckdb.DuckDBEngine` has it.
        settings: more settings of Spark, by name.
        session: a session of one's own, e.g. of a cluster, to run in; it is left open. Its settings are not changed,
        because the engine opens a session of its own beside it.

    Raises:
        MappingError: Spark is not installed, or Java is not there.
    """

    name = "spark"

    def __init__(
        self,
        threads: int | None = None,
        memory_limit: str | None = None,
        temp_directory: Path | None = None,
        hmac_key: bytes | None = None,
        settings: Mapping[str, str] | None = None,
        session: SparkSession | None = None,
    ) -> None:
        if temp_directory is not None:
            temp_directory.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="periop-spark-", dir=temp_directory))
        self._given = session is not None
        try:
            self._session = (session or _start(threads, memory_limit, self._folder, settings or {})).newSession()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        for key, value in SESSION.items():
            self._session.conf.set(key, value)
        self.con: Any = _backend(self._session)
        self._filled: dict[str, Path] = {}
        if hmac_key is not None:
            self._session.sql(hmac_function(hmac_key))

    def close(self) -> None:
        """End Spark and its Java, unless the session was given; delete what was spilled."""
        if not self._given:
            _stop(self._session)
        shutil.rmtree(self._folder, ignore_errors=True)

    def register_parquet(self, name: str, parts: Sequence[Files], schema: pa.Schema) -> None:
        """Name the rows of Parquet files, which are read by each query; no files are an empty table of `schema`."""
        rows = [self._rows_of(part) for part in parts] or [self._session.createDataFrame(schema.empty_table())]
        reduce(lambda some, more: some.union(more), rows).createOrReplaceTempView(name)

    def _rows_of(self, files: Files) -> DataFrame:
        from pyspark.sql.functions import lit

        rows = self._session.read.parquet(*map(_literal_path, files.paths))
        return rows.withColumns({name: lit(value) for name, value in files.constants.items()})

    def read_ndjson(self, path: str | Path) -> ir.Table:
        """Return the resources of an NDJSON file as a table with the string column `resource`; blank lines are none.

        A line that is no JSON ends the query that reads it, with a `MappingError`.
        """
        lines = self._session.read.text(_literal_path(path), lineSep="\n")
        checked = (
            f"CASE WHEN {whole_json('value')} THEN value ELSE raise_error({_quoted_text(f'{NOT_JSON}{path}')}) END"
        )
        name = self._name("ndjson")
        rows = lines.where(r"btrim(value, ' \t\r') <> ''").selectExpr(f"{checked} AS {RESOURCE}")
        rows.createOrReplaceTempView(name)
        return self.con.table(name)

    def resources(self, texts: Sequence[str]) -> ir.Table:
        """Return JSON texts as a table with the string column `resource`."""
        return self.register_rows(self._name("resources"), pa.table({RESOURCE: pa.array(texts, pa.string())}))

    def register_rows(self, name: str, rows: pa.Table) -> ir.Table:
        """Name rows that are in memory."""
        whole = rows.combine_chunks()  # Spark reads no chunk that comes after an empty one
        self._session.createDataFrame(whole).createOrReplaceTempView(name)
        return self.con.table(name)

    def create_view(self, name: str, sql: str) -> None:
        """Name a query, which runs whenever the name is read."""
        self._session.sql(sql).createOrReplaceTempView(name)

    def compile(self, table: ir.Table) -> str:
        """Return the SQL of an expression, with its columns cast to the types that Ibis expects of them."""
        return _with_types(str(self.con.compile(table)), table)

    def create_table_as(self, name: str, sql: str) -> None:
        """Run a query once into Parquet files and name its rows."""
        replaced = self._filled.get(name)
        self._filled[name] = self._written(sql)
        self._session.read.parquet(str(self._filled[name])).createOrReplaceTempView(name)
        if replaced is not None:
            shutil.rmtree(replaced)

    def write_parquet(self, sql: str, folder: Path) -> tuple[Path, ...]:
        """Run SQL into new Parquet files in `folder`; a result without rows makes none."""
        import pyarrow.parquet as pq

        written = self._written(sql)
        files = [file for file in sorted(written.glob("part-*.parquet")) if pq.read_metadata(file).num_rows]
        moved = tuple(Path(shutil.move(file, folder / f"part-{uuid.uuid4()}.parquet")) for file in files)
        shutil.rmtree(written)
        return moved

    def reader(self, sql: str, rows: int) -> pa.RecordBatchReader:
        """Run SQL into Parquet files, then stream them in batches of at most `rows` rows, in the order of the result.

        By way of files the result need not fit into the memory of Java. They are deleted with the last batch.
        """
        import pyarrow.parquet as pq

        folder = self._written(sql)
        files = sorted(folder.glob("part-*.parquet"))
        # The types that DuckDB would give: nulls are possible everywhere, and items are called `l`.
        schema = pa.schema([pa.field(field.name, _type(field.type)) for field in pq.read_schema(files[0])])

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for file in files:
                    with pq.ParquetFile(file) as opened:
                        for batch in opened.iter_batches(rows):
                            yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def arrow(self, sql: str) -> pa.Table:
        """Return the result of SQL."""
        return self.reader(sql, BATCH).read_all()

    def frame(self, table: ir.Table) -> pd.DataFrame:
        """Return the rows of an expression; integers and booleans in the nullable types of pandas.

        Raises:
            CardinalityError: a resource has several values where a column takes one.
        """
        return nullable_frame(self.arrow(self.compile(table)))

    def set_data_cutoff(self, day: date) -> None:
        """Let the SQL function `periop_cutoff()` return `day` from now on."""
        self._session.sql(f"CREATE OR REPLACE TEMPORARY FUNCTION {CUTOFF}() RETURNS DATE RETURN DATE '{day}'")

    def _written(self, sql: str) -> Path:
        """Run SQL into a new folder of Parquet files."""
        folder = self._folder / self._name("rows")
        with _explained():
            self._session.sql(sql).write.parquet(str(folder))
        return folder


def hmac_function(key: bytes) -> str:
    """The SQL that makes `periop_hmac(text)`: HMAC-SHA-256 of the UTF-8 text, in hex (RFC 2104)."""
    inner, outer = hmac_pads(key)
    inside = f"unhex(sha2(concat(unhex('{inner}'), encode(m, 'UTF-8')), 256))"
    return (
        "CREATE OR REPLACE TEMPORARY FUNCTION periop_hmac(m STRING) RETURNS STRING "
        f"RETURN sha2(concat(unhex('{outer}'), {inside}), 256)"
    )


def _start(threads: int | None, memory_limit: str | None, folder: Path, more: Mapping[str, str]) -> SparkSession:
    """A Spark in this machine, without a page of its own, deaf to other machines and silent."""
    try:
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkRuntimeError
        from pyspark.java_gateway import launch_gateway
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MappingError(INSTALL) from error
    settings = {
        "spark.master": f"local[{threads or '*'}]",
        "spark.app.name": "periop",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.log.level": "OFF",
        "spark.local.dir": str(folder / "spill"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.shuffle.partitions": "8",  # for one machine; 200 tasks would cost more than the rows
        "spark.sql.artifact.isolation.enabled": "false",
    }
    if memory_limit is not None:
        settings["spark.driver.memory"] = _java_memory(memory_limit)
    conf = SparkConf(loadDefaults=False)
    for key, value in (settings | dict(more)).items():
        conf.set(key, value)
    try:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # stdout is for the results of periop
        return SparkSession(SparkContext(conf=conf, gateway=launch_gateway(conf, quiet)))  # type: ignore[no-untyped-call]
    except PySparkRuntimeError as error:
        raise MappingError(JAVA) from error


def _stop(session: SparkSession) -> None:
    """End Spark and the Java process that was started for it."""
    from pyspark import SparkContext

    gateway: Any = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()  # Java waits for this
    gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None  # else the next one would ask the process that has ended


def _backend(session: SparkSession) -> Any:
    from ibis.backends.pyspark import Backend

    class SparkBackend(Backend):  # type: ignore[misc]  # Ibis is untyped
        compiler = SparkCompiler()

    return SparkBackend().connect(session)


def _java_memory(limit: str) -> str:
    """ "1.5GB" as Java writes it: "1536m".

    Raises:
        MappingError: no number with MB or GB.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([MG])i?B", limit, re.IGNORECASE)
    if found is None:
        raise MappingError(f"the memory limit {limit!r} is not understood; write it as 512MB or 2GB")
    return f"{int(float(found[1]) * (1024 if found[2].upper() == 'G' else 1))}m"


def _with_types(sql: str, table: ir.Table) -> str:
    """`sql` with its columns cast, which costs Spark nothing where it sees the same type."""
    types = {name: SparkCompiler.type_mapper.to_string(dtype) for name, dtype in table.schema().items()}
    columns = ", ".join(f"CAST(`{name}` AS {dtype}) AS `{name}`" for name, dtype in types.items())
    return f"SELECT {columns} FROM (\n{sql}\n)"  # noqa: S608  names and types of the expression


def _type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_list(dtype):
        return pa.list_(pa.field("l", _type(dtype.value_type)))
    if pa.types.is_struct(dtype):
        return pa.struct([pa.field(field.name, _type(field.type)) for field in dtype])
    return dtype


def _literal_path(path: str | Path) -> str:
    return GLOB.sub(r"\\\1", str(Path(path).absolute()))


def _quoted_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def _explained() -> Iterator[None]:
    """An error of Spark in a sentence that quotes no resource.

    Raises:
        CardinalityError: a resource has several values where a column takes one.
        MappingError: whatever else Spark says.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        raise _own_error(str(error), str(error.getCondition())) from None
    except Py4JError as error:
        raise _own_error(str(error), type(error).__name__) from None


def _own_error(message: str, condition: str) -> MappingError:
    if own := error_of(message):
        return own
    if NOT_JSON in message:
        file = message.split(NOT_JSON, 1)[1].split("\n", 1)[0].split(" SQLSTATE", 1)[0].strip()
        return MappingError(f"{file}: a line is not JSON; NDJSON has one whole resource a line")
    return MappingError(f"Spark could not run the mapping ({condition}); run it with the engine duckdb, which says why")
