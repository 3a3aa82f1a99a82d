/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "blockd/client.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Plays tdvol-blockd in a thread. Each test sets what its worker does. */
struct helper {
    int front_fd, blockd_fd;
    void (*work)(struct helper *helper, int fd, const struct block_request *request);
    pthread_t thread;
    bool was_cancelled;
    uint64_t give_up_ms;
    char order[16];
    size_t n;
};

static struct error err;

static void say(int fd, struct block_message *message)
{
    struct error ignored = ERROR_INIT;

    if (!block_send_message(fd, message, &ignored))
        return;
}

static void say_done(int fd, bool ok, enum error_code code)
{
    struct block_message done = { .kind = BLOCK_DONE, .ok = ok };

    if (!ok)
        error_set(&done.err, code, "the worker's words");
    done.result.size_bytes = 42;
    say(fd, &done);
}

static void *serve_one(void *cookie)
{
    struct helper *helper = cookie;
    auto_close int fd = -1;
    struct error ignored = ERROR_INIT;
    struct block_request request;

    if (block_receive_operation(helper->blockd_fd, &fd, &ignored) &&
        block_receive_request(fd, &request, &ignored))
        helper->work(helper, fd, &request);
    return NULL;
}

static void start(struct helper *helper,
                  void (*work)(struct helper *helper, int fd, const struct block_request *request))
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *helper = (struct helper){ .front_fd = pair[0], .blockd_fd = pair[1], .work = work };
    assert_int_equal(pthread_create(&helper->thread, NULL, serve_one, helper), 0);
}

static void stop(struct helper *helper)
{
    assert_int_equal(pthread_join(helper->thread, NULL), 0);
    close_at(&helper->front_fd);
    close_at(&helper->blockd_fd);
}

static bool hook_open(void *cookie, const struct relay *relay,
                      const uint8_t public_key[static HPKE_PUBLIC_LEN], struct record *record,
                      struct sealed_secret *secret, struct error *hook_err)
{
    struct helper *helper = cookie;

    helper->order[helper->n++] = 'o';
    if (public_key[0] != 7)
        return error_set(hook_err, ERROR_DENIED, "wrong key");
    *record = (struct record){ .version = 5 };
    secret->bytes[0] = 9;
    relay->signature->len = relay->question->nonce[0];
    return true;
}

static bool hook_change(void *cookie, const struct relay *relay UNUSED,
                        const struct record_change *change, struct record *record UNUSED,
                        struct error *hook_err)
{
    struct helper *helper = cookie;

    helper->order[helper->n++] = 'c';
    return error_set(hook_err, ERROR_ABORTED, "change %u lost the race", change->kind);
}

static void hook_event(void *cookie, const struct block_message *message)
{
    struct helper *helper = cookie;

    helper->order[helper->n++] = (char)('0' + message->count);
}

static const struct block_hooks hooks = { .open = hook_open,
                                          .change = hook_change,
                                          .event = hook_event };

static bool run_as(enum block_operation operation, struct helper *helper,
                   const struct block_hooks *with, uint64_t deadline_ms,
                   bool (*is_cancelled)(void *), struct block_result *out)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct block_request *request = block_request_new(&arena, operation, "v1");
    const struct block_run block_run = { .operation = "Test",
                                         .request = request,
                                         .hooks = with,
                                         .hook_cookie = helper,
                                         .is_cancelled = is_cancelled,
                                         .cancel_cookie = helper };
    struct blockd_link door = { .control_fd = helper->front_fd, .give_up_ms = helper->give_up_ms };
    const struct workers blocks = workers_over(&door);

    request->deadline_ms = deadline_ms;
    return blocks.run(blocks.cookie, &block_run, out, &err);
}

/* An operation that asks nothing. */
static bool run(struct helper *helper, const struct block_hooks *with, uint64_t deadline_ms,
                bool (*is_cancelled)(void *), struct block_result *out)
{
    return run_as(BLOCK_STATS, helper, with, deadline_ms, is_cancelled, out);
}

/* --- */

static void work_with_a_body(struct helper *helper UNUSED, int fd,
                             const struct block_request *request)
{
    uint8_t body[4];
    struct error ignored = ERROR_INIT;

    say_done(fd,
             request->upstream.body_len == 4 && block_receive_body(fd, body, 4, &ignored) &&
                 memcmp(body, "body", 4) == 0,
             ERROR_INTERNAL);
}

