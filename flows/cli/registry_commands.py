"""The commands on registered versions and the decisions about them."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli import results
from flows.cli.options import AsJson, Overrides, Values
from flows.cli.results import finish
from flows.cli.running import guarded, run_flow
from flows.project.model_names import FORMS

if TYPE_CHECKING:
    from flows.registry.decision import Answered
    from flows.registry.reproduce import Reproduction
    from flows.registry.verify_lineage import Trace
    from flows.registry.versions import ModelList


commands = typer.Typer()


@commands.command()
def promote(
    version: Annotated[str | None, typer.Option("--version", help=f"{FORMS}; default: the newest.")] = None,
    overrides: Overrides = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Have the gate decide on a registered version."""
    outcome = run_flow(
        "flows.pipeline.promote",
        command="promote",
        check=[version] if version else [],
        version=version,
        overrides=overrides,
        values=values,
    )
    finish(outcome, as_json, results.verdict)


@commands.command()
def rollback(
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the ledger.")] = None, as_json: AsJson = False
) -> None:
    """Make the previous champion serve again."""
    result = run_flow("flows.registry.rollback.rollback", command="rollback", stages=False, reason=reason)
    finish(
        result,
        as_json,
        lambda result: f"{results.serves_again(result.champion)}, version {result.was} doesn't serve any more",
    )


Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the model in the registry.")]


Number = Annotated[str, typer.Argument(metavar="VERSION", help="VERSION, ALIAS or NAME@ALIAS.")]


By = Annotated[str | None, typer.Option("--by", help="Who decides, for the ledger; default: this user.")]


Reason = Annotated[str, typer.Option("--reason", help="Why, for the ledger.")]


@commands.command()
def approve(name: Name, version: Number, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Promote a version that passed the gate and waits for a person."""
    _answer(name, version, "promoted", by, reason, as_json)


@commands.command()
def refuse(name: Name, version: Number, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Turn down a version that passed the gate and waits for a person."""
    _answer(name, version, "refused", by, reason, as_json)


@commands.command()
def models(as_json: AsJson = False) -> None:
    """List the registered versions, their aliases and verdicts."""

    def work() -> "ModelList":
        from flows.registry.versions import list_models

        return list_models(show=not as_json)

    finish(guarded(work), as_json, lambda result: "")


@commands.command()
def lineage(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=f"{FORMS}; default: the champion.")] = None,
    as_json: AsJson = False,
) -> None:
    """Trace a version from pixel to served file, and verify each link that can be verified."""

    def work() -> "Trace":
        from flows.registry.verify_lineage import trace

        return trace(model, show=not as_json)

    result = guarded(work)
    finish(result, as_json, results.lineage)
    sys.exit(0 if result.whole else 1)


@commands.command()
def reproduce(
    version: Annotated[str, typer.Argument(metavar="VERSION", help=f"{FORMS}.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the model; default: register.name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a registered version again from its own data and code, and show what differs."""

    def work() -> "Reproduction":
        from flows.registry.reproduce import reproduce_version

        return reproduce_version(version, name=name, show=not as_json)

    stopped = "reproduce was stopped; the registry and the project are as they were"
    finish(guarded(work, stopped=stopped), as_json, results.reproduction)


def _answer(
    name: str, version: str, action: Literal["promoted", "refused"], by: str | None, reason: str, as_json: bool
) -> None:
    def work() -> "Answered":
        from flows.registry.decision import answer

        return answer(name, version, action=action, by=by, reason=reason)

    finish(guarded(work), as_json, lambda answered: f"version {answered.version} {answered.status}")
