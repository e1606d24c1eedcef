"""Names that help texts list, so that help imports no library. A test holds them against the tables that they are from."""

FIRST = 10_000  # documents of a data set that are read: analysis.data.sources.FIRST
SEED = 1234  # of few-shot examples, lm_eval's own: analysis.tasks.SEED
METRICS = ("bi", "relative_magnitude", "norm", "l2", "sequential", "reverse_order", "taylor")
EXPERT_METRICS = ("load", "router_weight")
ORDERS = ("bi", "relative_magnitude", "norm", "sequential", "reverse_order", "angular", "nll", "kl", "iterative_bi", "greedy", "sublayers")
REWRITING = ("laco", "laco_eq1", "linear")  # methods that write a checkpoint
IN_MEMORY = ("slicegpt", "llm_pruner", "llm_pruner_published")  # methods whose result no stock loader holds