static void what_a_request_says_follows_it(void **state UNUSED)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct block_request *request = block_request_new(&arena, BLOCK_UPSTREAM_CALL, "v1");
    const struct block_run block_run = { .operation = "Test",
                                         .request = request,
                                         .body = (const uint8_t *)"body" };
    struct block_result result;
    struct helper helper;

    start(&helper, work_with_a_body);
    struct blockd_link door = { .control_fd = helper.front_fd };
    const struct workers blocks = workers_over(&door);

    request->upstream.body_len = 4;
    assert_ok(blocks.run(blocks.cookie, &block_run, &result, &err));
    stop(&helper);
}

static void work_well(struct helper *helper, int fd, const struct block_request *request)
{
    bool is_right = request->operation == BLOCK_STATS && strcmp(request->volume_id, "v1") == 0;

    helper->was_cancelled = false;
    say_done(fd, is_right, ERROR_INTERNAL);
}

static void result_comes_back(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, work_well);
    assert_ok(run(&helper, NULL, 0, NULL, &result));
    assert_int_equal(result.size_bytes, 42);
    stop(&helper);
}

static void refuse(struct helper *helper UNUSED, int fd, const struct block_request *request UNUSED)
{
    say_done(fd, false, ERROR_NOT_FOUND);
}

static void failure_keeps_code_and_words(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, refuse);
    assert_refused(ERROR_NOT_FOUND, run(&helper, NULL, 0, NULL, &result));
    assert_string_equal(err.text, "the worker's words");
    stop(&helper);
}

static bool decodes(const struct encoded *encoded, uint64_t version)
{
    static struct record record;
    struct error ignored = ERROR_INIT;

    return record_decode(encoded->bytes, encoded->len, &record, &ignored) &&
           record.version == version;
}

static void ask(struct helper *helper, int fd, const struct block_request *request UNUSED)
{
    static struct block_message open = { .kind = BLOCK_ASK_OPEN,
                                         .sealing_public_key = { 7 },
                                         .relay = { .nonce = { 3 } } };
    static struct block_message event = { .kind = BLOCK_EVENT,
                                          .event = BLOCK_EVENT_INTEGRITY_ERROR,
                                          .count = 3 };
    static struct block_message change = { .kind = BLOCK_ASK_CHANGE,
                                           .change = { .len = 2, .bytes = { 0x08, 3 } } };
    static struct block_answer answer; /* large */
    struct error ignored = ERROR_INIT;

    say(fd, &open);
    bool opened = block_receive_answer(fd, &answer, &ignored) && answer.ok &&
                  decodes(&answer.record, 5) && answer.secret.bytes[0] == 9 &&
                  answer.signature.len == 3;
    say(fd, &event);
    say(fd, &change);
    bool refused = block_receive_answer(fd, &answer, &ignored) && !answer.ok &&
                   answer.err.code == ERROR_ABORTED;
    helper->was_cancelled = false;
    say_done(fd, opened && refused, ERROR_INTERNAL);
}

static void questions_are_answered_in_order(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, ask);
    assert_ok(run_as(BLOCK_STAGE, &helper, &hooks, 0, NULL, &result));
    assert_string_equal(helper.order, "o3c");
    stop(&helper);
}

static void ask_in_vain(struct helper *helper UNUSED, int fd,
                        const struct block_request *request UNUSED)
{
    static struct block_message message = { .kind = BLOCK_ASK_OPEN };
    static struct block_answer answer;
    struct error ignored = ERROR_INIT;

    say(fd, &message);
    say_done(fd, block_receive_answer(fd, &answer, &ignored) && !answer.ok, ERROR_INTERNAL);
}

static void unexpected_question_is_refused(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, ask_in_vain);
    /* Without hooks the question cannot be answered. */
    assert_ok(run_as(BLOCK_STAGE, &helper, NULL, 0, NULL, &result));
    stop(&helper);
    start(&helper, ask_in_vain);
    /* EXPAND may not ask for the key. */
    assert_ok(run_as(BLOCK_EXPAND, &helper, &hooks, 0, NULL, &result));
    assert_int_equal(helper.n, 0);
    stop(&helper);
}

/* The front counts, too. */
static void ask_twice(struct helper *helper UNUSED, int fd,
                      const struct block_request *request UNUSED)
{
    static struct block_message open = { .kind = BLOCK_ASK_OPEN, .sealing_public_key = { 7 } };
    static struct block_answer answer;
    struct error ignored = ERROR_INIT;

    say(fd, &open);
    bool first = block_receive_answer(fd, &answer, &ignored) && answer.ok;
    say(fd, &open);
    bool second = block_receive_answer(fd, &answer, &ignored) && answer.ok;
    say_done(fd, first && !second, ERROR_INTERNAL);
}

