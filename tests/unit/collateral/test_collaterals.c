/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "collateral/collaterals.h"
#include "tests/sim/sim.h"
#include "tests/unit/attest/fake_pcs.h"
#include "tests/unit/broker/store_memory.h"
#include "tests/unit/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define HOUR 3600
#define DAY  (24 * HOUR)

static struct sim_pki *pki;
static struct sim_machine *machine;
static uint8_t quote_bytes[QUOTE_LEN_MAX];
static struct quote quote;
static int64_t clock_s; /* of the collaterals under test */

/* The objects of one test. */
static struct world {
    char dir[64], cache[96], bundle[96];
    struct store *store;
    struct fake_pcs *pcs;
    struct pcs_options pcs_options;
    struct collaterals_options options;
    struct collaterals *collaterals;
    struct sim_tcb tcb;
    struct collateral_set set;
} w;

static uint64_t now_ms(void)
{
    return (uint64_t)clock_s * 1000;
}

static int set_up(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    pki = sim_pki_new();
    machine = sim_machine_new(pki, &sim_platform_default);
    size_t len = sim_quote(machine, &sim_td_default, &sim_quoting_default, quote_bytes);
    return quote_parse(quote_bytes, len, &quote, &err) && pcs_init(&err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    sim_machine_free(machine);
    sim_pki_free(pki);
    pcs_done();
    return 0;
}

static void publish(void)
{
    fake_pcs_serve(w.pcs, NULL);
    collateral_set_free(&w.set);
    sim_collateral(pki, &w.tcb, &w.set);
    fake_pcs_serve(w.pcs, &w.set);
}

static int start(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    w = (struct world){ .dir = "/tmp/tdvol-collaterals-XXXXXX", .tcb = sim_tcb_default() };
    clock_s = time(NULL);
    assert_non_null(mkdtemp(w.dir));
    (void)snprintf(w.cache, sizeof(w.cache), "%s/cache", w.dir);
    (void)snprintf(w.bundle, sizeof(w.bundle), "%s/bundle.json", w.dir);
    assert_ok(store_memory_open(&w.store, &err));
    w.pcs = fake_pcs_start();
    w.pcs_options = (struct pcs_options){ .url = w.pcs->url, .timeout_ms = 1000 };
    w.options = (struct collaterals_options){
        .store = w.store, .root = sim_pki_root(pki), .cache_dir = w.cache, .now_ms = now_ms
    };
    publish();
    return 0;
}

/* Removes the folder and its files. It must not hold folders. */
static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *file = NULL;

    while (dir && (file = readdir(dir)) != NULL) {
        char below[512];

        (void)snprintf(below, sizeof(below), "%s/%s", path, file->d_name);
        (void)unlink(below);
    }
    if (dir)
        closedir(dir);
    (void)rmdir(path);
}

static int stop(void **state UNUSED)
{
    collaterals_free(w.collaterals);
    fake_pcs_stop(w.pcs);
    collateral_set_free(&w.set);
    store_close(&w.store);
    remove_folder(w.cache);
    remove_folder(w.dir);
    return 0;
}

static void write_bundle(void)
{
    const struct collateral_set *const sets[] = { &w.set };
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;

    assert_ok(collateral_bundle_print(sets, 1, &text, &err));
    assert_ok(file_write(w.bundle, 0600, text, strlen(text), &err));
}

static void open_anew(void)
{
    struct error err = ERROR_INIT;

    collaterals_free(w.collaterals);
    w.collaterals = NULL;
    assert_ok(collaterals_new(&w.options, &w.collaterals, &err));
}

static void use_bundle(void)
{
    w.options.bundle = w.bundle;
    write_bundle();
    open_anew();
}

static void use_pcs(void)
{
    w.options.pcs = &w.pcs_options;
    open_anew();
}

static void remember_entry(void *cookie, const struct collaterals_entry *entry)
{
    struct collaterals_entry *out = cookie;

    assert_memory_equal(entry->fmspc, sim_platform_default.fmspc, FMSPC_LEN);
    *out = *entry;
}

/* The only entry; all zero when there is none. */
static struct collaterals_entry entry(void)
{
    struct collaterals_entry out = { .issued = 0 };

    collaterals_visit(w.collaterals, remember_entry, &out);
    return out;
}

static bool get(struct error *err)
{
    const struct collateral *got = NULL;

    if (!collaterals_get(w.collaterals, &quote, &got, err))
        return false;
    assert_memory_equal(got->tcb.fmspc, sim_platform_default.fmspc, FMSPC_LEN);
    collaterals_put(w.collaterals, got);
    return true;
}

