/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "record/layout.h"
#include "tests/vm/steps.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A front that was taken over, against the real tdvol-blockd on real device-mapper. It has the node's
 * certificates and all messages, but neither the broker's key nor a volume's secret. */

static struct block_answer kept; /* an older answer of the broker */

static void bend(struct block_answer *answer, void (*how)(struct record *r))
{
    static struct record r;
    struct error err = ERROR_INIT;

    if (!answer->ok)
        return;
    assert_true(record_decode(answer->record.bytes, answer->record.len, &r, &err));
    how(&r);
    record_encode(&r, &answer->record);
}

/* The front seals a secret of its own: anybody can seal to a public key. */
static void seal_own_secret(struct front *f, struct block_answer *answer)
{
    static struct record r;
    auto_secret struct secret own = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_true(record_decode(answer->record.bytes, answer->record.len, &r, &err));
    assert_true(secret_alloc(&own, VOLUME_SECRET_LEN, &err));
    own.bytes[0] = 'A'; /* the rest are zeros */
    assert_true(secret_seal(&r, &own, f->last.sealing_public_key, &answer->secret, &err));
}

static void be_new(struct record *r)
{
    r->phase = RECORD_FORMATTING;
    r->format = (struct record_format){ .attempt = r->format.attempt + 1,
                                        .holder = r->lease.holder,
                                        .remaining_ms = 600000 };
    r->n_header_digests = 0;
    r->open_counter = 0;
    r->is_closed = r->has_clean_hash = false;
}

static void format_anew(struct front *f, struct block_answer *answer)
{
    if (!answer->ok || f->last.kind != BLOCK_ASK_OPEN)
        return;
    bend(answer, be_new);
    seal_own_secret(f, answer);
}

/* The same, signed: by a CA that the front made. */
static void format_anew_signed(struct front *f, struct block_answer *answer)
{
    struct broker_end own;
    const struct answer_question question = broker_end_question(
        ANSWER_OPEN, f->last.relay.nonce, f->last.sealing_public_key, HPKE_PUBLIC_LEN);

    format_anew(f, answer);
    if (!answer->ok || f->last.kind != BLOCK_ASK_OPEN)
        return;
    broker_end_make(&own, NULL);
    broker_end_sign(&own, &question, &answer->record, &answer->secret, &answer->signature);
    broker_end_free(&own);
}

static void refused_for(const struct block_request *request, enum error_code code,
                        const char *reason)
{
    struct error err = ERROR_INIT;

    assert_false(front_call(&front, request, NULL, &err));
    if (err.code != code || strcmp(err.reason, reason) != 0)
        fail_msg("%s %s: %s", error_code_name(err.code), err.reason, err.text);
    front.lie = NULL;
    wait_for_workers();
}

/* The front's attempt is refused and leaves nothing; the volume still has its file. */
static void expect_data(const char *volume_id)
{
    char path[64];

    assert_int_equal(0, count_in("/dev/mapper", "tdvol-"));
    must(stage_request(volume_id), NULL);
    (void)snprintf(path, sizeof(path), "mnt/stage-%s/file", volume_id);
    expect_text(path, "hello");
    must(unstage_request(volume_id), NULL);
}

