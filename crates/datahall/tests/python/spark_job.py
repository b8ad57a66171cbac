"""Spark with two worker processes of its own (`local-cluster`): a group-by and a round trip through Parquet."""
import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import sum as total

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
os.environ["PYSPARK_PYTHON"] = sys.executable
spark = (
    SparkSession.builder.master("local-cluster[2,1,600]")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.executor.memory", "512m")
    .getOrCreate()
)
table = spark.range(1000).selectExpr("id % 3 as key", "id")
place = os.path.abspath("spark-table")
table.groupBy("key").agg(total("id").alias("sum")).write.mode("overwrite").parquet(place)
sums = {row["key"]: row["sum"] for row in spark.read.parquet(place).collect()}
assert sums == {key: sum(range(key, 1000, 3)) for key in range(3)}, sums
executors = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
print(f"sums {sorted(sums.values())} on {executors} executors", flush=True)
spark.stop()
