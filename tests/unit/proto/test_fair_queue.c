/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/fair_queue.h"
#include "tests/unit/test.h"

#include <stdlib.h>

enum { LANES = 8 };
static struct fair_queue *queue;
static struct fair_lane *lane[LANES];
static struct fair_item items[LANES][FAIR_LANE_MAX + 1];

static int set_up(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(fair_queue_new(&queue, &err));
    for (size_t i = 0; i < LANES; i++) {
        const uint8_t key[FAIR_KEY_LEN] = { (uint8_t)i };

        assert_ok(fair_queue_join(queue, key, &lane[i], &err));
        for (size_t j = 0; j <= FAIR_LANE_MAX; j++)
            items[i][j] = (struct fair_item){ .lane = lane[i] };
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fair_queue_end(queue);
    while (fair_queue_take(queue)) {
    }
    for (size_t i = 0; i < LANES; i++)
        fair_queue_leave(queue, lane[i]);
    fair_queue_free(queue);
    return 0;
}

static void put(struct fair_item *item)
{
    struct fair_item *displaced = NULL;

    assert_true(fair_queue_put(queue, item, &displaced));
    assert_null(displaced);
}

static void equal_keys_share_a_lane(void **state)
{
    static const uint8_t key[FAIR_KEY_LEN] = { 3 };
    struct fair_lane *same = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(fair_queue_join(queue, key, &same, &err));
    assert_ptr_equal(same, lane[3]);
    fair_queue_leave(queue, same);
}

static void lanes_take_turns(void **state)
{
    static const struct {
        size_t lane, number;
    } order[] = { { 0, 0 }, { 1, 0 }, { 2, 0 }, { 0, 1 }, { 1, 1 }, { 0, 2 }, { 0, 3 } };

    (void)state;
    for (size_t i = 0; i < 4; i++)
        put(&items[0][i]);
    for (size_t i = 0; i < 2; i++)
        put(&items[1][i]);
    put(&items[2][0]);
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        assert_ptr_equal(fair_queue_take(queue), &items[order[i].lane][order[i].number]);
}

static void one_lane_has_a_limit(void **state)
{
    struct fair_item *displaced = NULL;

    (void)state;
    for (size_t i = 0; i < FAIR_LANE_MAX; i++)
        put(&items[0][i]);
    assert_false(fair_queue_put(queue, &items[0][FAIR_LANE_MAX], &displaced));
    items[1][0].bytes = FAIR_LANE_BYTES;
    put(&items[1][0]);
    items[1][1].bytes = 1;
    assert_false(fair_queue_put(queue, &items[1][1], &displaced));
    items[1][2].bytes = SIZE_MAX;
    assert_false(fair_queue_put(queue, &items[1][2], &displaced));
    put(&items[2][0]);
}

static void a_full_queue_makes_room_for_a_client_with_less(void **state)
{
    struct fair_item *displaced = NULL;
    const size_t full = FAIR_QUEUE_MAX / FAIR_LANE_MAX;

    (void)state;
    for (size_t i = 0; i < full; i++)
        for (size_t j = 0; j < FAIR_LANE_MAX; j++)
            put(&items[i][j]);
    assert_true(fair_queue_put(queue, &items[full][0], &displaced));
    assert_non_null(displaced);
    assert_ptr_equal(displaced, &items[0][FAIR_LANE_MAX - 1]);
    assert_false(displaced->is_waiting);
    assert_false(fair_queue_withdraw(queue, displaced));
    /* lane 0 has one less than the other full ones: no reason to take from them */
    assert_false(fair_queue_put(queue, displaced, &displaced));
}

static void bytes_make_room_as_well(void **state)
{
    struct fair_item *displaced = NULL;

    (void)state;
    for (size_t i = 0; i < FAIR_QUEUE_BYTES / FAIR_LANE_BYTES; i++) {
        items[i][0].bytes = FAIR_LANE_BYTES;
        put(&items[i][0]);
    }
    items[7][0].bytes = 1000;
    assert_true(fair_queue_put(queue, &items[7][0], &displaced));
    assert_ptr_equal(displaced, &items[0][0]);
}

static void a_withdrawn_item_is_not_taken(void **state)
{
    (void)state;
    put(&items[0][0]);
    put(&items[0][1]);
    assert_true(fair_queue_withdraw(queue, &items[0][0]));
    assert_false(fair_queue_withdraw(queue, &items[0][0]));
    assert_ptr_equal(fair_queue_take(queue), &items[0][1]);
    assert_false(fair_queue_withdraw(queue, &items[0][1]));
}

static void who_does_not_read_gets_no_turn(void **state)
{
    (void)state;
    put(&items[0][0]);
    put(&items[0][1]);
    put(&items[1][0]);
    fair_queue_owe(queue, lane[0], FAIR_LANE_OWED_BYTES);
    assert_ptr_equal(fair_queue_take(queue), &items[1][0]);
    fair_queue_settle(queue, lane[0], 1);
    assert_ptr_equal(fair_queue_take(queue), &items[0][0]);
    /* all together owe too much: only who owes nothing gets a turn */
    fair_queue_owe(queue, lane[2], FAIR_ALL_OWED_BYTES);
    put(&items[1][1]);
    assert_ptr_equal(fair_queue_take(queue), &items[1][1]);
    fair_queue_settle(queue, lane[2], FAIR_ALL_OWED_BYTES);
    assert_ptr_equal(fair_queue_take(queue), &items[0][1]);
    fair_queue_settle(queue, lane[0], FAIR_LANE_OWED_BYTES - 1);
}

static void an_ended_queue_gives_what_is_left(void **state)
{
    (void)state;
    put(&items[0][0]);
    fair_queue_owe(queue, lane[0], FAIR_LANE_OWED_BYTES);
    fair_queue_end(queue);
    assert_ptr_equal(fair_queue_take(queue), &items[0][0]);
    assert_null(fair_queue_take(queue));
}

#define QUEUE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE(equal_keys_share_a_lane),
        QUEUE(lanes_take_turns),
        QUEUE(one_lane_has_a_limit),
        QUEUE(a_full_queue_makes_room_for_a_client_with_less),
        QUEUE(bytes_make_room_as_well),
        QUEUE(a_withdrawn_item_is_not_taken),
        QUEUE(who_does_not_read_gets_no_turn),
        QUEUE(an_ended_queue_gives_what_is_left),
    };

    return RUN_TESTS(tests);
}
