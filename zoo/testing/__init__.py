"""Does a plugin keep the contract of its kind? For the tests of this project and of every package that extends it.

    from zoo.interfaces import Place
    from zoo.testing import check_stage
    from my_package.dct import BlockDCT

    def test_block_dct():
        check_stage(BlockDCT, Place((3, 16, 16), (48, 4, 4)), quality=90)

Each check takes a class, the place it would stand at, and the options of the spec; it raises a
``ConformanceError`` that names the class, the requirement and the parameter, and returns None when all is well. Give
it small shapes: it builds the class many times. Nothing is written and no random state is changed.
"""

from zoo.testing.heads import check_head
from zoo.testing.requirements import ConformanceError
from zoo.testing.stages import check_stage
from zoo.testing.terms import check_term

__all__ = ["ConformanceError", "check_head", "check_stage", "check_term"]
