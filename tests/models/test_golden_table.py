"""No golden is skipped silently."""

from tests.conftest import GOLDENS, REPOSITORY
from tests.models import golden
from tests.models.golden_table import table


def test_the_table_beside_the_goldens_is_up_to_date():
    assert (REPOSITORY / "tests/goldens/README.md").read_text() == table(), "run python -m tests.models.golden_table"


def test_every_golden_has_a_test():
    table()  # imports every test of a model
    names = {file.stem.rsplit("_", 1)[0] for file in GOLDENS.glob("*.npz")}
    assert names <= set(golden.UNCHECKED), "goldens without a test"
