/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include "appraisal/appraisal.h"
#include "appraisal/note.h"
#include "attest/trust_root.h"
#include "base/clock.h"
#include "blockd/worker.h"
#include "record/layout.h"
#include "tests/unit/appraisal/vouching.h"
#include "tests/unit/record/broker_end.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A worker demands the broker's evidence from a front that may lie. The program is linked with
 * --wrap=block_send_message: the front acts while the worker sends its question, and leaves its answer
 * in the socket. With --wrap of two clocks it makes time pass.
 */
bool __real_block_send_message(int fd, const struct block_message *message, struct error *err);
bool __wrap_block_send_message(int fd, const struct block_message *message, struct error *err);
uint64_t __real_clock_now_ms(void);
uint64_t __wrap_clock_now_ms(void);
uint64_t __real_clock_boottime_ms(void);
uint64_t __wrap_clock_boottime_ms(void);

enum evidence_lie {
    LIE_NONE,
    LIE_REPLAY,      /* evidence over an older nonce */
    LIE_OTHER_KEY,   /* a good broker's, which has another key */
    LIE_OTHER_IMAGE, /* of a TD that is no broker */
    LIE_NO_COLLATERAL,
    LIE_EMPTY,       /* sizes of nothing */
    LIE_TOO_LARGE,   /* sizes beyond any good evidence */
    LIE_SHORT_PIECE, /* a piece is smaller than its size */
    LIE_LONG_PIECE,
    LIE_TWO_PIECES, /* one piece in two */
    LIE_SWAPPED,    /* collateral first */
    LIE_NO_PIECE,   /* the answer alone, and then silence */
    LIE_ENDLESS,    /* each byte in time, and all of them too late */
    LIE_SILENT,
    LIE_CLOSED,
    LIE_SHORT_ANSWER,
    LIE_REFUSED,
    LIE_REFUSED_WITHOUT_REASON,
    LIE_RECORD, /* an answer to another question */
};

static struct vouching v;
static struct worker_config config;
static struct block_request request;
static struct error err;
static char folder[32];
static int front_fd = -1;
static enum evidence_lie lie;
static unsigned questions;
static uint64_t passed_ms, step_ms; /* step_ms: passes at each look at the clock */
static struct broker_end broker;
static struct record volume;
static const uint8_t key[KEY_SHA256_LEN] = { 7 }, other_key[KEY_SHA256_LEN] = { 8 };

uint64_t __wrap_clock_now_ms(void)
{
    passed_ms += step_ms;
    return __real_clock_now_ms() + passed_ms;
}

uint64_t __wrap_clock_boottime_ms(void)
{
    return __real_clock_boottime_ms() + APPRAISAL_GOOD_MS + passed_ms;
}

/* --- the front --- */

static void tell(const void *bytes, size_t len)
{
    assert_int_equal(send(front_fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT), len);
}

static void tell_pieces(struct broker_evidence *shown)
{
    size_t len = broker_evidence_len(&shown->size), quote_len = shown->size.quote;

    assert_true(len < BLOCK_BODY_MAX); /* one piece */
    if (lie == LIE_SHORT_PIECE)
        tell(shown->bytes, len - 1);
    else if (lie == LIE_LONG_PIECE)
        tell(shown->bytes, len + 1);
    else if (lie == LIE_TWO_PIECES) {
        tell(shown->bytes, quote_len);
        tell(shown->bytes + quote_len, len - quote_len);
    } else if (lie == LIE_SWAPPED) {
        auto_free uint8_t *swapped = malloc(len + 1);

        assert_non_null(swapped);
        memcpy(mempcpy(swapped, shown->bytes + quote_len, len - quote_len), shown->bytes,
               quote_len);
        tell(swapped, len);
    } else if (lie != LIE_NO_PIECE && lie != LIE_ENDLESS) {
        tell(shown->bytes, len);
    }
}

static void bend_sizes(struct broker_evidence_size *size)
{
    if (lie == LIE_EMPTY)
        *size = (struct broker_evidence_size){ .quote = 0 };
    if (lie == LIE_TOO_LARGE)
        size->collateral = UINT32_MAX - 100;
    if (lie == LIE_ENDLESS)
        size->collateral = BROKER_COLLATERAL_MAX;
}

