"""The adapter to Great Expectations: a table and its expectations in, plain answers out."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation


@dataclass(frozen=True)
class Answer:
    passed: bool
    broken_rows: list[int]
    broken_values: list[str]


def load_great_expectations() -> Any:
    """The library, without its usage reports and log lines; it takes seconds to import."""
    # Read at import.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    return great_expectations


def check_expectations(name: str, table: "pd.DataFrame", expectations: "Sequence[Expectation]") -> list[Answer]:
    """One answer for each expectation, in their order; raises RuntimeError where one can't be evaluated."""
    gx = load_great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    outcome = definition.run(
        batch_parameters={"dataframe": table},
        result_format={"result_format": "COMPLETE", "include_unexpected_rows": False},
    )
    for result in outcome.results:
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise RuntimeError(f"Great Expectations could not check {name}: {result.exception_info}")
    # Great Expectations groups its results by column: bring them back into the order of the expectations.
    by_id = {result.expectation_config.id: result for result in outcome.results}
    return [
        Answer(
            passed=bool(by_id[expectation.id].success),
            broken_rows=list(by_id[expectation.id].result.get("unexpected_index_list") or []),
            broken_values=[str(value) for value in by_id[expectation.id].result.get("unexpected_list") or []],
        )
        for expectation in suite.expectations
    ]
