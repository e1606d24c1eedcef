"""All kinds of input that are fuzzed."""

from tests.fuzz.configs import CONFIGS
from tests.fuzz.core import Kind
from tests.fuzz.corpora import CORPORA
from tests.fuzz.folders import FOLDERS
from tests.fuzz.gguf_files import GGUF
from tests.fuzz.pickles import PICKLES
from tests.fuzz.runs import RUNS
from tests.fuzz.tasks import TASKS
from tests.fuzz.weights import WEIGHTS

KINDS: dict[str, Kind] = {
    "configs": CONFIGS,
    "weights": WEIGHTS,
    "pickles": PICKLES,
    "gguf": GGUF,
    "corpora": CORPORA,
    "folders": FOLDERS,
    "runs": RUNS,
    "tasks": TASKS,
}