static void a_key_is_asked_for_once(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, ask_twice);
    assert_ok(run_as(BLOCK_STAGE, &helper, &hooks, 0, NULL, &result));
    assert_int_equal(helper.n, 1);
    stop(&helper);
}

/* --- the broker's evidence --- */

static bool hook_evidence(void *cookie, const struct relay *relay, const uint8_t *key,
                          struct broker_evidence *out, struct error *hook_err)
{
    struct helper *helper = cookie;

    helper->order[helper->n++] = 'e';
    if (key[0] != 3)
        return error_set(hook_err, ERROR_UNAVAILABLE, "no broker has this key");
    out->size = (struct broker_evidence_size){ 4, 0, BLOCK_BODY_MAX };
    out->bytes = calloc(1, broker_evidence_len(&out->size));
    if (!out->bytes)
        return error_set(hook_err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    out->bytes[0] = relay->question->nonce[0];
    return true;
}

static bool ask_evidence(int fd, uint8_t key, struct block_answer *answer)
{
    static struct block_message question;
    struct error ignored = ERROR_INIT;

    question.kind = BLOCK_ASK_EVIDENCE;
    question.relay.nonce[0] = 44;
    question.broker_key_sha256[0] = key;
    say(fd, &question);
    return block_receive_answer(fd, answer, &ignored);
}

static void ask_for_evidence(struct helper *helper UNUSED, int fd,
                             const struct block_request *request UNUSED)
{
    static struct block_answer answer;
    auto_broker_evidence struct broker_evidence got = { .bytes = NULL };
    struct error ignored = ERROR_INIT;
    bool ok = ask_evidence(fd, 3, &answer) && answer.ok &&
              block_receive_evidence(fd, &answer.evidence, clock_now_ms() + 5000, &got, &ignored) &&
              got.bytes[0] == 44;

    ok = ok && ask_evidence(fd, 4, &answer) && !answer.ok && answer.evidence.quote == 0 &&
         answer.err.code == ERROR_UNAVAILABLE;
    ok = ok && ask_evidence(fd, 3, &answer) && !answer.ok && answer.err.code == ERROR_INTERNAL;
    say_done(fd, ok, ERROR_ABORTED);
}

static void evidence_is_passed_on_and_not_more_often_than_it_may(void **state UNUSED)
{
    static const struct block_hooks with = { .evidence = hook_evidence };
    struct helper helper;
    struct block_result result;

    start(&helper, ask_for_evidence);
    assert_ok(run_as(BLOCK_STAGE, &helper, &with, 0, NULL, &result));
    assert_string_equal(helper.order, "ee");
    stop(&helper);
}

static void die(struct helper *helper UNUSED, int fd UNUSED,
                const struct block_request *request UNUSED)
{
}

static void dead_worker_is_unavailable(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, die);
    assert_refused(ERROR_UNAVAILABLE, run(&helper, NULL, 0, NULL, &result));
    stop(&helper);
    start(&helper, die);
    assert_refused(ERROR_DEADLINE_EXCEEDED, run(&helper, NULL, clock_now_ms() + 1, NULL, &result));
    stop(&helper);
}

static void blockd_that_is_gone_is_unavailable(void **state UNUSED)
{
    struct helper helper = { .blockd_fd = -1 };
    struct block_result result;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    helper.front_fd = pair[0];
    close(pair[1]);
    assert_refused(ERROR_UNAVAILABLE, run(&helper, NULL, 0, NULL, &result));
    close(pair[0]);
}

static void hang(struct helper *helper, int fd, const struct block_request *request UNUSED)
{
    struct block_answer answer;
    struct error reason = ERROR_INIT;

    helper->was_cancelled =
        !block_receive_answer(fd, &answer, &reason) && reason.code == ERROR_CANCELLED;
}

static bool always(void *cookie UNUSED)
{
    return true;
}

static void worker_learns_that_its_caller_has_gone(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, hang);
    assert_refused(ERROR_CANCELLED, run(&helper, NULL, 0, always, &result));
    assert_int_equal(pthread_join(helper.thread, NULL), 0);
    assert_true(helper.was_cancelled);
    close_at(&helper.front_fd);
    close_at(&helper.blockd_fd);
}

static void work_ends_with_the_plugin(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, hang);
    helper.give_up_ms = clock_now_ms();
    assert_refused(ERROR_UNAVAILABLE, run(&helper, NULL, 0, NULL, &result));
    assert_int_equal(pthread_join(helper.thread, NULL), 0);
    assert_true(helper.was_cancelled);
    close_at(&helper.front_fd);
    close_at(&helper.blockd_fd);
}