/* --- from files --- */

static void a_bundle_is_enough(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_bundle();
    assert_ok(get(&err));
    assert_int_equal(entry().evaluation_number, 18);
    assert_int_equal(entry().issued, w.tcb.issued);
    assert_int_equal(entry().next_update, w.tcb.next_update);
    assert_int_equal(atomic_load(&w.pcs->requests), 0);
}

static void what_is_lent_can_be_passed_on_as_a_bundle(void **state UNUSED)
{
    const struct collateral *got = NULL;
    struct error err = ERROR_INIT;

    use_bundle();
    assert_ok(collaterals_get(w.collaterals, &quote, &got, &err));
    assert_non_null(strstr(collaterals_bundle(got), "pck_crl_issuer_chain"));
    collaterals_put(w.collaterals, got);
}

static void without_any_source_an_operator_must_act(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    open_anew();
    assert_refused(ERROR_FAILED_PRECONDITION, get(&err));
    assert_string_equal(err.reason, "CollateralMissing");
    assert_contains(err.text, "tdvolctl collateral fetch");
    assert_int_equal(entry().issued, 0);
}

static void a_bad_bundle_fails_the_start_and_changes_nothing_on_reload(void **state UNUSED)
{
    struct collaterals *none = NULL;
    struct error err = ERROR_INIT;

    use_bundle();
    assert_ok(file_write(w.bundle, 0600, "{", 1, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, collaterals_reload(w.collaterals, &err));
    assert_ok(get(&err));
    assert_refused(ERROR_INVALID_ARGUMENT, collaterals_new(&w.options, &none, &err));
    assert_null(none);
    w.options.bundle = "/nonexistent";
    assert_refused(ERROR_NOT_FOUND, collaterals_new(&w.options, &none, &err));
    w.options.bundle = NULL;
    w.options.folder = w.dir;
    assert_refused(ERROR_NOT_FOUND, collaterals_new(&w.options, &none, &err));
    assert_contains(err.text, "no collateral");
}

static void of_another_root_nothing_is_kept(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    w.options.root = &trust_root_intel;
    use_bundle();
    assert_refused(ERROR_FAILED_PRECONDITION, get(&err));
}

static void a_reload_takes_what_is_newer(void **state UNUSED)
{
    const struct collateral *old = NULL;
    struct error err = ERROR_INIT;

    use_bundle();
    assert_ok(collaterals_get(w.collaterals, &quote, &old, &err));
    w.tcb.tcb_evaluation_number = w.tcb.qe_evaluation_number = 19;
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().evaluation_number, 19);
    assert_int_equal(old->tcb.evaluation_number, 18); /* the old set stays until it is given back */
    collaterals_put(w.collaterals, old);
}

static void of_two_with_one_number_the_later_issue_is_kept(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_bundle();
    int64_t issued = w.tcb.issued;
    w.tcb.issued -= HOUR;
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().issued, issued);
    w.tcb.issued = issued + HOUR / 2;
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().issued, issued + HOUR / 2);
}

static void what_is_not_valid_yet_does_not_drive_out_what_is(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_bundle();
    w.tcb.tcb_evaluation_number = w.tcb.qe_evaluation_number = 19;
    w.tcb.issued = clock_s + DAY;
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().evaluation_number, 18);
    /* It does not raise the mark either: the mark would refuse the good set. */
    open_anew();
    w.tcb = sim_tcb_default();
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().evaluation_number, 18);
}

/* --- no way back to older sets --- */

static void a_lower_evaluation_number_is_refused_even_after_a_restart(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_bundle();
    w.tcb.tcb_evaluation_number = w.tcb.qe_evaluation_number = 17;
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().evaluation_number, 18);
    open_anew();
    assert_refused(ERROR_FAILED_PRECONDITION, get(&err));
    w.options.root = sim_pki_root(pki);
}

static void a_lower_list_number_is_refused(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    w.tcb.crl_number = 5;
    publish();
    use_bundle();
    w.tcb.crl_number = 4;
    w.tcb.issued += 60;
    publish();
    write_bundle();
    int64_t issued = entry().issued;
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().issued, issued);
}

static void an_older_list_with_newer_documents_is_refused(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_bundle();
    w.tcb.tcb_evaluation_number = w.tcb.qe_evaluation_number = 19;
    w.tcb.crl_issued -= DAY; /* Intel's lists keep their number */
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().evaluation_number, 18);
    w.tcb = sim_tcb_default(); /* its number was not recorded either */
    publish();
    write_bundle();
    open_anew();
    assert_ok(get(&err));
}

