"""The plan of the stages: every token of every target is read once, behind its own prefix."""

from hypothesis import given
from hypothesis import strategies as st

from metro_fast.scoring.trie import Stage, read_order

TARGETS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=1, max_size=6)),
    min_size=1,
    max_size=12,
)


def prefixes(stages: list[Stage]) -> list[list[tuple[int, tuple[int, ...]]]]:
    """For each stage and row, its context and all the tokens that were read so far."""
    found: list[list[tuple[int, tuple[int, ...]]]] = []
    for stage in stages:
        rows = []
        for context, parent, tokens in zip(
            stage.contexts, stage.parents, stage.tokens, strict=True
        ):
            before: tuple[int, ...] = ()
            if found:
                owner, before = found[-1][parent]
                assert owner == context
            else:
                assert parent == context
            # A parent that ended earlier would leave padding between it and its children.
            assert len(before) == stage.start
            rows.append((context, before + tokens))
        found.append(rows)
    return found


@given(TARGETS, st.sets(st.integers(1, 5)), st.integers(0, 500))
def test_every_token_is_read_once_behind_its_prefix(targets, bounds, cached):
    depth = max(len(ids) for _, ids in targets) - 1
    chosen = sorted({b for b in bounds if b < depth} | {depth}) if depth else []
    for stages in (read_order(targets, cached), read_order(targets, cached, bounds=chosen)):
        seen = []
        for stage, rows in zip(stages, prefixes(stages), strict=True):
            assert all(stage.tokens)
            assert len(set(rows)) == len(rows)
            for read in stage.reads:
                context, path = rows[read.row]
                owner, ids = targets[read.target]
                end = stage.start + read.position + 1
                assert context == owner
                assert path[:end] == tuple(ids[:end])
                assert read.label == ids[end]
                seen.append((read.target, end))
        wanted = [(t, d) for t, (_, ids) in enumerate(targets) for d in range(1, len(ids))]
        assert sorted(seen) == wanted


def test_stages_pay_where_prefixes_are_shared():
    stem = list(range(40))
    shared = [(0, [*stem, word, 1]) for word in range(50, 58)]
    stages = read_order(shared, 10)
    assert [len(stage.tokens) for stage in stages] == [1, 8]
    apart = [(0, [word, 1, 2, 3, 4]) for word in range(8)]
    assert len(read_order(apart, 10)) == 1
    assert read_order([(0, [5]), (0, [6])], 10) == []
