/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "blockd/request.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Evidence of a broker is larger than a packet. */

static int ends[2];
static struct error err;

static int open_pair(void **state UNUSED)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int close_pair(void **state UNUSED)
{
    close_at(&ends[0]);
    close_at(&ends[1]);
    return 0;
}

static void make_evidence(struct broker_evidence *out)
{
    out->size = (struct broker_evidence_size){ 5000, 200, 150001 };
    out->bytes = malloc(broker_evidence_len(&out->size));
    assert_non_null(out->bytes);
    for (size_t i = 0; i < broker_evidence_len(&out->size); i++)
        out->bytes[i] = (uint8_t)(i * 31 >> 3);
}

static void evidence_arrives_whole_in_pieces(void **state UNUSED)
{
    auto_broker_evidence struct broker_evidence sent = { .bytes = NULL };
    auto_broker_evidence struct broker_evidence got = { .bytes = NULL };

    make_evidence(&sent);
    assert_true(block_send_evidence(ends[0], &sent, &err));
    assert_true(block_receive_evidence(ends[1], &sent.size, clock_now_ms() + 5000, &got, &err));
    assert_memory_equal(&got.size, &sent.size, sizeof(got.size));
    assert_memory_equal(got.bytes, sent.bytes, broker_evidence_len(&sent.size));
    assert_false(block_wait(ends[1], clock_now_ms() + 10, &err));
    assert_int_equal(ERROR_DEADLINE_EXCEEDED, err.code);
}

static void evidence_ends_when_a_piece_is_cut_or_late_or_lost(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_INVALID_ARGUMENT, ERROR_DEADLINE_EXCEEDED,
                                             ERROR_CANCELLED };
    auto_broker_evidence struct broker_evidence sent = { .bytes = NULL };
    auto_broker_evidence struct broker_evidence got = { .bytes = NULL };

    make_evidence(&sent);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        assert_int_equal(send(ends[0], sent.bytes, BLOCK_BODY_MAX, 0), BLOCK_BODY_MAX);
        if (codes[i] == ERROR_INVALID_ARGUMENT) /* the last piece comes second */
            assert_int_equal(send(ends[0], sent.bytes, 24129, 0), 24129);
        if (codes[i] == ERROR_CANCELLED)
            assert_int_equal(shutdown(ends[0], SHUT_RDWR), 0);
        assert_false(block_receive_evidence(ends[1], &sent.size, clock_now_ms() + 100, &got, &err));
        assert_int_equal(codes[i], err.code);
        assert_null(got.bytes);
    }
}

static void sizes_of_evidence_are_bounded(void **state UNUSED)
{
    static const struct broker_evidence_size wrong[] = {
        { QUOTE_LEN_MAX + 1, 0, 0 },
        { 1, EVENT_LOG_LEN_MAX + 1, 0 },
        { 1, 0, BROKER_COLLATERAL_MAX + 1 },
        { UINT32_MAX, UINT32_MAX, UINT32_MAX },
    };
    static struct block_answer answer, got;

    answer.ok = true;
    answer.evidence =
        (struct broker_evidence_size){ QUOTE_LEN_MAX, EVENT_LOG_LEN_MAX, BROKER_COLLATERAL_MAX };
    assert_ok(block_send_answer(ends[0], &answer, &err));
    assert_ok(block_receive_answer(ends[1], &got, &err));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        answer.evidence = wrong[i];
        assert_ok(block_send_answer(ends[0], &answer, &err));
        assert_refused(ERROR_INVALID_ARGUMENT, block_receive_answer(ends[1], &got, &err));
        assert_contains(err.text, "evidence");
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)
    static const struct CMUnitTest tests[] = {
        CASE(evidence_arrives_whole_in_pieces),
        CASE(evidence_ends_when_a_piece_is_cut_or_late_or_lost),
        CASE(sizes_of_evidence_are_bounded),
    };

    return RUN_TESTS(tests);
}