static void documents_of_two_recoveries_are_refused(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_bundle();
    w.tcb.tcb_evaluation_number = 19;
    publish();
    write_bundle();
    assert_ok(collaterals_reload(w.collaterals, &err));
    assert_int_equal(entry().evaluation_number, 18);
}

static void a_clock_that_went_back_is_refused(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    open_anew();
    assert_ok(collaterals_check_clock(w.collaterals, &err));
    clock_s -= 300;
    assert_ok(collaterals_check_clock(w.collaterals, &err));
    clock_s -= 1;
    assert_refused(ERROR_UNAVAILABLE, collaterals_check_clock(w.collaterals, &err));
    assert_string_equal(err.reason, "ClockRolledBack");
    open_anew();
    assert_refused(ERROR_UNAVAILABLE, collaterals_check_clock(w.collaterals, &err));
    clock_s += 2;
    assert_ok(collaterals_check_clock(w.collaterals, &err));
    clock_s += DAY;
    assert_ok(collaterals_check_clock(w.collaterals, &err));
    clock_s -= DAY;
    assert_refused(ERROR_UNAVAILABLE, collaterals_check_clock(w.collaterals, &err));
}

/* --- from a service --- */

static void an_unknown_platform_is_fetched_on_demand_and_kept(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_pcs();
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 0); /* no client asked */
    assert_refused(ERROR_UNAVAILABLE, get(&err));
    assert_string_equal(err.reason, "CollateralMissing");
    collaterals_refresh(w.collaterals);
    assert_ok(get(&err));
    assert_int_equal(atomic_load(&w.pcs->requests), 4);
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 4); /* fresh */

    w.options.pcs = NULL; /* a restart without network */
    open_anew();
    assert_ok(get(&err));
    assert_int_equal(atomic_load(&w.pcs->requests), 4);
}

static void a_spoilt_cache_is_left_out(void **state UNUSED)
{
    char path[128];
    struct error err = ERROR_INIT;

    assert_ok(file_make_dirs(w.cache, 0700, &err));
    (void)snprintf(path, sizeof(path), "%s/x.json", w.cache);
    assert_ok(file_write(path, 0600, "{\"version\":1", 12, &err));
    (void)snprintf(path, sizeof(path), "%s/y.txt", w.cache);
    assert_ok(file_write(path, 0600, "z", 1, &err));
    use_bundle();
    assert_ok(get(&err));
}

static void for_a_chain_of_another_root_nothing_is_fetched(void **state UNUSED)
{
    struct sim_pki *other = sim_pki_new();
    struct sim_machine *forged = sim_machine_new(other, &sim_platform_default);
    static uint8_t bytes[QUOTE_LEN_MAX];
    const struct collateral *got = NULL;
    struct error err = ERROR_INIT;
    struct quote q;
    size_t len = sim_quote(forged, &sim_td_default, &sim_quoting_default, bytes);

    use_pcs();
    assert_ok(quote_parse(bytes, len, &q, &err));
    assert_refused(ERROR_DENIED, collaterals_get(w.collaterals, &q, &got, &err));
    assert_string_equal(err.reason, "PckRootUnknown");
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 0);
    sim_machine_free(forged);
    sim_pki_free(other);
}

/* Asks for n platforms that the service does not know. Returns how many requests it got. */
static unsigned ask_for_platforms(unsigned n)
{
    static uint8_t bytes[QUOTE_LEN_MAX];
    unsigned before = atomic_load(&w.pcs->requests);

    for (unsigned i = 0; i < n; i++) {
        struct sim_platform platform = sim_platform_default;
        const struct collateral *got = NULL;
        struct error err = ERROR_INIT;
        struct quote q;

        platform.fmspc[5] = (uint8_t)(1 + i);
        struct sim_machine *m = sim_machine_new(pki, &platform);
        size_t len = sim_quote(m, &sim_td_default, &sim_quoting_default, bytes);
        assert_ok(quote_parse(bytes, len, &q, &err));
        assert_refused(ERROR_UNAVAILABLE, collaterals_get(w.collaterals, &q, &got, &err));
        sim_machine_free(m);
    }
    collaterals_refresh(w.collaterals);
    return atomic_load(&w.pcs->requests) - before;
}

static void unknown_platforms_are_asked_for_a_few_a_minute(void **state UNUSED)
{
    use_pcs();
    fake_pcs_serve(w.pcs, NULL);
    clock_s -= clock_s % 60;
    assert_int_equal(ask_for_platforms(10), 6);
    assert_int_equal(ask_for_platforms(10), 0); /* six must wait, four are too many */
    clock_s += 60;
    assert_int_equal(ask_for_platforms(6), 6); /* the six, after their wait */
}

