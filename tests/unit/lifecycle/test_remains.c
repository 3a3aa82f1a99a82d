/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/remains.h"
#include "tests/unit/test.h"

/* What is said of a destroyed secret, place by place. */

static struct remains rows[REMAINS_ROWS];

static void find(const struct record_destroyed *of, const struct remains_facts *facts)
{
    remains_find(of, facts, rows);
    for (size_t i = 0; i < REMAINS_ROWS; i++) {
        assert_int_equal(rows[i].place, i + 1);
        assert_in_range(rows[i].state, REMAINS_NONE, REMAINS_UNKNOWN);
        assert_in_range(strlen(rows[i].text), 20, REMAINS_TEXT_MAX - 1); /* and so none is cut */
    }
}

static void assert_row(enum remains_place place, enum remains_state state, const char *part)
{
    const struct remains *row = &rows[place - 1];

    if (row->state != state)
        fail_msg("%d: %s", (int)row->state, row->text);
    assert_contains(row->text, part);
}

static void sqlite_keeps_nothing_when_its_log_is_empty(void **state UNUSED)
{
    const struct record_destroyed of = { .destroyed_ms = 9, .wrapping = 1 };
    struct remains_facts facts = { .store = "sqlite", .wrapping = 1, .is_erased = true };

    find(&of, &facts);
    assert_row(REMAINS_STORE, REMAINS_NONE, "write-ahead log is empty");
    assert_row(REMAINS_FILES, REMAINS_UNKNOWN, "flash");
    facts.key.in_past = true;
    find(&of, &facts);
    assert_row(REMAINS_STORE, REMAINS_POSSIBLE, "until it is emptied");
}

static void etcd_names_the_revision_that_ends_it(void **state UNUSED)
{
    const struct record_destroyed of = { .destroyed_ms = 9, .wrapping = 1 };
    struct remains_facts facts = { .store = "etcd",
                                   .key = { .in_past = true, .revision = 4711 },
                                   .wrapping = 1 };

    find(&of, &facts);
    assert_row(REMAINS_STORE, REMAINS_POSSIBLE, "compacted beyond revision 4711");
    assert_row(REMAINS_FILES, REMAINS_UNKNOWN, "defragmented");
    facts.key.in_past = false;
    find(&of, &facts);
    assert_row(REMAINS_STORE, REMAINS_NONE, "is compacted beyond revision 4711");
    facts.key = (struct store_remains){ .in_past = true };
    find(&of, &facts);
    assert_row(REMAINS_STORE, REMAINS_UNKNOWN, "if that was not compacted since");
}

static void a_shared_secret_is_not_destroyed(void **state UNUSED)
{
    const struct record_destroyed of = { .is_shared = true };
    const struct remains_facts facts = { .store = "sqlite", .key = { .users = 2 } };

    find(&of, &facts);
    assert_row(REMAINS_STORE, REMAINS_POSSIBLE, "2 other volumes or snapshots");
    assert_row(REMAINS_FILES, REMAINS_POSSIBLE, "as long as the secret is in use");
}

static void what_opens_the_rest_depends_on_the_wrapping(void **state UNUSED)
{
    const struct record_destroyed of = { .wrapping = 3 };
    struct remains_facts facts = { .store = "sqlite", .wrapping = 3 };

    find(&of, &facts);
    assert_row(REMAINS_FILES, REMAINS_UNKNOWN, "until tdvolctl broker rotate-wrapping");
    facts.wrapping = 4;
    facts.has_former = true; /* secrets are being wrapped anew */
    find(&of, &facts);
    assert_row(REMAINS_FILES, REMAINS_UNKNOWN, "until tdvolctl broker rotate-wrapping");
    facts.has_former = false;
    find(&of, &facts);
    assert_row(REMAINS_FILES, REMAINS_UNKNOWN, "destroyed since, too");
    facts.wrapping = 5;
    facts.has_former = true;
    find(&of, &facts);
    assert_row(REMAINS_FILES, REMAINS_UNKNOWN, "destroyed since, too");
}

static void backups_count_when_the_secret_was_there(void **state UNUSED)
{
    struct record_destroyed of = { .made_ms = 2000, .destroyed_ms = 9000 };
    const struct remains_facts facts = { .store = "sqlite" };

    find(&of, &facts);
    assert_row(REMAINS_BACKUPS, REMAINS_NONE, "no backup was made before");
    of.backup_ms = 1999;
    find(&of, &facts);
    assert_row(REMAINS_BACKUPS, REMAINS_NONE, "1970-01-01T00:00:01.999Z, is older");
    of.backup_ms = 2000; /* in the same millisecond: nobody knows which came first */
    find(&of, &facts);
    assert_row(REMAINS_BACKUPS, REMAINS_POSSIBLE, "since 1970-01-01T00:00:02.000Z");
    assert_row(REMAINS_BACKUPS, REMAINS_POSSIBLE, "master key of its time");
    of.made_ms = 0;
    find(&of, &facts);
    assert_row(REMAINS_BACKUPS, REMAINS_POSSIBLE, "since its lineage began");
}

static void recovery_tokens_are_told(void **state UNUSED)
{
    struct record_destroyed of = { .made_ms = 1 };
    const struct remains_facts facts = { .store = "sqlite" };

    find(&of, &facts);
    assert_row(REMAINS_RECOVERY, REMAINS_NONE, "no recovery token");
    of.has_recovery = true;
    find(&of, &facts);
    assert_row(REMAINS_RECOVERY, REMAINS_POSSIBLE, "until the last copy is gone");
}

static void a_rotated_volume_is_not_called_noise(void **state UNUSED)
{
    const struct record_destroyed of = { .made_ms = 1 };
    struct remains_facts facts = { .store = "sqlite" };

    find(&of, &facts);
    assert_row(REMAINS_COPIES, REMAINS_UNKNOWN, "which a new secret does not change");
    assert_row(REMAINS_NODES, REMAINS_UNKNOWN, "as before");
    facts.is_erased = true;
    find(&of, &facts);
    assert_row(REMAINS_COPIES, REMAINS_UNKNOWN, "encrypted: noise");
    assert_row(REMAINS_NODES, REMAINS_UNKNOWN, "read it only");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sqlite_keeps_nothing_when_its_log_is_empty),
        cmocka_unit_test(etcd_names_the_revision_that_ends_it),
        cmocka_unit_test(a_shared_secret_is_not_destroyed),
        cmocka_unit_test(what_opens_the_rest_depends_on_the_wrapping),
        cmocka_unit_test(backups_count_when_the_secret_was_there),
        cmocka_unit_test(recovery_tokens_are_told),
        cmocka_unit_test(a_rotated_volume_is_not_called_noise),
    };

    return RUN_TESTS(tests);
}
