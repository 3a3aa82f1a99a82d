/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "blockd/request.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* Packets that arrive are hostile. Each case changes one thing in a good packet. */

static int ends[2];
static struct error err;

static int open_pair(void **state)
{
    (void)state;
    err = (struct error)ERROR_INIT;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int close_pair(void **state)
{
    (void)state;
    close_at(&ends[0]);
    close_at(&ends[1]);
    return 0;
}

static unsigned count_fds(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void put(const void *bytes, size_t len)
{
    assert_int_equal((ssize_t)len, send(ends[0], bytes, len, 0));
}

static void put_with_fds(const void *bytes, size_t len, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(32 * sizeof(int))];
    } control = { .bytes = { 0 } };
    union {
        const void *in;
        void *out;
    } view = { .in = bytes };
    struct iovec part = { .iov_base = view.out, .iov_len = len };
    struct msghdr header = { .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);

    assert_non_null(c);
    if (!c)
        return;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(int));
    for (size_t i = 0; i < n; i++) {
        int fd = STDERR_FILENO;

        memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
    }
    assert_int_equal((ssize_t)len, sendmsg(ends[0], &header, 0));
}

static struct block_request *good_request(void)
{
    static struct block_request request;

    request = (struct block_request){ .operation = BLOCK_STAGE };
    (void)snprintf(request.volume_id, sizeof(request.volume_id), "a");
    return &request;
}

static bool arrives(const struct block_request *request)
{
    static struct block_request got;

    put(request, sizeof(*request));
    bool ok = block_receive_request(ends[1], &got, &err);
    if (!ok)
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    return ok;
}

static void a_good_request_arrives(void **state)
{
    (void)state;
    static struct block_request got;
    struct block_request *request = good_request();
    request->read_only = true;
    request->size_bytes = UINT64_MAX;
    assert_true(block_send_request(ends[0], request, &err));
    assert_true(block_receive_request(ends[1], &got, &err));
    assert_int_equal(BLOCK_STAGE, got.operation);
    assert_string_equal("a", got.volume_id);
    assert_true(got.read_only && got.size_bytes == UINT64_MAX);
}

static void an_unknown_operation_is_refused(void **state)
{
    (void)state;
    static const uint32_t bad[] = { 0, BLOCK_OPERATION_COUNT, UINT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct block_request *request = good_request();

        request->operation = bad[i];
        assert_false(arrives(request));
    }
}

static void a_string_without_end_is_refused(void **state)
{
    (void)state;
    static const struct field {
        size_t offset, size;
    } fields[] = {
        { offsetof(struct block_request, volume_id), VOLUME_ID_MAX + 1 },
        { offsetof(struct block_request, copy_id), VOLUME_ID_MAX + 1 },
        { offsetof(struct block_request, path), BLOCK_PATH_MAX },
        { offsetof(struct block_request, path2), BLOCK_PATH_MAX },
        { offsetof(struct block_request, fs_type), FS_TYPE_MAX + 1 },
        { offsetof(struct block_request, mount_flags), BLOCK_FLAGS_MAX },
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct block_request *request = good_request();
        char *field = (char *)request + fields[i].offset;

        for (size_t k = 0; k < fields[i].size; k++)
            field[k] = 'x';
        assert_false(arrives(request));
        field[fields[i].size - 1] = 0;
        assert_true(arrives(request));
    }
}

static void a_bool_that_is_neither_is_refused(void **state)
{
    (void)state;
    static const size_t offsets[] = { offsetof(struct block_request, read_only),
                                      offsetof(struct block_request, reserve),
                                      offsetof(struct block_request, exclusive) };
    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        struct block_request *request = good_request();

        ((unsigned char *)request)[offsets[i]] = 2;
        assert_false(arrives(request));
    }
}

