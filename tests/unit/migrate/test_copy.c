/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "migrate/copy.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECES 40u /* more than two chunks */
#define BYTES  (PIECES * COPY_PIECE_BYTES + 512)
#define PADDED (PIECES * COPY_PIECE_BYTES + 4096)

/* Two "devices" in memory; the target is full of noise where the source is zero, and the other way. */
struct pair {
    int source, target;
    uint8_t *bytes, *found;
    atomic_bool stop;
    int begun;
    bool begin_fails;
    uint64_t progress;
};

static void fill(uint8_t *bytes, uint8_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = value;
}

static int make_file(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("device", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_ok(fd_pwrite_all(fd, bytes, len, 0, &err));
    return fd;
}

static int set_up(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    p->bytes = calloc(1, PADDED);
    p->found = calloc(1, PADDED);
    assert_non_null(p->bytes);
    assert_non_null(p->found);
    for (size_t i = 0; i < BYTES; i++)
        p->bytes[i] = (uint8_t)(i / COPY_PIECE_BYTES % 3 == 0 ? i * 7 : 0);
    p->source = make_file(p->bytes, BYTES);
    p->target = make_file(p->found, PADDED);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *p = *state;

    close_at(&p->source);
    close_at(&p->target);
    free(p->bytes);
    free(p->found);
    free(p);
    return 0;
}

static bool begin(void *cookie, struct error *err)
{
    struct pair *p = cookie;

    p->begun++;
    return !p->begin_fails || error_set(err, ERROR_INTERNAL, "no marker");
}

static void count(void *cookie, uint64_t bytes)
{
    ((struct pair *)cookie)->progress += bytes;
}

static struct copy_range range_of(struct pair *p)
{
    return (struct copy_range){ .source_fd = p->source,
                                .target_fd = p->target,
                                .end = BYTES,
                                .stop = &p->stop,
                                .begin = begin,
                                .progress = count,
                                .cookie = p };
}

static void check_equal(struct pair *p)
{
    struct error err = ERROR_INIT;

    assert_ok(fd_pread_all(p->target, p->found, PADDED, 0, &err));
    assert_memory_equal(p->found, p->bytes, PADDED);
}

static void only_pieces_that_differ_are_written(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    assert_ok(copy_range_run(&range, &written, &err));
    check_equal(p);
    assert_int_equal(written, 14 * COPY_PIECE_BYTES); /* each third of 40; the end is zeros */
    assert_int_equal(p->progress, PADDED);
    assert_int_equal(p->begun, 1);
    assert_ok(copy_range_run(&range, &written, &err));
    assert_int_equal(written, 0);
    assert_int_equal(p->begun, 1);
}

static void fresh_target_gets_what_is_not_zero_and_keeps_zeros(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    range.is_fresh = true;
    assert_ok(copy_range_run(&range, &written, &err));
    check_equal(p);
    assert_int_equal(written, 14 * COPY_PIECE_BYTES);
}

static void noise_where_the_source_is_zero_is_replaced(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    fill(p->found, 0x77, PADDED);
    assert_ok(fd_pwrite_all(p->target, p->found, PADDED, 0, &err));
    range.is_fresh = true;
    assert_ok(copy_range_run(&range, &written, &err));
    check_equal(p);
    assert_int_equal(written, PADDED);
}

static void chunk_without_zeros_is_written_unseen(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    fill(p->bytes, 0x55, BYTES);
    assert_ok(fd_pwrite_all(p->source, p->bytes, BYTES, 0, &err));
    range.is_fresh = true;
    for (int i = 0; i < 2; i++) {
        assert_ok(copy_range_run(&range, &written, &err));
        assert_int_equal(written, PADDED); /* the second time, too */
    }
    check_equal(p);
}

static void last_sectors_are_filled_up_with_zeros(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    fill(p->bytes + BYTES - 512, 0x5a, 512);
    assert_ok(fd_pwrite_all(p->source, p->bytes + BYTES - 512, 512, BYTES - 512, &err));
    fill(p->found, 0xff, PADDED);
    assert_ok(fd_pwrite_all(p->target, p->found, PADDED, 0, &err));
    assert_ok(copy_range_run(&range, &written, &err));
    assert_int_equal(written, PADDED);
    check_equal(p);
}

static void what_lies_before_the_range_stays(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    range.from = COPY_PIECE_BYTES;
    assert_ok(copy_range_run(&range, &written, &err));
    bytes_wipe(p->bytes, COPY_PIECE_BYTES);
    check_equal(p);
}

static void comparing_writes_nothing_and_names_the_place(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    assert_ok(copy_range_run(&range, &written, &err));
    range.compare_only = true;
    assert_ok(copy_range_run(&range, &written, &err));
    assert_ok(fd_pwrite_all(p->target, "x", 1, 20 * COPY_PIECE_BYTES + 5, &err));
    assert_refused(ERROR_DATA_LOSS, copy_range_run(&range, &written, &err));
    assert_string_equal(err.reason, "CopyDiffers");
    assert_contains(err.text, "offset 5242880");
    assert_int_equal(written, 0);
}

static void nothing_is_written_when_it_cannot_begin(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    p->begin_fails = true;
    assert_refused(ERROR_INTERNAL, copy_range_run(&range, &written, &err));
    assert_int_equal(written, 0);
    bytes_wipe(p->bytes, PADDED);
    check_equal(p);
}

static void stopping_ends_it(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    atomic_store(&p->stop, true);
    assert_refused(ERROR_CANCELLED, copy_range_run(&range, &written, &err));
    assert_int_equal(written, 0);
}

static void source_that_ends_early_is_an_error_after_what_could_be_read(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    assert_int_equal(ftruncate(p->source, 33 * COPY_PIECE_BYTES), 0);
    assert_refused(ERROR_INTERNAL, copy_range_run(&range, &written, &err));
    assert_contains(err.text, "the old volume: read at offset 8650752");
    assert_int_equal(written, 11 * COPY_PIECE_BYTES); /* the first two chunks */
}

static void target_that_cannot_be_written_is_an_error(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    uint64_t written = 0;

    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", p->target);
    range.target_fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(range.target_fd >= 0);
    assert_false(copy_range_run(&range, &written, &err));
    assert_contains(err.text, "write at offset 0");
    close_at(&range.target_fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void first_byte_that_is_not_zero_makes_a_range_not_blank(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    bool is_blank = false;
    const uint8_t one = 1;

    assert_ok(copy_range_find_blank(&range, &is_blank, &err));
    assert_true(is_blank);
    assert_int_equal(p->progress, PADDED);
    assert_ok(fd_pwrite_all(p->target, &one, 1, PADDED - 1, &err));
    assert_ok(copy_range_find_blank(&range, &is_blank, &err));
    assert_false(is_blank);
    assert_ok(fd_pwrite_all(p->target, &one, 1, 4095, &err));
    range.from = 4096;
    range.end = PADDED - 4096;
    assert_ok(copy_range_find_blank(&range, &is_blank, &err));
    assert_true(is_blank);
    range.end = range.from;
    assert_ok(copy_range_find_blank(&range, &is_blank, &err));
    assert_true(is_blank);
    assert_int_equal(p->begun, 0);
}

static void search_for_content_can_be_stopped_and_can_fail(void **state)
{
    struct pair *p = *state;
    struct error err = ERROR_INIT;
    struct copy_range range = range_of(p);
    bool is_blank = true;

    range.end = PADDED + 4096;
    assert_refused(ERROR_INTERNAL, copy_range_find_blank(&range, &is_blank, &err));
    assert_contains(err.text, "the new volume");
    atomic_store(&p->stop, true);
    assert_refused(ERROR_CANCELLED, copy_range_find_blank(&range, &is_blank, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(only_pieces_that_differ_are_written),
        T(fresh_target_gets_what_is_not_zero_and_keeps_zeros),
        T(noise_where_the_source_is_zero_is_replaced),
        T(chunk_without_zeros_is_written_unseen),
        T(last_sectors_are_filled_up_with_zeros),
        T(what_lies_before_the_range_stays),
        T(comparing_writes_nothing_and_names_the_place),
        T(nothing_is_written_when_it_cannot_begin),
        T(stopping_ends_it),
        T(source_that_ends_early_is_an_error_after_what_could_be_read),
        T(target_that_cannot_be_written_is_an_error),
        T(first_byte_that_is_not_zero_makes_a_range_not_blank),
        T(search_for_content_can_be_stopped_and_can_fail),
    };

    return RUN_TESTS(tests);
}
