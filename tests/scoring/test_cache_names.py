"""The cache of a model under both of its names in transformers."""

from metro_fast.scoring.decoder import cache_name, cache_of


def test_the_new_name_of_a_cache_goes_first() -> None:
    assert cache_name({"input_ids", "past_key_values"}) == "past_key_values"
    assert cache_name({"input_ids", "cache"}) == "cache"
    old, new = object(), object()
    assert cache_of({"logits": 0, "past_key_values": old}) is old
    assert cache_of({"logits": 0, "cache": new}) is new
