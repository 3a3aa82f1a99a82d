/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/option.h"
#include "tests/unit/broker/store_place.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * store N SPEC [CA CERTIFICATE KEY]: fills the store up to N records and prints, in milliseconds, the
 * medians of a page of a list, of what an OpenVolume needs, and of a change.
 */
enum { THREADS = 16, ROUNDS = 201, PAGE = 100 };

static struct store *store;
static unsigned n_records;
static bool has_all; /* from an earlier run */

static void must(bool ok, const struct error *err)
{
    if (!ok) {
        (void)fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static struct record record_at(unsigned i)
{
    char name[16];
    struct record r;

    (void)snprintf(name, sizeof(name), "v%07u", i);
    r = store_place_record("t", "d", name);
    (void)snprintf((char *)r.key.id, sizeof(r.key.id), "k%07u", i);
    return r;
}

static void *fill(void *cookie)
{
    for (unsigned i = (unsigned)(uintptr_t)cookie; i < n_records; i += THREADS) {
        struct record r = record_at(i), there;
        const struct store_name name = { r.tenant, r.driver, r.volume_id };
        struct error err = ERROR_INIT;

        if (has_all || store->ops->get(store, &name, &there, &err))
            continue;
        must(store_place_swap(store, &r, true, &err), &err);
    }
    return NULL;
}

static bool take(void *cookie, const struct record *r)
{
    unsigned *left = cookie;

    return r->version > 0 && --*left > 0;
}

static void list_once(unsigned i)
{
    const struct record from = record_at(i);
    const struct store_filter filter = { .tenant = "t",
                                         .driver = "d",
                                         .location = "",
                                         .source_volume_id = "",
                                         .after = from.id,
                                         .wanted = PAGE };
    unsigned left = PAGE;
    struct error err = ERROR_INIT;

    must(store->ops->list(store, &filter, take, &left, &err), &err);
}

static uint64_t seq;

/* Without a lease: the record, its key, and the line in the audit log. */
static void open_once(unsigned i)
{
    const struct record wanted = record_at(i);
    const struct store_name name = { "t", "d", wanted.volume_id };
    const struct store_head head = { .seq = seq + 1, .len = 1 };
    struct store_key key;
    struct record r;
    struct error err = ERROR_INIT;

    seq++;
    must(store->ops->get(store, &name, &r, &err) &&
             store->ops->get_key(store, &r.key, &key, &err) &&
             store->ops->put_head(store, &head, &err),
         &err);
}

static void change_once(unsigned i)
{
    const struct record wanted = record_at(i);
    const struct store_name name = { "t", "d", wanted.volume_id };
    const struct store_head head = { .seq = seq + 1, .len = 1 };
    struct record r;
    struct error err = ERROR_INIT;

    seq++;
    must(store->ops->get(store, &name, &r, &err), &err);
    r.version++;
    const struct store_change change = { .next = &r,
                                         .expected_version = r.version - 1,
                                         .head = &head };

    must(store->ops->swap(store, &change, &err), &err);
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static double now_ms(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static void measure(const char *name, void (*once)(unsigned i))
{
    double took[ROUNDS];

    for (unsigned i = 0; i < ROUNDS; i++) /* a broker runs for months: its cache is warm */
        once(i * 7919 % (n_records - PAGE));
    for (unsigned i = 0; i < ROUNDS; i++) {
        double began = now_ms();

        once(i * 7919 % (n_records - PAGE));
        took[i] = now_ms() - began;
    }
    qsort(took, ROUNDS, sizeof(took[0]), compare);
    printf("%s %.4f\n", name, took[ROUNDS / 2]);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    struct error err = ERROR_INIT;
    struct store_options options = { .spec = argc > 2 ? argv[2] : "" };

    uint64_t n = 0;

    if ((argc != 3 && argc != 6) || !parse_u64(argv[1], &n) || n <= PAGE || n > 10000000)
        return 2;
    n_records = (unsigned)n;
    if (argc == 6) {
        options.ca = argv[3];
        options.certificate = argv[4];
        options.key = argv[5];
        options.replica = "bench";
    }
    must(store_open(&options, &store, &err), &err);
    double began = now_ms();
    (void)store_place_unlock(store, 1);
    printf("unlock_before %.1f\n", now_ms() - began);
    struct record last = record_at(n_records - 1), there;
    const struct store_name name = { last.tenant, last.driver, last.volume_id };

    has_all = store->ops->get(store, &name, &there, &err);
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, fill, (void *)(uintptr_t)i) != 0)
            return 1;
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    measure("list", list_once);
    measure("open", open_once);
    measure("change", change_once);
    store_close(&store);
    return 0;
}
