"""Options that several commands share."""

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change params.yaml first, as `dvc exp run -S` does."),
]

Values = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="SECTION.KEY=VALUE", help="For this run alone; params.yaml stays as it is."),
]

AsJson = Annotated[bool, typer.Option("--json", help="Last line of standard output: the result as one JSON object.")]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Let --out replace a file that Darkroom didn't write; never one it reads.")
]

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Folder a class; table (.csv, .parquet, .jsonl); zip archive; tar shards; s3://, gs:// or az:// address; "
        "torchvision:NAME; `digits`. Default: the current data.",
    ),
]