static void a_ready_volume_is_not_formatted_with_the_fronts_key(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    front.lie = format_anew;
    refused_for(stage_request("a"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    front.lie = format_anew_signed;
    refused_for(stage_request("a"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    expect_data("a");
    expect_nothing_left();
}

static void keep(struct front *f, struct block_answer *answer)
{
    if (f->last.kind == BLOCK_ASK_OPEN)
        kept = *answer;
}

static void replay(struct front *f, struct block_answer *answer)
{
    if (f->last.kind == BLOCK_ASK_OPEN)
        *answer = kept;
}

/* The broker itself signed it, when the volume was new. */
static void an_older_answer_of_the_broker_formats_nothing(void **state)
{
    (void)state;
    front.lie = keep;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    front.lie = replay;
    refused_for(stage_request("a"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    expect_data("a");
    expect_nothing_left();
}

static void without_integrity(struct record *r)
{
    struct error err = ERROR_INIT;

    r->spec.integrity = INTEGRITY_NONE;
    assert_true(layout_plan(&r->spec, r->spec.size_bytes, &err));
}

static void turn_integrity_off(struct front *f, struct block_answer *answer)
{
    (void)f;
    bend(answer, without_integrity);
}

static void an_authenticated_volume_is_not_staged_without_integrity(void **state)
{
    (void)state;
    create("b", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    front.lie = turn_integrity_off;
    refused_for(stage_request("b"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    must(stage_request("b"), NULL);
    assert_int_equal(INTEGRITY_AEGIS128, front_record(&front, "b")->spec.integrity);
    must(unstage_request("b"), NULL);
    expect_nothing_left();
}

/* The answer to a change does not replace the record that was checked. */
static void bend_changes(struct front *f, struct block_answer *answer)
{
    if (f->last.kind == BLOCK_ASK_CHANGE)
        bend(answer, without_integrity);
}

static void the_answer_to_a_change_is_checked_like_the_first(void **state)
{
    (void)state;
    create("b", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    front.lie = bend_changes;
    refused_for(stage_request("b"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    must(stage_request("b"), NULL);
    must(unstage_request("b"), NULL);
    expect_nothing_left();
}

/* The front says to the broker that it is another boot, which would be a second writer. */
static void a_lease_of_another_boot_opens_nothing(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    front.boot_id = "another-boot";
    refused_for(stage_request("a"), ERROR_FAILED_PRECONDITION, "");
    front.boot_id = NULL;
    expect_data("a");
    expect_nothing_left();
}

/* Growth asks for the record alone, and its answer is signed, too. */
static void be_larger(struct record *r)
{
    struct error err = ERROR_INIT;

    assert_true(layout_plan_growth(&r->spec, 64 * MIB, &err));
}

static void enlarge(struct front *f, struct block_answer *answer)
{
    (void)f;
    bend(answer, be_larger);
}

static void a_growth_that_the_broker_does_not_know_is_refused(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    front.lie = enlarge;
    refused_for(with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a"), ERROR_DENIED,
                BROKER_SIGNATURE_REASON);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* --- the recovery certificate: whoever chooses it can open the volume --- */

static struct made_certificate owners, fronts;

static void certify(struct record *r)
{
    r->recovery.certificate_len = (uint32_t)fronts.der_len;
    memcpy(r->recovery.certificate, fronts.der, fronts.der_len);
}

static void choose_certificate(struct front *f, struct block_answer *answer)
{
    if (f->last.kind == BLOCK_ASK_OPEN)
        bend(answer, certify);
}

static void uncertify(struct record *r)
{
    r->recovery = (struct record_recovery){ .certificate_len = 0 };
}

static void drop_certificate(struct front *f, struct block_answer *answer)
{
    if (f->last.kind == BLOCK_ASK_OPEN)
        bend(answer, uncertify);
}

static void the_certificate_is_the_brokers_to_choose(void **state)
{
    uint8_t digest[SHA256_LEN];
    struct error err = ERROR_INIT;

    (void)state;
    owners = make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    fronts = make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    create("c", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    front.lie = choose_certificate; /* where the policy names none */
    refused_for(stage_request("c"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    front.recovery = &owners;
    front.lie = choose_certificate; /* in place of the owner's */
    refused_for(stage_request("c"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    front.lie = drop_certificate;
    refused_for(stage_request("c"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    assert_int_equal(RECORD_FORMATTING, front_record(&front, "c")->phase);
    must(stage_request("c"), NULL);
    assert_true(sha256(owners.der, owners.der_len, digest, &err));
    assert_memory_equal(front_record(&front, "c")->recovery.sha256, digest, SHA256_LEN);
    must(unstage_request("c"), NULL);
    must(stage_request("c"), NULL); /* by the header with the token */
    must(unstage_request("c"), NULL);
    front.recovery = NULL;
    made_certificate_free(&owners);
    made_certificate_free(&fronts);
    expect_nothing_left();
}

/* It says for which certificate the header has a token, and no other one fits the header. */
static void claim_token(struct record *r)
{
    r->recovery.sha256[0] ^= 1;
}

static void claim_a_token(struct front *f, struct block_answer *answer)
{
    (void)f;
    bend(answer, claim_token);
}

static void which_token_a_header_has_is_not_the_fronts_to_say(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    front.lie = claim_a_token;
    refused_for(stage_request("a"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    expect_data("a");
    expect_nothing_left();
}

/* What the front cannot say alone, the worker's proof says: the close counts. */
static void an_honest_close_is_on_record_with_its_proof(void **state)
{
    const struct record *r = NULL;

    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    r = front_record(&front, "a");
    assert_true(r->is_closed && r->has_clean_hash);
    assert_int_equal(0, r->lease.holder.node[0]);
    expect_nothing_left();
}

/* A change of the front's own: the record's counter is such that the worker's key is for another
 * opening. The volume closes all the same, and the lease is given back, without the end. */
static void a_close_without_a_good_proof_gives_the_lease_back_and_no_more(void **state)
{
    struct record *r = NULL;

    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    r = front_record(&front, "a");
    r->open_counter++;
    must(unstage_request("a"), NULL);
    assert_false(r->is_closed || r->has_clean_hash);
    assert_int_equal(0, r->lease.holder.node[0]);
    r->open_counter--;
    expect_data("a");
    expect_nothing_left();
}

/* A new CA counts from the next operation on, and a bad file does not replace a good one. */
static void a_ca_file_that_changes_is_read_again(void **state)
{
    struct broker_end before = front.broker;
    struct error err = ERROR_INIT;

    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    assert_true(file_write(front_path(&front, "ca.crt"), 0600, "nonsense", 8, &err));
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    broker_end_make(&front.broker, NULL);
    assert_true(file_write(front_path(&front, "ca.crt"), 0600, front.broker.ca_pem,
                           strlen(front.broker.ca_pem), &err));
    expect_data("a");
    broker_end_free(&front.broker);
    front.broker = before;
    refused_for(stage_request("a"), ERROR_DENIED, BROKER_SIGNATURE_REASON);
    expect_nothing_left();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, steps_start, steps_end)
    const struct CMUnitTest tests[] = {
        CASE(a_ready_volume_is_not_formatted_with_the_fronts_key),
        CASE(an_older_answer_of_the_broker_formats_nothing),
        CASE(an_authenticated_volume_is_not_staged_without_integrity),
        CASE(the_answer_to_a_change_is_checked_like_the_first),
        CASE(a_lease_of_another_boot_opens_nothing),
        CASE(a_growth_that_the_broker_does_not_know_is_refused),
        CASE(the_certificate_is_the_brokers_to_choose),
        CASE(which_token_a_header_has_is_not_the_fronts_to_say),
        CASE(a_ca_file_that_changes_is_read_again),
        CASE(an_honest_close_is_on_record_with_its_proof),
        CASE(a_close_without_a_good_proof_gives_the_lease_back_and_no_more),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
