"""Trains the model of the example `penguins` with the stock stage `train-tabular`: model.py CSV MODEL-DIR

Runs in the stage's own environment, which `stage-images/train-tabular/test.sh` makes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

COLUMNS = ["species", "island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex"]
# As in examples/penguins/pipeline.yaml.
PARAMS = {"target": "species", "algorithm": "logistic-regression", "seed": 42}


def main(csv: str, model: str) -> None:
    nulls = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    table = pyarrow.csv.read_csv(csv, convert_options=nulls).select(COLUMNS)
    table = table.filter(pc.is_valid(table["body_mass_g"]))
    sources = Path(__file__).resolve().parents[2] / "stage-images" / "train-tabular" / "src"
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.parquet"
        pyarrow.parquet.write_table(table, train)
        facts = Path(folder) / "out"
        facts.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(sources),
            "MILLRACE_INPUT_TRAIN": str(train),
            "MILLRACE_OUTPUT_MODEL": model,
            "MILLRACE_OUT": str(facts),
        }
        command = [sys.executable, "-m", "millrace_train_tabular", "--params", json.dumps(PARAMS)]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