static void a_packet_of_another_size_is_refused(void **state)
{
    (void)state;
    static struct block_request got;
    static char longer[sizeof(struct block_request) + 1];
    struct block_request *request = good_request();
    memcpy(longer, request, sizeof(*request));
    put(longer, sizeof(longer));
    assert_false(block_receive_request(ends[1], &got, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    put(request, sizeof(*request) - 1);
    assert_false(block_receive_request(ends[1], &got, &err));
    put(request, 1);
    assert_false(block_receive_request(ends[1], &got, &err));
}

static void descriptors_that_nobody_asked_for_are_closed(void **state)
{
    (void)state;
    static struct block_request got;
    unsigned before = count_fds();
    static const size_t counts[] = { 1, 8, 30 };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        put_with_fds(good_request(), sizeof(struct block_request), counts[i]);
        assert_false(block_receive_request(ends[1], &got, &err));
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
        assert_int_equal(before, count_fds());
    }
}

static void calls_of_another_driver_have_bounds(void **state)
{
    (void)state;
    static struct block_request request, got;
    static const struct {
        uint32_t method;
        size_t len;
        bool good;
    } cases[] = {
        { BLOCK_NODE_STAGE, BLOCK_BODY_MAX, true },
        { BLOCK_NODE_STAGE, BLOCK_BODY_MAX + 1, false },
        { BLOCK_NODE_STAGE, UINT32_MAX, false },
        { BLOCK_UPSTREAM_METHOD_COUNT, 0, false },
        { UINT32_MAX, 0, false },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        request = (struct block_request){ .operation = BLOCK_UPSTREAM_CALL };
        request.upstream.method = cases[i].method;
        request.upstream.body_len = (uint32_t)cases[i].len;
        put(&request, sizeof(request));
        assert_int_equal(cases[i].good, block_receive_request(ends[1], &got, &err));
    }
}

static void what_a_request_says_has_the_length_that_it_names(void **state)
{
    (void)state;
    uint8_t got[4] = { 0 };

    assert_true(block_send_body(ends[0], (const uint8_t *)"body", 4, &err));
    assert_true(block_receive_body(ends[1], got, 4, &err));
    assert_memory_equal(got, "body", 4);
    put("longer", 6);
    assert_false(block_receive_body(ends[1], got, 4, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    put("sho", 3);
    assert_false(block_receive_body(ends[1], got, 4, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
}

static void a_closed_end_is_a_cancellation(void **state)
{
    (void)state;
    static struct block_request got;
    close_at(&ends[0]);
    assert_false(block_receive_request(ends[1], &got, &err));
    assert_int_equal(ERROR_CANCELLED, err.code);
    assert_false(block_send_request(ends[1], good_request(), &err));
    assert_int_equal(ERROR_CANCELLED, err.code);
}

static void waiting_for_a_message_ends_at_the_deadline(void **state)
{
    (void)state;
    static struct block_message got;
    assert_false(block_receive_message(ends[1], clock_now_ms() + 20, &got, &err));
    assert_int_equal(ERROR_DEADLINE_EXCEEDED, err.code);
}

static bool message_arrives(const struct block_message *message)
{
    static struct block_message got;

    put(message, sizeof(*message));
    return block_receive_message(ends[1], 0, &got, &err);
}

static void a_bad_message_is_refused(void **state)
{
    (void)state;
    static struct block_message m;
    const struct block_message good = { .kind = BLOCK_DONE };
    m = good;
    assert_true(message_arrives(&m));
    m.kind = 0;
    assert_false(message_arrives(&m));
    m.kind = BLOCK_DONE + 1;
    assert_false(message_arrives(&m));
    m = good;
    m.kind = BLOCK_EVENT;
    assert_false(message_arrives(&m));
    m.event = BLOCK_EVENT_END;
    assert_false(message_arrives(&m));
    m.event = BLOCK_EVENT_FAILED;
    assert_true(message_arrives(&m));
    m.event = BLOCK_EVENT_DEVICE_GONE;
    assert_true(message_arrives(&m));
    m = good;
    m.result.has_place = true;
    assert_true(message_arrives(&m));
    *(unsigned char *)&m.result.has_place = 2;
    assert_false(message_arrives(&m));
    assert_string_equal("message from the worker: result.has_place is not valid", err.text);
    m = good;
    m.err.code = ERROR_CODE_COUNT;
    assert_false(message_arrives(&m));
    m = good;
    for (size_t i = 0; i < sizeof(m.err.text); i++)
        m.err.text[i] = 'x';
    assert_false(message_arrives(&m));
    assert_string_equal("message from the worker: err.text is not valid", err.text);
    m = good;
    for (size_t i = 0; i < sizeof(m.result.holder); i++)
        m.result.holder[i] = 'x';
    assert_false(message_arrives(&m));
    assert_string_equal("message from the worker: result.holder is not valid", err.text);
    m = good;
    m.change.len = RECORD_ENCODED_MAX + 1;
    assert_false(message_arrives(&m));
    m = good;
    m.change.len = SIZE_MAX;
    assert_false(message_arrives(&m));
    m = good;
    for (size_t i = 0; i < sizeof(m.volume_id); i++)
        m.volume_id[i] = 'x';
    assert_false(message_arrives(&m));
    m = good;
    *(unsigned char *)&m.result.probe.xfs = 7;
    assert_false(message_arrives(&m));
    assert_string_equal("message from the worker: result.probe.xfs is not valid", err.text);
}

static void data_out_of_bounds_is_refused(void **state)
{
    (void)state;
    static struct block_message m;
    static const struct {
        uint32_t part, len;
        bool good;
    } cases[] = {
        { BLOCK_DATA_QUOTE, 1, true },
        { BLOCK_DATA_EVENT_LOG, BLOCK_DATA_MAX, true },
        { 0, 1, false },
        { BLOCK_DATA_ANSWER, 1, true },
        { BLOCK_DATA_ANSWER + 1, 1, false },
        { UINT32_MAX, 1, false },
        { BLOCK_DATA_QUOTE, 0, false },
        { BLOCK_DATA_QUOTE, BLOCK_DATA_MAX + 1, false },
        { BLOCK_DATA_EVENT_LOG, UINT32_MAX, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        m = (struct block_message){ .kind = BLOCK_DATA };
        m.data.part = cases[i].part;
        m.data.len = cases[i].len;
        assert_int_equal(cases[i].good, message_arrives(&m));
    }
    m.kind = BLOCK_DONE; /* data.len does not matter here */
    assert_true(message_arrives(&m));
}

static void a_binding_arrives_as_it_was_sent(void **state)
{
    (void)state;
    static struct block_request got;
    struct block_request *request = good_request();
    request->operation = BLOCK_ATTEST;
    request->attest.nonce[0] = 1;
    request->attest.client_key_sha256[BINDING_LEN - 1] = 2;
    request->attest.broker_key_sha256[BINDING_LEN - 1] = 3;
    assert_true(block_send_request(ends[0], request, &err));
    assert_true(block_receive_request(ends[1], &got, &err));
    assert_memory_equal(&request->attest, &got.attest, sizeof(got.attest));
}

static struct block_answer *good_answer(void)
{
    static struct block_answer a;

    a = (struct block_answer){ .ok = true };
    a.record.len = RECORD_ENCODED_MAX;
    return &a;
}

static bool answer_arrives(const struct block_answer *answer)
{
    static struct block_answer got;

    put(answer, sizeof(*answer));
    return block_receive_answer(ends[1], &got, &err);
}

static void a_bad_answer_is_refused(void **state)
{
    (void)state;
    assert_true(answer_arrives(good_answer()));
    struct block_answer *a = good_answer();
    a->record.len = RECORD_ENCODED_MAX + 1;
    assert_false(answer_arrives(a));
    a = good_answer();
    a->record.len = SIZE_MAX;
    assert_false(answer_arrives(a));
    a = good_answer();
    a->err.code = ERROR_CODE_COUNT;
    assert_false(answer_arrives(a));
    a = good_answer();
    for (size_t i = 0; i < sizeof(a->err.reason); i++)
        a->err.reason[i] = 'x';
    assert_false(answer_arrives(a));
    a = good_answer();
    a->signature.len = BROKER_SIGNATURE_MAX + 1;
    assert_false(answer_arrives(a));
    a = good_answer();
    a->signature.certificates_len = BROKER_CERTIFICATES_MAX + 1;
    assert_false(answer_arrives(a));
    a = good_answer();
    *(unsigned char *)&a->ok = 2;
    assert_false(answer_arrives(a));
}

static size_t times(enum block_operation operation, enum block_message_kind question, int change)
{
    struct block_asked asked = { .open = 0 };
    size_t n = 0;

    while (n < 100 && block_may_ask(operation, question, (enum record_change_kind)change, &asked))
        n++;
    return n;
}

/* All operations and questions: a new question must be added here, too. */
static void an_operation_asks_what_it_needs_so_often_and_nothing_else(void **state)
{
    static const struct {
        enum block_operation operation;
        size_t record, open, evidence, changes[RECORD_CHANGE_KIND_COUNT + 1];
    } rows[] = {
        { BLOCK_STAGE, 0, 1, 2, { 0, 1, 3, 2, 0, 1, 1, 0 } },
        { BLOCK_ROTATE, 0, 1, 2, { 0, 0, 0, 0, 0, 1, 1, 0 } },
        { BLOCK_RENEW, 1, 1, 2, { 0 } },
        { BLOCK_UNSTAGE, 0, 0, 2, { 0, 0, 0, 2, 0 } },
        { BLOCK_EXPAND, 1, 0, 2, { 0 } },
        { BLOCK_PUBLISH, 0, 0, 0, { 0 } },
        { BLOCK_UNPUBLISH, 0, 0, 0, { 0 } },
        { BLOCK_STATS, 0, 0, 0, { 0 } },
        { BLOCK_INSPECT, 0, 0, 0, { 0 } },
        { BLOCK_CREATE, 0, 0, 0, { 0 } },
        { BLOCK_DELETE, 0, 0, 0, { 0 } },
        { BLOCK_COPY, 0, 0, 0, { 0 } },
        { BLOCK_RESIZE, 0, 0, 0, { 0 } },
        { BLOCK_CAPACITY, 0, 0, 0, { 0 } },
        { BLOCK_WATCH, 0, 0, 0, { 0 } },
        { BLOCK_PROBE, 0, 0, 0, { 0 } },
        { BLOCK_UNLINK, 0, 0, 0, { 0 } },
        { BLOCK_SOCKET, 0, 0, 0, { 0 } },
        { BLOCK_ATTEST, 0, 0, 1, { 0 } },
        { BLOCK_PLACE, 0, 0, 0, { 0 } },
        { BLOCK_UNPLACE, 0, 0, 0, { 0 } },
        { BLOCK_FORWARD, 0, 0, 0, { 0 } },
        { BLOCK_GROWN, 0, 0, 0, { 0 } },
        { BLOCK_UPSTREAM_READ, 0, 0, 0, { 0 } },
        { BLOCK_UPSTREAM_CALL, 0, 0, 0, { 0 } },
    };

    (void)state;
    assert_int_equal(ARRAY_LEN(rows), BLOCK_OPERATION_COUNT - 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum block_operation operation = rows[i].operation;

        assert_int_equal(rows[i].record, times(operation, BLOCK_ASK_RECORD, 0));
        assert_int_equal(rows[i].open, times(operation, BLOCK_ASK_OPEN, 0));
        assert_int_equal(rows[i].evidence, times(operation, BLOCK_ASK_EVIDENCE, 0));
        for (int change = 0; change <= RECORD_CHANGE_KIND_COUNT; change++)
            assert_int_equal(rows[i].changes[change], times(operation, BLOCK_ASK_CHANGE, change));
        assert_int_equal(0, times(operation, BLOCK_DONE, 0));
    }
}

static void a_refusal_needs_no_record(void **state)
{
    (void)state;
    static struct block_answer refusal;
    refusal = (struct block_answer){ .ok = false };
    assert_true(answer_arrives(&refusal));
}

static struct block_message *socket_message(void)
{
    static struct block_message message;

    message = (struct block_message){ .kind = BLOCK_DONE, .ok = true };
    message.result.n_fds = BLOCK_FDS_MAX;
    message.result.fds[0] = message.result.fds[1] = STDERR_FILENO;
    return &message;
}

static void a_result_brings_its_descriptors(void **state UNUSED)
{
    static struct block_message got;
    unsigned before = count_fds();

    assert_true(block_send_message(ends[0], socket_message(), &err));
    assert_true(block_receive_message(ends[1], 0, &got, &err));
    assert_int_equal(got.result.n_fds, BLOCK_FDS_MAX);
    for (size_t i = 0; i < BLOCK_FDS_MAX; i++)
        assert_true(got.result.fds[i] > STDERR_FILENO &&
                    (fcntl(got.result.fds[i], F_GETFD) & FD_CLOEXEC));
    block_close_descriptors(&got.result);
    assert_int_equal(before, count_fds());
}

/* Numbers in a packet are not descriptors, and descriptors come only where they belong. */
static void other_descriptors_of_a_result_are_refused(void **state UNUSED)
{
    static struct block_message got;
    unsigned before = count_fds();
    struct block_message *message = socket_message();

    message->kind = BLOCK_EVENT;
    message->event = BLOCK_EVENT_FAILED;
    assert_true(block_send_message(ends[0], message, &err));
    assert_true(block_receive_message(ends[1], 0, &got, &err));
    assert_int_equal(got.result.n_fds, 0);
    message = socket_message();
    message->result.n_fds = UINT32_MAX;
    assert_true(block_send_message(ends[0], message, &err));
    assert_true(block_receive_message(ends[1], 0, &got, &err));
    assert_int_equal(got.result.n_fds, 0);

    message = socket_message();
    for (size_t n = 1; n <= 3; n += 2) { /* too few, too many */
        put_with_fds(message, sizeof(*message), n);
        assert_false(block_receive_message(ends[1], 0, &got, &err));
    }
    message->ok = false;
    put_with_fds(message, sizeof(*message), 2);
    assert_false(block_receive_message(ends[1], 0, &got, &err));
    assert_int_equal(before, count_fds());
}

static void an_operation_brings_exactly_one_descriptor(void **state)
{
    (void)state;
    int fd = -1;
    unsigned before = count_fds();
    int copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(block_send_operation(ends[0], copy, &err));
    assert_true(block_receive_operation(ends[1], &fd, &err));
    assert_true(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    close(fd);
    assert_int_equal(before, count_fds());

    put("o", 1);
    assert_false(block_receive_operation(ends[1], &fd, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    put_with_fds("o", 1, 2);
    assert_false(block_receive_operation(ends[1], &fd, &err));
    put_with_fds("x", 1, 1);
    assert_false(block_receive_operation(ends[1], &fd, &err));
    put_with_fds("oo", 2, 1);
    assert_false(block_receive_operation(ends[1], &fd, &err));
    assert_int_equal(before, count_fds());
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)
    const struct CMUnitTest tests[] = {
        CASE(a_good_request_arrives),
        CASE(an_unknown_operation_is_refused),
        CASE(a_string_without_end_is_refused),
        CASE(a_bool_that_is_neither_is_refused),
        CASE(a_packet_of_another_size_is_refused),
        CASE(descriptors_that_nobody_asked_for_are_closed),
        CASE(calls_of_another_driver_have_bounds),
        CASE(what_a_request_says_has_the_length_that_it_names),
        CASE(a_closed_end_is_a_cancellation),
        CASE(waiting_for_a_message_ends_at_the_deadline),
        CASE(a_bad_message_is_refused),
        CASE(data_out_of_bounds_is_refused),
        CASE(a_binding_arrives_as_it_was_sent),
        CASE(a_bad_answer_is_refused),
        CASE(an_operation_asks_what_it_needs_so_often_and_nothing_else),
        CASE(a_refusal_needs_no_record),
        CASE(a_result_brings_its_descriptors),
        CASE(other_descriptors_of_a_result_are_refused),
        CASE(an_operation_brings_exactly_one_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