static void show(const struct block_message *question)
{
    static struct block_answer answer;
    auto_broker_evidence struct broker_evidence shown = { .bytes = NULL };
    uint8_t nonce[ANSWER_NONCE_LEN];

    memcpy(nonce, question->relay.nonce, sizeof(nonce));
    nonce[5] ^= lie == LIE_REPLAY;
    v.td.mrtd[0] ^= lie == LIE_OTHER_IMAGE;
    vouching_show(&v, nonce, lie == LIE_OTHER_KEY ? other_key : question->broker_key_sha256,
                  &shown);
    v.td.mrtd[0] ^= lie == LIE_OTHER_IMAGE;
    if (lie == LIE_NO_COLLATERAL)
        shown.size.collateral = 0;
    answer = (struct block_answer){ .ok = true, .evidence = shown.size };
    bend_sizes(&answer.evidence);
    tell(&answer, sizeof(answer));
    if (lie != LIE_EMPTY && lie != LIE_TOO_LARGE)
        tell_pieces(&shown);
}

static void refuse(void)
{
    static struct block_answer answer;

    answer = (struct block_answer){ .ok = false };
    if (lie == LIE_REFUSED)
        (void)error_set_reason(&answer.err, ERROR_DENIED, BROKER_EVIDENCE_REASON,
                               "the front says so");
    tell(&answer, sizeof(answer));
}

/* The record of a volume, as a broker with a good certificate signs it. */
static void tell_record(const struct block_message *question)
{
    const struct answer_question asked =
        broker_end_question(ANSWER_RECORD, question->relay.nonce, NULL, 0);
    static struct block_answer answer;

    answer = (struct block_answer){ .ok = true };
    record_encode(&volume, &answer.record);
    broker_end_sign(&broker, &asked, &answer.record, NULL, &answer.signature);
    tell(&answer, sizeof(answer));
}

static void answer_question(const struct block_message *question)
{
    static struct block_answer record;

    if (question->kind == BLOCK_ASK_RECORD) {
        tell_record(question);
        return;
    }
    questions++;
    assert_int_equal(question->kind, BLOCK_ASK_EVIDENCE);
    if (lie == LIE_SILENT || lie == LIE_NO_PIECE || lie == LIE_ENDLESS)
        passed_ms += 39900;
    if (lie == LIE_CLOSED)
        (void)shutdown(front_fd, SHUT_RDWR);
    else if (lie == LIE_SHORT_ANSWER)
        tell("x", 1);
    else if (lie == LIE_REFUSED || lie == LIE_REFUSED_WITHOUT_REASON)
        refuse();
    else if (lie == LIE_RECORD)
        record = (struct block_answer){ .ok = true }, tell(&record, sizeof(record));
    else if (lie != LIE_SILENT)
        show(question);
}

bool __wrap_block_send_message(int fd, const struct block_message *message, struct error *e)
{
    static struct block_message question;
    struct error unsent = ERROR_INIT;

    if (!__real_block_send_message(fd, message, e))
        return false;
    assert_ok(block_receive_message(front_fd, __real_clock_now_ms() + passed_ms + 1000, &question,
                                    &unsent));
    answer_question(&question);
    return true;
}

/* --- the worker --- */

static int set_up(void **state UNUSED)
{
    memcpy(folder, "/tmp/attest.XXXXXX", sizeof("/tmp/attest.XXXXXX"));
    vouching_make(&v);
    trust_root_default = sim_pki_root(v.pki);
    config = (struct worker_config){ .driver = "d", .state_dir = mkdtemp(folder) };
    config.demand.policy = v.policy;
    config.demand.policy_len = strlen(v.policy);
    request = (struct block_request){ .operation = BLOCK_STAGE };
    lie = LIE_NONE;
    questions = 0;
    return sha256(v.policy, strlen(v.policy), config.demand.policy_sha256, &err) ? 0 : 1;
}

static int tear_down(void **state UNUSED)
{
    static const char *const names[] = { "brokers.noted", "brokers.turn" };
    char path[64];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    vouching_free(&v);
    return rmdir(folder);
}

/* One worker. */
static bool demand_of(const uint8_t *whose, bool is_early)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    front_fd = ends[0];
    struct worker worker = { .config = &config, .front_fd = ends[1], .request = &request };

    err = (struct error)ERROR_INIT;
    bool done = worker_demand_evidence(&worker, whose, is_early, &err);

    close(ends[0]);
    close(ends[1]);
    return done;
}

static bool demand(void)
{
    return demand_of(key, false);
}

static void nothing_is_asked_unless_it_is_demanded(void **state UNUSED)
{
    config.demand.policy = NULL;
    assert_ok(demand());
    assert_int_equal(questions, 0);
}

static void good_evidence_is_asked_for_once(void **state UNUSED)
{
    assert_ok(demand());
    assert_ok(demand());
    assert_int_equal(questions, 1);
    assert_int_equal(err.code, ERROR_NONE);
}

static void each_key_has_to_show_its_own(void **state UNUSED)
{
    assert_ok(demand());
    assert_ok(demand_of(other_key, false));
    assert_ok(demand());
    assert_int_equal(questions, 2);
}

