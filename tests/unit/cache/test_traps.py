"""What other caches fell into, each as a rule with the tests that hold us to it.

`RULES` is the table: a rule, and beneath it where it is tested. What is tested nowhere else is tested here.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.unit.cache.rows import gone
from tests.unit.cache.shapes import SHAPES, Shaped

UNIT, KERNEL = "tests/unit/cache", "tests/unit/kernel/test_flight.py"
HERE = f"{UNIT}/test_traps.py"
RULES = {
    "a leader is cancelled: its followers get the value": f"""
        {KERNEL}: a_cancelled_leader_harms_nobody, the_load_is_cancelled_with_its_last_waiter
        {UNIT}/test_function.py: cancelled_leader_takes_nobody_along
        tests/faults/test_cache_fleet.py: a_cancelled_leader_lets_the_others_go""",
    "a loader raises: every waiter gets that error": f"""
        {KERNEL}: every_waiter_gets_the_loaders_exception
        {UNIT}/test_function.py: failing_leader_tells_everybody
        {HERE}: every_thread_that_waits_gets_the_error""",
    "`self` never enters a key by address or repr": f"""
        {UNIT}/test_function.py: short_lived_instances_never_see_each_other, declared_identity_is_shared_and_followed
        {UNIT}/test_levels.py: methods_without_identity_stay_in_memory
        tests/properties/test_keys.py: values_without_structure_are_refused""",
    "keys are length-prefixed and typed": """
        tests/properties/test_keys.py: keys_are_equal_exactly_where_values_are, no_shift_between_arguments_collides
        tests/properties/test_keys.py: pairs_that_others_confuse_stay_apart
        tests/unit/cache/test_function.py: arguments_that_python_calls_equal_stay_apart""",
    "invalidated during a load: the old value is not stored": f"""
        {HERE}: what_is_dropped_during_a_load_is_not_kept
        {UNIT}/test_levels.py: value_loaded_before_a_drop_elsewhere_is_not_stored
        {UNIT}/test_levels.py: caller_after_a_drop_does_not_join_an_older_load
        smw/testing/conformance.py: value_loaded_before_a_key_drop_is_refused
        tests/properties/test_cache_coherence.py: promises_hold_on_every_schedule""",
    "what tells of changes proves that it hears, before it is trusted": f"""
        {UNIT}/test_backplane.py: nothing_is_current_before_a_session
        {UNIT}/test_backplane.py: messages_that_do_not_come_empty_memory_at_the_next_pulse
        tests/faults/test_cache_backplane.py: a_drop_in_another_process_is_seen_at_once
        tests/integration/cache/test_redis_settings.py: nothing_is_left_to_the_defaults_of_the_client""",
    "waits for a connection are bounded, and a server that hangs is told by them too; every socket has a deadline": """
        tests/integration/cache/test_redis_settings.py: a_wait_for_a_connection_ends_and_counts_as_lag
        tests/integration/cache/test_redis_settings.py: a_wait_of_a_coroutine_is_within_its_deadline
        tests/integration/cache/test_redis_settings.py: nothing_is_left_to_the_defaults_of_the_client
        smw/testing/conformance.py: overrun_is_a_timeout_and_the_next_call_works, no_server_is_a_failure_in_time
        tests/faults/test_cache_outages.py: many_callers_on_a_hung_server""",
    "bytes that cannot be decoded are a counted miss, never an exception": f"""
        {UNIT}/test_edges.py: an_entry_that_does_not_open_is_a_counted_miss
        {UNIT}/test_levels.py: foreign_bytes_are_a_counted_miss
        tests/properties/test_codec.py: any_payload_is_a_value_or_corrupt, foreign_cut_and_moved_bytes_do_not_open
        tests/properties/test_codec.py: a_small_entry_cannot_use_up_the_stack
        tests/golden/test_wire.py: entries_open_nowhere_else""",
    "the algorithm comes from the configuration, not from the payload": f"""
        tests/properties/test_codec.py: settings_decide_what_is_accepted_not_the_entry, pickle_needs_to_be_allowed
        tests/properties/test_codec.py: stored_bytes_cannot_choose_a_class
        {HERE}: a_cache_that_seals_takes_nothing_unsealed""",
    "waiting for another's load never polls and ends at a deadline": """
        tests/faults/test_cache_fleet.py: waiting_asks_nothing, a_killed_leader_costs_a_second
        tests/faults/test_cache_fleet.py: without_redis_everybody_loads_at_once""",
    "no list of members grows without end": f"""
        {UNIT}/test_function.py: instance_may_keep_many_keys, entries_die_with_their_instance
        {UNIT}/test_options.py: what_is_learned_is_bounded
        {UNIT}/test_outage.py: debt_is_bounded
        {UNIT}/test_stale.py: rests_are_remembered_within_bounds
        tests/integration/cache/test_edges.py: no_tag_lists_its_members_on_a_server""",
    "a long time to live does not overflow": f"""
        smw/testing/conformance.py: long_time_to_live_is_no_date
        {UNIT}/test_decoration.py: ttl_beyond_ten_years_is_cut_and_warned
        tests/integration/cache/test_edges.py: the_longest_time_to_live_is_a_hit""",
    "changing a hit does not change the next one": f"""
        {UNIT}/test_function.py: changing_a_result_changes_no_other, two_hundred_callers_run_it_once
        {HERE}: what_a_server_answered_can_be_changed
        {UNIT}/test_region.py: values_come_back_as_copies
        {UNIT}/test_tools.py: peek_hands_out_copies""",
}
LEVELS = [(), ("l2",), ("l3",), ("l2", "l3")]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_tests(rule):
    """Whoever removes or renames the test of a rule is told."""
    assert gone(RULES[rule]) == []


def test_every_thread_that_waits_gets_the_error(cache):
    """Ten threads that meet on a load that fails end, each with the error, and the next call loads again."""
    gate, runs, errors = threading.Event(), [], []

    @cache.cached(60)
    def load() -> int:
        runs.append(1)
        gate.wait(5)
        raise ValueError("source")

    def call() -> None:
        with pytest.raises(ValueError, match="source") as caught:
            load()
        errors.append(caught.value)

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 10
    with pytest.raises(ValueError, match="source"):
        load()


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("by", ["tag", "key"])
async def test_what_is_dropped_during_a_load_is_not_kept(bench, shape, levels, by):
    """The caller gets the old value that it has read, and whoever calls later reads the source again, everywhere."""
    source = ["old"]
    cache = bench.cache(*levels)

    def drop() -> None:
        cache.drop_sync(**({"tags": ["t"]} if by == "tag" else {"keys": [load.key()]}))

    def act(_number: int) -> object:
        read = source[0]
        if read == "old":
            source[0] = "new"
            if load.mode == "async":
                return later(read)
            drop()
        return read

    async def later(read: str) -> str:
        await asyncio.sleep(0)
        drop()
        return read

    load = Shaped(cache, shape, act, tags=["t"])
    assert await load() == "old"
    assert await load() == "new"
    assert await Shaped(bench.cache(*levels), shape, act, tags=["t"])() == "new"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_cache_that_seals_takes_nothing_unsealed(bench, shape):
    """An entry that whoever writes to the server has stored in the clear, in our own format, is a miss."""
    keys = {"k1": b"1" * 32}
    sealing = Shaped(bench.cache("l2", encryption_keys=keys), shape, lambda _number: "ours")
    plain = Shaped(bench.cache("l2"), shape, lambda _number: "forged")
    assert await sealing() == "ours"
    assert await plain() == "forged"
    data = bench.stores["l2"].data
    ours, forged = sealing.key(), plain.key()
    assert ours != forged
    data[ours] = data[forged]
    again = Shaped(bench.cache("l2", encryption_keys=keys), shape, lambda _number: "loaded")
    assert await again() == "loaded"


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_what_a_server_answered_can_be_changed(bench, shape, levels):
    """What a caller does to its result is seen by no other, whether memory, a server or the function has answered."""
    loads = [Shaped(bench.cache(*levels), shape, lambda _number: {"a": [1]}) for _ in range(2)]
    for load in (*loads, *loads, *loads):
        result = await load()
        assert result == {"a": [1]}
        result["a"].append("spoilt")