static void a_failure_is_told_and_waited_for(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    use_pcs();
    fake_pcs_serve(w.pcs, NULL);
    assert_refused(ERROR_UNAVAILABLE, get(&err));
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 1);
    assert_refused(ERROR_UNAVAILABLE, get(&err));
    assert_contains(err.text, "404");
    assert_contains(entry().problem, "404");
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 1); /* too early */
    clock_s += 60;
    fake_pcs_serve(w.pcs, &w.set);
    collaterals_refresh(w.collaterals);
    assert_ok(get(&err));
    assert_string_equal(entry().problem, "");
}

static void collateral_is_renewed_when_half_of_its_life_is_over(void **state UNUSED)
{
    use_bundle();
    use_pcs();
    clock_s = w.tcb.issued + 15 * DAY - 60;
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 0);
    clock_s = w.tcb.issued + 15 * DAY;
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 4);
    assert_int_equal(entry().fetched, clock_s);
    collaterals_refresh(w.collaterals); /* the service had nothing newer: ask again later */
    assert_int_equal(atomic_load(&w.pcs->requests), 4);
    clock_s += HOUR;
    w.tcb.issued = clock_s - 60;
    w.tcb.next_update = clock_s + 30 * DAY;
    w.tcb.crl_issued = w.tcb.issued;
    w.tcb.crl_next_update = w.tcb.next_update;
    publish();
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 8);
    assert_int_equal(entry().next_update, w.tcb.next_update);
}

static void a_service_that_goes_back_is_an_alarm_and_changes_nothing(void **state UNUSED)
{
    use_bundle();
    use_pcs();
    clock_s = w.tcb.issued + 20 * DAY;
    w.tcb.tcb_evaluation_number = w.tcb.qe_evaluation_number = 17;
    w.tcb.issued += DAY;
    publish();
    collaterals_refresh(w.collaterals);
    assert_int_equal(atomic_load(&w.pcs->requests), 4);
    assert_int_equal(entry().evaluation_number, 18);
    assert_contains(entry().problem, "was accepted before");
}

static void the_thread_fetches_and_ends(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    bool done = false;

    use_pcs();
    assert_ok(collaterals_start(w.collaterals, &err));
    for (int i = 0; i < 200 && !done; i++) {
        err = (struct error)ERROR_INIT;
        done = get(&err);
        if (!done)
            usleep(20000);
    }
    assert_true(done);
}

static void hang(void *cookie UNUSED, const char *path UNUSED, struct fake_answer *answer)
{
    answer->fault = FAKE_HANG;
}

static void a_fetch_that_hangs_does_not_hold_up_the_end(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    w.pcs_options.timeout_ms = 60000;
    fake_pcs_edit(w.pcs, hang, NULL);
    use_pcs();
    assert_ok(collaterals_start(w.collaterals, &err));
    assert_refused(ERROR_UNAVAILABLE, get(&err));
    for (int i = 0; i < 200 && atomic_load(&w.pcs->requests) == 0; i++)
        usleep(20000);
    time_t before = time(NULL);
    collaterals_free(w.collaterals);
    w.collaterals = NULL;
    assert_true(time(NULL) - before < 5);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_bundle_is_enough),
        CASE(what_is_lent_can_be_passed_on_as_a_bundle),
        CASE(without_any_source_an_operator_must_act),
        CASE(a_bad_bundle_fails_the_start_and_changes_nothing_on_reload),
        CASE(of_another_root_nothing_is_kept),
        CASE(a_reload_takes_what_is_newer),
        CASE(of_two_with_one_number_the_later_issue_is_kept),
        CASE(what_is_not_valid_yet_does_not_drive_out_what_is),
        CASE(a_lower_evaluation_number_is_refused_even_after_a_restart),
        CASE(a_lower_list_number_is_refused),
        CASE(an_older_list_with_newer_documents_is_refused),
        CASE(documents_of_two_recoveries_are_refused),
        CASE(a_clock_that_went_back_is_refused),
        CASE(an_unknown_platform_is_fetched_on_demand_and_kept),
        CASE(a_spoilt_cache_is_left_out),
        CASE(for_a_chain_of_another_root_nothing_is_fetched),
        CASE(unknown_platforms_are_asked_for_a_few_a_minute),
        CASE(a_failure_is_told_and_waited_for),
        CASE(collateral_is_renewed_when_half_of_its_life_is_over),
        CASE(a_service_that_goes_back_is_an_alarm_and_changes_nothing),
        CASE(the_thread_fetches_and_ends),
        CASE(a_fetch_that_hangs_does_not_hold_up_the_end),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
