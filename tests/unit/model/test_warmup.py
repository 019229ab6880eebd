"""Ranges of blocks are read in pieces of one relation and of bounded length."""

from hypothesis import given
from hypothesis import strategies as st

from headroom.model.warmup import RANGE_BLOCKS, BlockRange, batch

ranges = st.builds(
    lambda relation, first, blocks: BlockRange(relation, relation, first, first + blocks - 1),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.integers(1, RANGE_BLOCKS),
)


@given(st.lists(ranges))
def test_batches_have_all_ranges_in_order_each_of_one_relation_and_within_the_bound(found: list[BlockRange]) -> None:
    batches = list(batch(found))
    assert [each for one in batches for each in one] == found
    for one in batches:
        assert len({each.relation for each in one}) == 1
        assert sum(each.blocks for each in one) <= RANGE_BLOCKS


def test_neighbours_of_one_relation_are_read_together() -> None:
    found = [BlockRange(1, 1, 0, 9), BlockRange(1, 1, 20, 29), BlockRange(2, 2, 0, 9), BlockRange(1, 1, 40, 49)]
    assert [len(one) for one in batch(found)] == [2, 1, 1]
