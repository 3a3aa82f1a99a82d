/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/option.h"
#include "base/secret.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* "Name:   value kB" of a file in /proc. */
static uint64_t proc_value(const char *path, const char *name)
{
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;
    uint64_t value = 0;
    size_t len = 0;

    assert_ok(file_read(path, 65536, &text, &len, &err));
    char *digits = strstr(text, name);
    assert_non_null(digits);
    digits += strcspn(digits, "0123456789");
    digits[strspn(digits, "0123456789")] = '\0';
    assert_true(parse_u64(digits, &value));
    return value;
}

static uint64_t locked_kib(void)
{
    return proc_value("/proc/self/status", "VmLck:");
}

/* Runs check in a forked child. True when check returned true. */
static bool in_child(bool (*check)(const struct secret *), const struct secret *s)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0)
        _exit(check(s) ? 0 : 1);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_all(const struct secret *s, uint8_t value)
{
    for (size_t i = 0; i < s->len; i++) {
        if (s->bytes[i] != value)
            return false;
    }
    return true;
}

static void fill(struct secret *s)
{
    for (size_t i = 0; i < s->len; i++)
        s->bytes[i] = 0x5A;
}

static void new_secret_is_zero_and_locked(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;
    uint64_t before = locked_kib();

    (void)state;
    assert_ok(secret_alloc(&s, 4097, &err));
    assert_int_equal(s.len, 4097);
    assert_int_equal(s.mapped, 8192);
    assert_true(is_all(&s, 0));
    if (HAS_SANITIZER)
        skip_because("the sanitizer's mlock() does nothing");
    assert_int_equal(locked_kib() - before, 8);
    secret_wipe(&s);
    assert_int_equal(locked_kib(), before);
}

/* "VmFlags:" of the mapping at address: lo locked, dd not dumped, wf wiped on fork. */
static void read_flags(const void *address, char out[256])
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[256], start[32];
    bool is_inside = false;

    (void)snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)address);
    assert_non_null(file);
    out[0] = '\0';
    while (out[0] == '\0' && fgets(line, sizeof(line), file)) {
        if (strncmp(line, start, strlen(start)) == 0)
            is_inside = true;
        else if (is_inside && strncmp(line, "VmFlags:", 8) == 0)
            (void)snprintf(out, 256, "%s", line);
    }
    (void)fclose(file);
}

static void pages_carry_the_flags_that_protect_them(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    auto_secret struct secret inherited = SECRET_INIT;
    struct error err = ERROR_INIT;
    char flags[256];

    (void)state;
    assert_ok(secret_alloc(&s, 1, &err));
    read_flags(s.bytes, flags);
    if (flags[0] == '\0')
        skip_because("no mapping of its own in smaps");
    assert_contains(flags, " dd");
    assert_contains(flags, " wf");
    if (!HAS_SANITIZER)
        assert_contains(flags, " lo");

    assert_ok(secret_alloc_inherited(&inherited, 1, &err));
    read_flags(inherited.bytes, flags);
    assert_contains(flags, " dd");
    assert_null(strstr(flags, " wf"));
}

static bool is_zero_here(const struct secret *s)
{
    return is_all(s, 0);
}

static bool is_filled_here(const struct secret *s)
{
    return is_all(s, 0x5A);
}

static void forked_child_sees_zeros(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_alloc(&s, 32, &err));
    fill(&s);
    assert_true(in_child(is_zero_here, &s));
    assert_true(is_all(&s, 0x5A));
}

static void forked_child_keeps_an_inherited_secret(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_alloc_inherited(&s, 32, &err));
    fill(&s);
    assert_true(in_child(is_filled_here, &s));
}

static void length_out_of_bounds_is_refused(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, secret_alloc(&s, 0, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, secret_alloc(&s, SECRET_LEN_MAX + 1, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, secret_random(&s, 0, &err));
    assert_null(s.bytes);
}

static bool fails_without_lockable_memory(const struct secret *unused)
{
    const struct rlimit none = { 0, 0 };
    struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)unused;
    /* root may lock beyond the limit */
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || setresuid(65534, 65534, 65534) != 0)
        return false;
    return !secret_alloc(&s, 32, &err) && err.code == ERROR_RESOURCE_EXHAUSTED &&
           strstr(err.text, "RLIMIT_MEMLOCK") && !s.bytes &&
           !secret_alloc_inherited(&s, 32, &err) && !secret_random(&s, 32, &err) && !s.bytes;
}

static void pages_that_cannot_be_locked_are_an_error(void **state)
{
    (void)state;
    if (HAS_SANITIZER || geteuid() != 0)
        skip_because("needs a real mlock() and root");
    assert_true(in_child(fails_without_lockable_memory, NULL));
}

static void wiping_unmaps_and_may_be_repeated(void **state)
{
    struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    secret_wipe(&s);
    assert_ok(secret_alloc(&s, 32, &err));
    secret_wipe(&s);
    assert_null(s.bytes);
    assert_int_equal(s.len, 0);
    assert_int_equal(s.mapped, 0);
    secret_wipe(&s);
}