static void send_data(struct helper *helper UNUSED, int fd,
                      const struct block_request *request UNUSED)
{
    static struct block_message message;

    message.kind = BLOCK_DATA;
    message.data.part = BLOCK_DATA_QUOTE;
    message.data.len = BLOCK_DATA_MAX;
    message.data.bytes[0] = 8;
    say(fd, &message);
    message.data.part = BLOCK_DATA_EVENT_LOG;
    message.data.len = 1;
    say(fd, &message);
    say_done(fd, true, ERROR_NONE);
}

static bool hook_data(void *cookie, const struct block_data *data, struct error *hook_err)
{
    struct helper *helper = cookie;

    if (helper->n == 1)
        return error_set(hook_err, ERROR_RESOURCE_EXHAUSTED, "enough");
    helper->order[helper->n++] = (char)('0' + data->bytes[0]);
    return data->len == BLOCK_DATA_MAX && data->part == BLOCK_DATA_QUOTE;
}

static void data_is_taken_piece_by_piece_until_it_is_enough(void **state UNUSED)
{
    static const struct block_hooks taking = { .data = hook_data };
    struct helper helper;
    struct block_result result;

    start(&helper, send_data);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, run(&helper, &taking, 0, NULL, &result));
    assert_string_equal(helper.order, "8");
    stop(&helper);
}

static void data_that_nobody_asked_for_is_refused(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, send_data);
    assert_refused(ERROR_INTERNAL, run(&helper, NULL, 0, NULL, &result));
    stop(&helper);
    start(&helper, send_data);
    assert_refused(ERROR_INTERNAL, run(&helper, &hooks, 0, NULL, &result));
    stop(&helper);
}

static void lie(struct helper *helper UNUSED, int fd, const struct block_request *request UNUSED)
{
    struct block_message message = { .kind = 77 };

    say(fd, &message);
}

static void nonsense_from_the_worker_is_refused(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, lie);
    assert_false(run(&helper, NULL, 0, NULL, &result));
    stop(&helper);
}

static void say_with_descriptors(struct helper *helper UNUSED, int fd,
                                 const struct block_request *request UNUSED)
{
    struct block_message done = { .kind = BLOCK_DONE, .ok = true };

    done.result.n_fds = BLOCK_FDS_MAX;
    done.result.fds[0] = done.result.fds[1] = STDERR_FILENO;
    say(fd, &done);
}

static void descriptors_come_only_for_a_socket(void **state UNUSED)
{
    struct helper helper;
    struct block_result result;

    start(&helper, say_with_descriptors);
    assert_refused(ERROR_INTERNAL, run(&helper, NULL, 0, NULL, &result));
    assert_contains(err.text, "nobody asked for");
    stop(&helper);
    start(&helper, say_with_descriptors);
    assert_ok(run_as(BLOCK_SOCKET, &helper, NULL, 0, NULL, &result));
    assert_int_equal(result.n_fds, BLOCK_FDS_MAX);
    block_close_descriptors(&result);
    stop(&helper);
}

static void every_operation_has_a_name(void **state UNUSED)
{
    for (enum block_operation i = BLOCK_STAGE; i < BLOCK_OPERATION_COUNT; i++)
        assert_string_not_equal(block_operation_name(i), "UNKNOWN");
    assert_string_equal(block_operation_name(BLOCK_OPERATION_COUNT), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(result_comes_back),
        cmocka_unit_test(what_a_request_says_follows_it),
        cmocka_unit_test(failure_keeps_code_and_words),
        cmocka_unit_test(questions_are_answered_in_order),
        cmocka_unit_test(unexpected_question_is_refused),
        cmocka_unit_test(a_key_is_asked_for_once),
        cmocka_unit_test(evidence_is_passed_on_and_not_more_often_than_it_may),
        cmocka_unit_test(dead_worker_is_unavailable),
        cmocka_unit_test(blockd_that_is_gone_is_unavailable),
        cmocka_unit_test(worker_learns_that_its_caller_has_gone),
        cmocka_unit_test(work_ends_with_the_plugin),
        cmocka_unit_test(data_is_taken_piece_by_piece_until_it_is_enough),
        cmocka_unit_test(data_that_nobody_asked_for_is_refused),
        cmocka_unit_test(nonsense_from_the_worker_is_refused),
        cmocka_unit_test(descriptors_come_only_for_a_socket),
        cmocka_unit_test(every_operation_has_a_name),
    };

    return RUN_TESTS(tests);
}
