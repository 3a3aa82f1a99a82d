/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/topology.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <stdio.h>

/* A node whose kernel has no aegis128, as many have. */
static struct plugin node = { .driver = "d.example",
                              .node_id = "node-1",
                              .serves_node = true,
                              .probe = {
                                  .hmac_sha256 = true, .none = true, .missing = "aegis128" } };
static struct error err;

static void a_node_says_which_modes_it_opens(void **state UNUSED)
{
    static const char *const expected[][2] = { { "topology.d.example/node", "node-1" },
                                               { "topology.d.example/hmac-sha256", "true" },
                                               { "topology.d.example/none", "true" } };
    auto_arena struct arena arena = { .limit = 1u << 16 };
    Csi__V1__Topology *topology = topology_of_node(&node, &arena);

    assert_int_equal(topology->n_segments, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_string_equal(topology->segments[i]->key, expected[i][0]);
        assert_string_equal(topology->segments[i]->value, expected[i][1]);
    }
    assert_true(topology_is_here(&node, topology));
}

static void a_volume_is_bound_to_its_node_alone(void **state UNUSED)
{
    auto_arena struct arena arena = { .limit = 1u << 16 };
    Csi__V1__Topology *topology = topology_of_volume(&node, "node-2", &arena);

    assert_int_equal(topology->n_segments, 1);
    assert_string_equal(topology->segments[0]->key, "topology.d.example/node");
    assert_string_equal(topology->segments[0]->value, "node-2");
}

static void a_volume_of_another_node_is_refused_with_both_names(void **state UNUSED)
{
    struct record record = { .volume_id = "v-1", .spec = { .location = "node-2" } };

    assert_refused(ERROR_FAILED_PRECONDITION,
                   topology_check_location(&node, &record, ERROR_FAILED_PRECONDITION, &err));
    assert_contains(err.text, "v-1 is on node node-2, and this is node node-1");
    record.spec.location[5] = '1';
    assert_ok(topology_check_location(&node, &record, ERROR_FAILED_PRECONDITION, &err));
    record.spec.location[0] = '\0';
    assert_ok(topology_check_location(&node, &record, ERROR_FAILED_PRECONDITION, &err));
}

static void every_segment_of_the_driver_must_hold(void **state UNUSED)
{
    static const struct {
        const char *key, *value;
        bool is_here;
    } rows[] = { { "topology.d.example/node", "node-1", true },
                 { "topology.d.example/node", "node-2", false },
                 { "topology.d.example/hmac-sha256", "true", true },
                 { "topology.d.example/aegis128", "true", false },
                 { "topology.other.example/node", "node-2", true } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Csi__V1__Topology__SegmentsEntry entry = CSI__V1__TOPOLOGY__SEGMENTS_ENTRY__INIT;
        Csi__V1__Topology__SegmentsEntry *list[] = { &entry };
        Csi__V1__Topology topology = CSI__V1__TOPOLOGY__INIT;

        entry.key = (char *)(uintptr_t)rows[i].key;
        entry.value = (char *)(uintptr_t)rows[i].value;
        topology.segments = list;
        topology.n_segments = 1;
        assert_int_equal(topology_is_here(&node, &topology), rows[i].is_here);
    }
}

static void a_missing_mode_is_refused_and_the_other_is_named(void **state UNUSED)
{
    struct plugin controller = node;

    assert_ok(topology_check_mode(&node, INTEGRITY_HMAC_SHA256, &err));
    assert_ok(topology_check_mode(&node, INTEGRITY_NONE, &err));
    assert_refused(ERROR_RESOURCE_EXHAUSTED, topology_check_mode(&node, INTEGRITY_AEGIS128, &err));
    assert_contains(err.text, "node-1 cannot open volumes with integrity=aegis128");
    assert_contains(err.text, "use a StorageClass with integrity=hmac-sha256");
    controller.serves_node = false;
    assert_ok(topology_check_mode(&controller, INTEGRITY_AEGIS128, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_says_which_modes_it_opens),
        cmocka_unit_test(a_volume_is_bound_to_its_node_alone),
        cmocka_unit_test(a_volume_of_another_node_is_refused_with_both_names),
        cmocka_unit_test(every_segment_of_the_driver_must_hold),
        cmocka_unit_test(a_missing_mode_is_refused_and_the_other_is_named),
    };

    return RUN_TESTS(tests);
}