static void no_lie_is_accepted(void **state UNUSED)
{
    static const struct {
        enum evidence_lie lie;
        enum error_code code;
        const char *text;
    } rows[] = {
        { LIE_REPLAY, ERROR_DENIED, "ReportData" },
        { LIE_OTHER_KEY, ERROR_DENIED, "ReportData" },
        { LIE_OTHER_IMAGE, ERROR_DENIED, "Measurement" },
        { LIE_NO_COLLATERAL, ERROR_DENIED, "CollateralMissing" },
        { LIE_EMPTY, ERROR_UNAVAILABLE, "no quote" },
        { LIE_TOO_LARGE, ERROR_UNAVAILABLE, "evidence is not valid" },
        { LIE_SHORT_PIECE, ERROR_UNAVAILABLE, "wrong size" },
        { LIE_LONG_PIECE, ERROR_UNAVAILABLE, "wrong size" },
        { LIE_TWO_PIECES, ERROR_UNAVAILABLE, "wrong size" },
        { LIE_SWAPPED, ERROR_DENIED, "Quote" },
        { LIE_NO_PIECE, ERROR_UNAVAILABLE, "no message in time" },
        { LIE_ENDLESS, ERROR_UNAVAILABLE, "no message in time" },
        { LIE_SILENT, ERROR_UNAVAILABLE, "no message in time" },
        { LIE_CLOSED, ERROR_CANCELLED, "closed" },
        { LIE_SHORT_ANSWER, ERROR_UNAVAILABLE, "wrong size" },
        { LIE_REFUSED, ERROR_UNAVAILABLE, "the front says so" },
        { LIE_REFUSED_WITHOUT_REASON, ERROR_UNAVAILABLE, "no reason" },
        { LIE_RECORD, ERROR_UNAVAILABLE, "no quote" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        lie = rows[i].lie;
        if (demand() || err.code != rows[i].code || !strstr(err.text, rows[i].text))
            fail_msg("lie %d: %s: %s", (int)lie, error_code_name(err.code), err.text);
        assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
    }
    assert_int_equal(questions, ARRAY_LEN(rows));
    lie = LIE_NONE;
    assert_ok(demand()); /* none of them left a note, and none stands in the way */
    assert_int_equal(questions, ARRAY_LEN(rows) + 1);
}

static void after_an_hour_it_is_asked_for_again(void **state UNUSED)
{
    assert_ok(demand());
    passed_ms += APPRAISAL_GOOD_MS - 5000;
    lie = LIE_SILENT;
    assert_ok(demand());
    assert_int_equal(questions, 1);
    passed_ms += 5000;
    assert_refused(ERROR_UNAVAILABLE, demand());
    lie = LIE_NONE;
    assert_ok(demand());
    assert_int_equal(questions, 3);
}

/* The node attests every few minutes, so that volumes rarely have to wait. */
static void half_an_hour_early_it_is_renewed_if_possible(void **state UNUSED)
{
    assert_ok(demand());
    passed_ms += APPRAISAL_RENEW_MS - 5000;
    assert_ok(demand_of(key, true));
    assert_int_equal(questions, 1);
    passed_ms += 5000;
    lie = LIE_REFUSED;
    assert_ok(demand_of(key, true));
    assert_int_equal(questions, 2);
    lie = LIE_NONE;
    assert_ok(demand_of(key, true));
    assert_int_equal(questions, 3);
    passed_ms += APPRAISAL_GOOD_MS - 5000;
    assert_ok(demand());
    assert_int_equal(questions, 3);
}

/* Another image has got the broker's key. */
static void what_is_refused_ends_what_was_good_before(void **state UNUSED)
{
    assert_ok(demand());
    passed_ms += APPRAISAL_RENEW_MS;
    lie = LIE_OTHER_IMAGE;
    assert_refused(ERROR_DENIED, demand_of(key, true));
    lie = LIE_REFUSED;
    assert_refused(ERROR_UNAVAILABLE, demand());
    lie = LIE_NONE;
    assert_ok(demand());
    assert_int_equal(questions, 4);
}

static void another_policy_is_asked_for_anew(void **state UNUSED)
{
    assert_ok(demand());
    config.demand.policy_sha256[0] ^= 1;
    assert_ok(demand());
    assert_int_equal(questions, 2);
}

static void one_operation_asks_twice_at_most(void **state UNUSED)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    front_fd = ends[0];
    struct worker worker = { .config = &config, .front_fd = ends[1], .request = &request };

    lie = LIE_REFUSED;
    for (int i = 0; i < 2; i++)
        assert_refused(ERROR_UNAVAILABLE, worker_demand_evidence(&worker, key, false, &err));
    assert_refused(ERROR_UNAVAILABLE, worker_demand_evidence(&worker, key, false, &err));
    assert_contains(err.text, "asked for evidence already");
    assert_int_equal(questions, 2);
    close(ends[0]);
    close(ends[1]);
}