static void random_secrets_differ(void **state)
{
    auto_secret struct secret a = SECRET_INIT;
    auto_secret struct secret b = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&a, 1000, &err));
    assert_ok(secret_random(&b, 1000, &err));
    assert_int_equal(a.len, 1000);
    assert_false(secret_is_equal(&a, &b));
    assert_true(secret_is_equal(&a, &a));
}

static void equality_sees_every_byte(void **state)
{
    auto_secret struct secret a = SECRET_INIT;
    auto_secret struct secret b = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_alloc(&a, 32, &err));
    assert_ok(secret_alloc(&b, 32, &err));
    assert_true(secret_is_equal(&a, &b));
    for (size_t i = 0; i < b.len; i++) {
        b.bytes[i] = 1;
        assert_false(bytes_are_equal(a.bytes, b.bytes, b.len));
        b.bytes[i] = 0;
    }
    assert_true(bytes_are_equal(NULL, NULL, 0));
    assert_true(bytes_are_equal("same", "same", 4));
    assert_false(bytes_are_equal("same", "samf", 4));
}

static void taking_leaves_the_giver_empty(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_alloc(&s, 32, &err));
    uint8_t *bytes = s.bytes;
    auto_secret struct secret taken = secret_take(&s);
    assert_null(s.bytes);
    assert_ptr_equal(taken.bytes, bytes);
}

static void wiped_bytes_are_zero(void **state)
{
    uint8_t bytes[4] = { 1, 2, 3, 4 };
    const uint8_t wanted[4] = { 1, 0, 0, 4 };

    (void)state;
    bytes_wipe(bytes + 1, 2);
    assert_memory_equal(bytes, wanted, 4);
    bytes_wipe(NULL, 0);
}

static bool is_hardened(const struct secret *unused)
{
    struct error err = ERROR_INIT;
    struct rlimit core, memory;

    (void)unused;
    if (!secret_harden_process(&err) || getrlimit(RLIMIT_CORE, &core) != 0 ||
        getrlimit(RLIMIT_MEMLOCK, &memory) != 0)
        return false;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && core.rlim_cur == 0 && core.rlim_max == 0 &&
           memory.rlim_cur == memory.rlim_max && umask(0) == 077 &&
           signal(SIGPIPE, SIG_DFL) == SIG_IGN;
}

static void hardened_process_gives_nothing_away(void **state)
{
    (void)state;
    assert_true(in_child(is_hardened, NULL));
}

static bool lifts_the_limit(const struct secret *unused)
{
    const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

    (void)unused;
    return setrlimit(RLIMIT_MEMLOCK, &all) == 0;
}

static bool locks_all(const struct secret *unused)
{
    struct error err = ERROR_INIT;

    return lifts_the_limit(unused) && secret_harden_process(&err) && locked_kib() > 100;
}

/* With MCL_FUTURE, a mapping beyond the limit would fail: threads could not start. The limit is
 * larger than the program, because otherwise mlockall() would fail anyway. */
static bool maps_on_under_a_limit(const struct secret *unused)
{
    const struct rlimit limit = { 64u << 20, 64u << 20 };
    struct error err = ERROR_INIT;

    (void)unused;
    (void)setrlimit(RLIMIT_MEMLOCK, &limit);
    if (setresuid(65534, 65534, 65534) != 0)
        return false;
    char *bytes = secret_harden_process(&err) ? malloc((size_t)128 << 20) : NULL;
    bool has_bytes = bytes;
    free(bytes);
    return has_bytes && locked_kib() == 0;
}

static void all_memory_is_locked_without_limit(void **state)
{
    (void)state;
    if (HAS_SANITIZER || !in_child(lifts_the_limit, NULL))
        skip_because("RLIMIT_MEMLOCK cannot be lifted (CAP_SYS_RESOURCE)");
    assert_true(in_child(locks_all, NULL));
}

static void memory_can_grow_under_a_limit(void **state)
{
    (void)state;
    if (HAS_SANITIZER || geteuid() != 0)
        skip_because("needs a real mlock() and root");
    assert_true(in_child(maps_on_under_a_limit, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_secret_is_zero_and_locked),
        cmocka_unit_test(pages_carry_the_flags_that_protect_them),
        cmocka_unit_test(forked_child_sees_zeros),
        cmocka_unit_test(forked_child_keeps_an_inherited_secret),
        cmocka_unit_test(length_out_of_bounds_is_refused),
        cmocka_unit_test(pages_that_cannot_be_locked_are_an_error),
        cmocka_unit_test(wiping_unmaps_and_may_be_repeated),
        cmocka_unit_test(random_secrets_differ),
        cmocka_unit_test(equality_sees_every_byte),
        cmocka_unit_test(taking_leaves_the_giver_empty),
        cmocka_unit_test(wiped_bytes_are_zero),
        cmocka_unit_test(hardened_process_gives_nothing_away),
        cmocka_unit_test(all_memory_is_locked_without_limit),
        cmocka_unit_test(memory_can_grow_under_a_limit),
    };

    return RUN_TESTS(tests);
}
