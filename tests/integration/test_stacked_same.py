# SPDX-License-Identifier: Apache-2.0
"""test_life.py and test_rollback.py over another driver's disks: what holds for a file holds for a disk."""

import pathlib

import fake_driver
import pytest
import stacked

# pylint: disable=unused-import
from test_life import (  # noqa: F401
    test_backing_file_holds_no_plaintext,
    test_block_volume_grows_and_its_new_end_reads_as_zeros,
    test_clone_is_independent_of_its_source,
    test_copies_into_a_larger_claim,
    test_each_call_may_be_repeated,
    test_life_of_a_volume,
    test_published_read_only_refuses_writes,
    test_snapshot_under_write_load_is_clean,
    test_volume_grows_under_load,
    test_volume_without_journal_stays_so_when_it_grows,
    test_workqueue_follows_the_storage_class,
)
from test_rollback import (  # noqa: F401
    test_copy_from_before_the_close_stays_refused,
    test_snapshot_of_a_closed_volume_cannot_be_exchanged_for_an_older_copy,
    test_stage_that_fails_for_another_reason_opens_no_way_for_an_old_copy,
    test_store_from_before_the_format_has_nothing_formatted_over,
)


@pytest.fixture(scope="module")
def upstream():
    made = stacked.Upstream(fake_driver.Config(device="linear"), "same-upstream").start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def plugin(broker, upstream):
    made = stacked.DetachingPlugin(broker, "same", upstream).start()
    yield made
    made.close()


@pytest.fixture
def client(plugin, leaves_nothing):
    yield plugin.client
    plugin.client.take_down()


@pytest.fixture
def make_plugin(leaves_nothing, make_broker):
    made = []

    def make(broker):
        upstream = stacked.Upstream(name="own-upstream").start()
        state = pathlib.Path("/run/tdvol-own")
        made.append((stacked.DetachingPlugin(broker, "own-plugin", upstream, state=state), upstream))
        return made[-1][0].start()

    yield make
    for one, upstream in made:
        one.close()
        upstream.close()