static void a_policy_that_is_none_is_the_operators_fault(void **state UNUSED)
{
    config.demand.policy_len = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, demand());
    assert_contains(err.text, "--broker-policy");
}

static void who_waits_for_another_gives_up(void **state UNUSED)
{
    auto_close int held = -1;

    assert_ok(appraisal_lock(folder, &held, &err));
    step_ms = 5000;
    assert_refused(ERROR_UNAVAILABLE, demand());
    step_ms = 0;
    assert_contains(err.text, "another operation");
    assert_int_equal(questions, 0);
}

/* The note comes while the other one still holds the lock. */
static void who_waits_for_another_takes_its_note(void **state UNUSED)
{
    auto_close int held = -1;

    assert_ok(appraisal_lock(folder, &held, &err));
    pid_t other = fork();

    if (other == 0) {
        struct appraisal_subject subject;

        memcpy(subject.key_sha256, key, sizeof(key));
        memcpy(subject.policy_sha256, config.demand.policy_sha256, SHA256_LEN);
        (void)usleep(100000);
        _exit(appraisal_note_write(folder, &subject, clock_boottime_ms(), &err) ? 0 : 1);
    }
    assert_ok(demand());
    assert_int_equal(questions, 0);
    assert_int_equal(waitpid(other, NULL, 0), other);
}

static void make_volume(void)
{
    volume = (struct record){ .kind = RECORD_VOLUME, .version = 1, .phase = RECORD_NEW };
    volume.key.generation = 1;
    volume.id[0] = volume.key.id[0] = 1;
    (void)snprintf(volume.driver, sizeof(volume.driver), "d");
    (void)snprintf(volume.tenant, sizeof(volume.tenant), "t");
    (void)snprintf(volume.volume_id, sizeof(volume.volume_id), "v");
    (void)snprintf(volume.spec.name, sizeof(volume.spec.name), "v");
    volume.spec.backing = BACKING_FILE;
    volume.spec.integrity = INTEGRITY_AEGIS128;
    volume.spec.provisioning = PROVISIONING_THIN;
    volume.spec.workqueue = WORKQUEUE_AUTO;
    assert_ok(layout_plan(&volume.spec, 64u << 20, &err));
}

static bool ask_record(struct worker *worker)
{
    static struct record record;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    front_fd = ends[0];
    *worker = (struct worker){ .config = &config, .front_fd = ends[1], .request = &request };
    bool done = worker_ask_record(worker, &record, &err);

    close(ends[0]);
    close(ends[1]);
    return done;
}

/* With --broker-policy the CA's signature is not enough. */
static void what_a_broker_says_counts_once_it_has_shown_what_it_runs(void **state UNUSED)
{
    static struct worker worker;

    make_volume();
    broker_end_make(&broker, NULL);
    config.broker.names = (struct option_list){ 1, { "localhost" } };
    assert_ok(broker_trust_read_ca(&config.broker, broker.ca_pem, &err));
    request.operation = BLOCK_EXPAND;
    (void)snprintf(request.volume_id, sizeof(request.volume_id), "v");
    lie = LIE_OTHER_IMAGE;
    assert_refused(ERROR_DENIED, ask_record(&worker));
    assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
    assert_false(worker.has_record);
    lie = LIE_NONE;
    assert_ok(ask_record(&worker));
    assert_true(worker.has_record);
    assert_ok(ask_record(&worker));
    assert_int_equal(questions, 2);
    broker_trust_free(&config.broker);
    broker_end_free(&broker);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(nothing_is_asked_unless_it_is_demanded),
        CASE(good_evidence_is_asked_for_once),
        CASE(each_key_has_to_show_its_own),
        CASE(no_lie_is_accepted),
        CASE(after_an_hour_it_is_asked_for_again),
        CASE(half_an_hour_early_it_is_renewed_if_possible),
        CASE(what_is_refused_ends_what_was_good_before),
        CASE(another_policy_is_asked_for_anew),
        CASE(one_operation_asks_twice_at_most),
        CASE(a_policy_that_is_none_is_the_operators_fault),
        CASE(who_waits_for_another_gives_up),
        CASE(who_waits_for_another_takes_its_note),
        CASE(what_a_broker_says_counts_once_it_has_shown_what_it_runs),
    };

    return RUN_TESTS(tests);
}
