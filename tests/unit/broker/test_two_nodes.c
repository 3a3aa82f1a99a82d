/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/two_nodes.h"
#include "tests/unit/test.h"

#include <stdlib.h>

/* Two nodes never write one volume, whatever happens in which order. TDVOL_MODEL=full searches further,
 * for minutes and with some GiB of memory. */

struct bounds {
    unsigned n_calls, n_opens, n_boots, n_repeats;
};

static void search(const struct bounds *bounds, unsigned n_states)
{
    struct model model = { .n_calls = bounds->n_calls,
                           .n_opens = bounds->n_opens,
                           .n_boots = bounds->n_boots,
                           .n_repeats = bounds->n_repeats,
                           .n_states = n_states };

    for (unsigned i = 0; i < 4; i++) {
        model.attach_first = i & 1;
        model.many_attach = i & 2;
        const struct model_result r = model_run(&model);

        print_message(
            "# %u calls, %u opens, %u boots, %u repeats, %s storage, %s first: %u states, "
            "%u steps\n",
            model.n_calls, model.n_opens, model.n_boots, model.n_repeats,
            model.many_attach ? "shared" : "exclusive", model.attach_first ? "attach" : "publish",
            r.n_states, r.n_steps);
        assert_null(r.violation);
    }
}

static void no_order_lets_two_nodes_write(void **state UNUSED)
{
    static const struct bounds small[] = {
        { 3, 1, 1, 1 }, /* a volume moves, and a request arrives twice */
        { 3, 2, 1, 0 }, /* nodes open it again */
        { 2, 1, 2, 1 }, /* nodes reboot */
    };
    static const struct bounds large[] = { { 4, 1, 1, 1 }, { 2, 2, 2, 1 }, { 3, 2, 1, 1 } };
    const char *wanted = getenv("TDVOL_MODEL");

    for (size_t i = 0; i < ARRAY_LEN(small); i++)
        search(&small[i], 2000000);
    for (size_t i = 0; wanted && i < ARRAY_LEN(large); i++)
        search(&large[i], 20000000);
}

/* A model that cannot fail would show nothing. */
static void each_planted_fault_is_found(void **state UNUSED)
{
    static const struct {
        enum model_fault fault;
        unsigned n_calls;
    } rows[] = {
        { FAULT_UNPUBLISH_IGNORES_EPOCH, 3 },
        { FAULT_PUBLISH_IGNORES_OTHERS, 2 },
        { FAULT_OPEN_IGNORES_PUBLICATION, 2 },
        { FAULT_UNPUBLISH_BEFORE_DETACH, 2 },
        { FAULT_NO_RETIREMENT, 2 },
        { FAULT_DEVICE_AFTER_KEY, 3 },
    };

    assert_int_equal(ARRAY_LEN(rows), FAULT_COUNT - 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct model model = { .many_attach = true,
                                     .fault = rows[i].fault,
                                     .n_calls = rows[i].n_calls,
                                     .n_opens = 1,
                                     .n_boots = 1,
                                     .n_repeats = 1,
                                     .n_states = 2000000 };
        const struct model_result r = model_run(&model);

        if (!r.violation || r.n_states == model.n_states)
            fail_msg("\"%s\" was not found in %u states", model_fault_name(model.fault),
                     r.n_states);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_order_lets_two_nodes_write),
        cmocka_unit_test(each_planted_fault_is_found),
    };

    return RUN_TESTS(tests);
}
