/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "tests/unit/appraisal/vouching.h"
#include "tests/vm/steps.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * A broker whose certificate is good, and what it has to show (--broker-policy) before the real
 * tdvol-blockd formats or opens anything with a secret of it.
 */
static struct vouching v;
static unsigned n_asked;

static void show(struct front *f, int fd)
{
    static struct block_answer answer;
    auto_broker_evidence struct broker_evidence shown = { .bytes = NULL };
    struct error err = ERROR_INIT;

    n_asked++;
    vouching_show(&v, f->last.relay.nonce, f->last.broker_key_sha256, &shown);
    answer = (struct block_answer){ .ok = true, .evidence = shown.size };
    assert_true(block_send_answer(fd, &answer, &err) && block_send_evidence(fd, &shown, &err));
}

static void write_policy(const char *text)
{
    struct error err = ERROR_INIT;

    assert_true(file_write(front_path(&front, "brokers.json"), 0600, text, strlen(text), &err));
}

static int set_up(void **state)
{
    (void)steps_start(state);
    (void)front_stop(&front);
    vouching_make(&v);
    sim_pki_save(v.pki, front.folder);
    write_policy(v.policy);
    front.vouch = show;
    front.more[0] = "--broker-policy";
    front.more[1] = front_path(&front, "brokers.json");
    front.more[2] = "--test-root";
    front.more[3] = front_path(&front, "root.der");
    n_asked = 0;
    front_start_again(&front);
    return 0;
}

static int tear_down(void **state)
{
    steps_set_fault(NULL);
    vouching_free(&v);
    return steps_end(state);
}

static void refused_with(const struct block_request *request, enum error_code code,
                         const char *part)
{
    struct error err = ERROR_INIT;

    assert_false(front_call(&front, request, NULL, &err));
    if (err.code != code || strcmp(err.reason, "BrokerEvidence") != 0 || !strstr(err.text, part))
        fail_msg("%s %s: %s", error_code_name(err.code), err.reason, err.text);
    wait_for_workers();
}

/* Nothing was written to the only backing file. */
static void expect_blank(void)
{
    static const char zeros[65536];
    static char bytes[sizeof(zeros)];
    DIR *folder = opendir(front_path(&front, "local"));
    unsigned n_files = 0;

    assert_non_null(folder);
    for (const struct dirent *e; (e = readdir(folder));) {
        auto_close int fd = openat(dirfd(folder), e->d_name, O_RDONLY | O_CLOEXEC);
        ssize_t len = 0;

        if (e->d_name[0] == '.')
            continue;
        n_files++;
        while ((len = read(fd, bytes, sizeof(bytes))) > 0)
            assert_memory_equal(bytes, zeros, (size_t)len);
        assert_int_equal(len, 0);
    }
    closedir(folder);
    assert_int_equal(n_files, 1);
}

static void a_broker_that_has_shown_what_it_runs_is_asked_once(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    assert_int_equal(n_asked, 1);
    expect_nothing_left();
}

/* Its certificate is good, and the attacker knows the secret that it gives. */
static void nothing_is_formatted_with_the_secret_of_another_image(void **state)
{
    (void)state;
    v.td.mrtd[0] ^= 1;
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    refused_with(stage_request("a"), ERROR_DENIED, "Measurement");
    expect_blank();
    v.td.mrtd[0] ^= 1;
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    assert_int_equal(n_asked, 2);
    expect_nothing_left();
}

/* The same node has the old broker's evidence; the new one has another key. */
static void a_broker_with_another_key_shows_its_own(void **state)
{
    struct broker_end before = front.broker;
    struct error err = ERROR_INIT;

    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    broker_end_make(&front.broker, NULL);
    assert_true(file_write(front_path(&front, "ca.crt"), 0600, front.broker.ca_pem,
                           strlen(front.broker.ca_pem), &err));
    v.td.rtmr[1][0] ^= 1;
    refused_with(stage_request("a"), ERROR_DENIED, "Measurement");
    v.td.rtmr[1][0] ^= 1;
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    assert_int_equal(n_asked, 3);
    broker_end_free(&before);
    expect_nothing_left();
}

static void another_policy_counts_at_once_and_a_bad_one_never(void **state)
{
    auto_free char *other = strdup(v.policy);

    (void)state;
    assert_non_null(other);
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    write_policy("{}");
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    assert_int_equal(n_asked, 1);
    char *mrtd = strstr(other, "mrtd\":[\"") + strlen("mrtd\":[\"");

    *mrtd = *mrtd == '0' ? '1' : '0';
    write_policy(other);
    refused_with(stage_request("a"), ERROR_DENIED, "Measurement");
    write_policy(v.policy);
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* Closing needs no broker, so it needs no evidence either. */
static void a_volume_is_closed_though_the_broker_shows_nothing_any_more(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    assert_int_equal(unlink(front_path(&front, "state/brokers.noted")), 0);
    v.td.mrtd[0] ^= 1;
    must(unstage_request("a"), NULL);
    assert_int_equal(n_asked, 2);
    v.td.mrtd[0] ^= 1;
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_worker_that_dies_at_its_note_leaves_none_or_a_whole_one(void **state)
{
    static const struct {
        const char *rule;
        unsigned asked;
    } rows[] = { { "appraisal.note.before:kill", 2 }, { "appraisal.note.after:kill", 1 } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *id = i == 0 ? "a" : "b";
        struct error err = ERROR_INIT;

        n_asked = 0;
        (void)unlink(front_path(&front, "state/brokers.noted"));
        create(id, INTEGRITY_AEGIS128, "ext4", 32 * MIB);
        steps_set_fault(rows[i].rule);
        assert_false(front_call(&front, stage_request(id), NULL, &err));
        assert_int_equal(err.code, ERROR_CANCELLED);
        wait_for_workers();
        must(stage_request(id), NULL);
        must(unstage_request(id), NULL);
        assert_int_equal(n_asked, rows[i].asked);
    }
    expect_nothing_left();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_broker_that_has_shown_what_it_runs_is_asked_once),
        CASE(nothing_is_formatted_with_the_secret_of_another_image),
        CASE(a_broker_with_another_key_shows_its_own),
        CASE(another_policy_counts_at_once_and_a_bad_one_never),
        CASE(a_volume_is_closed_though_the_broker_shows_nothing_any_more),
        CASE(a_worker_that_dies_at_its_note_leaves_none_or_a_whole_one),
    };

    if (setenv("TDVOL_FAULT", "@" STEPS_FAULT_FILE, 1) != 0)
        return 1;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
