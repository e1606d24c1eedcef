"""Help texts name what there is."""

from analysis import tasks
from analysis.data import sources
from analysis.methods.rewrite import in_memory, rewriting
from analysis.methods.table import METHODS
from analysis.metrics.metrics import EXPERT_METRICS, METRICS
from analysis.removal.orders import ORDERS
from reports.cli import names
from reports.cli.main import with_options


def test_names_in_help_are_those_of_the_tables() -> None:
    assert (*METRICS, "taylor") == names.METRICS
    assert tuple(EXPERT_METRICS) == names.EXPERT_METRICS
    assert tuple(ORDERS) == names.ORDERS
    assert (list(names.REWRITING), list(names.IN_MEMORY)) == (rewriting(METHODS.own), in_memory(METHODS.own))
    assert (names.FIRST, names.SEED) == (sources.FIRST, tasks.SEED)


def test_arguments_of_the_library_are_options_here() -> None:
    given = "give another `out`, for example `out` x-1; take `kinds` heads, `n` 3 or `device` cpu (`strata models`, `other`)"
    said = "give another --out, for example --out x-1; take --kind heads, --remove 3 or --device cpu (`strata models`, `other`)"
    assert with_options(given) == said
